"""Words → token ids: CLIP's byte-pair encoding, in CLIP's own files (vocab.json, merges.txt)."""

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from fromnoise.errors import BadInput

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# one word, one digit or one run of signs at a time; of CLIP's `simple_tokenizer.py` (Radford 2021)
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def build_splitters() -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
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

    vocabulary: word → id, with BOS and EOS. merges: the pairs of words that become one, in order.
    `max_length` counts the start and the end token. `pad_id` fills the rest (None: the end token).
    files: name → content of vocab.json and merges.txt, kept for saving. Raises BadInput."""

    def __init__(
        self,
        vocabulary: dict[str, int],
        merges: list[tuple[str, str]],
        max_length: int,
        pad_id: int | None = None,
        files: dict[str, bytes] | None = None,
    ):
        if max_length < 3:
            raise BadInput(
                f"max_length {max_length} leaves no room for a word", "use 3 or more (CLIP: 77)"
            )
        self._vocabulary, self.max_length, self.files = vocabulary, max_length, files or {}
        self.bos_id, self.eos_id = vocabulary[BOS], vocabulary[EOS]
        self.pad_id = self.eos_id if pad_id is None else pad_id
        # the library's compiled part takes plain values that its type stubs do not name
        self._bpe = tokenizers.Tokenizer(
            models.BPE(
                vocab=vocabulary,
                merges=merges,
                continuing_subword_prefix="",
                end_of_word_suffix="</w>",
                unk_token=EOS,
            )
        )
        self._bpe.normalizer, self._bpe.pre_tokenizer = build_splitters()
        special = {BOS, EOS, self.spell(self.pad_id)}
        self._bpe.add_special_tokens(
            [AddedToken(s, special=True, normalized=False) for s in special]
        )

    @property
    def vocab_size(self) -> int:
        """How many ids there are; every id is below it."""
        return max(self._vocabulary.values()) + 1

    def encode(self, text: str) -> tuple[list[int], str]:
        """Text → (`max_length` ids: start, words, end, padding; what did not fit, or "")."""
        words = self._bpe.encode(text, add_special_tokens=False)
        ids, room, dropped = words.ids, self.max_length - 2, ""
        if len(ids) > room:
            from fromnoise.prompt.overflow import find_rest

            dropped = find_rest(text, words.offsets, room)
        ids = [self.bos_id, *ids[:room], self.eos_id]
        return ids + [self.pad_id] * (self.max_length - len(ids)), dropped

    def encode_words(self, text: str) -> list[int]:
        """The ids of the words alone, as many as there are."""
        return self._bpe.encode(text, add_special_tokens=False).ids

    def spell(self, token_id: int) -> str:
        """What the files call an id: bytes as CLIP spells them, and `</w>` where a word ends."""
        return self._bpe.id_to_token(token_id) or ""
