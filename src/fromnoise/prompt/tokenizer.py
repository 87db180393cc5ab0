"""Words → token ids: CLIP's byte-pair encoding, in CLIP's own files (vocab.json, merges.txt)."""

import json
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from fromnoise.errors import BadCheckpoint, NotFound

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# one word, one digit or one run of signs at a time; the pattern of CLIP (Radford 2021,
# `simple_tokenizer.py`)
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def splitting() -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
    """How CLIP cuts text before any merge: (NFC, one space, lower case) and (words, then bytes)."""
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    return (
        normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        ),
        pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    )


class Tokenizer:
    """CLIP's tokenizer: the ids equal those of transformers' `CLIPTokenizer` on the same files.

    `max_length` counts the start and the end token. `pad_id` fills the rest (None: the end token,
    as Stable Diffusion 1 does). Raises NotFound without the files, BadCheckpoint when they are not
    CLIP's."""

    def __init__(
        self,
        vocab_path: str | Path,
        merges_path: str | Path,
        max_length: int,
        pad_id: int | None = None,
    ):
        self.files: dict[str, bytes] = {}  # kept as they were, for tokenizer_files.save
        for name, path in (("vocab.json", Path(vocab_path)), ("merges.txt", Path(merges_path))):
            if not path.is_file():
                raise NotFound(
                    f"no {name} at {path}",
                    "give the folder of a CLIP tokenizer: vocab.json and merges.txt",
                )
            self.files[name] = path.read_bytes()
        try:
            self._vocab: dict[str, int] = json.loads(self.files["vocab.json"])
            lines = self.files["merges.txt"].decode().splitlines()
            merges = [
                (a, b)
                for a, b in (
                    s.split(" ") for s in lines if s.strip() and not s.startswith("#version")
                )
            ]
            self.bos_id, self.eos_id = self._vocab[BOS], self._vocab[EOS]
            self.pad_id = self.eos_id if pad_id is None else pad_id
            pad = next(word for word, i in self._vocab.items() if i == self.pad_id)
            # the library's compiled part takes plain values that its type stubs do not name
            bpe = models.BPE(
                vocab=self._vocab,
                merges=merges,
                continuing_subword_prefix="",
                end_of_word_suffix="</w>",
                unk_token=EOS,
            )
            self._bpe = tokenizers.Tokenizer(bpe)
        except (ValueError, KeyError, StopIteration) as error:
            raise BadCheckpoint(
                f"{vocab_path} and {merges_path} are not the files of a CLIP tokenizer: {error!r}",
                f"the vocabulary must hold {BOS} and {EOS}, and each line of the merges two of its words",
            ) from error
        if max_length < 3:
            raise BadCheckpoint(
                f"max_length {max_length} leaves no room for a word", "use 3 or more (CLIP: 77)"
            )
        self.max_length = max_length
        self._bpe.normalizer, self._bpe.pre_tokenizer = splitting()
        self._bpe.add_special_tokens(
            [AddedToken(s, special=True, normalized=False) for s in {BOS, EOS, pad}]
        )

    @property
    def vocab_size(self) -> int:
        """How many ids there are; every id is below it."""
        return max(self._vocab.values()) + 1

    def encode(self, text: str) -> tuple[list[int], str]:
        """Text → (`max_length` ids: start, words, end, padding; the end of the text that did not
        fit, or "")."""
        found = self._bpe.encode(text, add_special_tokens=False)
        ids, room, dropped = found.ids, self.max_length - 2, ""
        if len(ids) > room:
            cut = room
            while (
                cut and found.offsets[cut][0] == found.offsets[cut - 1][1]
            ):  # name whole words, not halves of one
                cut -= 1
            dropped = text[found.offsets[cut][0] :].strip()
        ids = [self.bos_id, *ids[:room], self.eos_id]
        return ids + [self.pad_id] * (self.max_length - len(ids)), dropped

    def ids(self, text: str) -> list[int]:
        """The ids of the words alone, as many as there are."""
        return self._bpe.encode(text, add_special_tokens=False).ids

    def token(self, token_id: int) -> str:
        """What the files call an id: its bytes as CLIP spells them, and `</w>` where a word
        ends."""
        return self._bpe.id_to_token(token_id) or ""

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """From a folder as transformers writes it; the length and the padding are read from its
        configuration."""
        folder = Path(folder)
        config = folder / "tokenizer_config.json"
        settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        extra = folder / "special_tokens_map.json"
        settings = (
            json.loads(extra.read_text(encoding="utf-8")) if extra.is_file() else {}
        ) | settings
        self = cls(
            folder / "vocab.json",
            folder / "merges.txt",
            min(settings.get("model_max_length", 77), 77),
        )
        pad = settings.get("pad_token") or EOS
        pad = pad["content"] if isinstance(pad, dict) else pad
        if pad not in self._vocab:
            raise BadCheckpoint(
                f"the padding token {pad!r} is not in {folder / 'vocab.json'}", "correct pad_token"
            )
        if self._vocab[pad] != self.pad_id:
            self = cls(
                folder / "vocab.json", folder / "merges.txt", self.max_length, self._vocab[pad]
            )
        return self
