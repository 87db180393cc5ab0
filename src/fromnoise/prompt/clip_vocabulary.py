"""CLIP's own vocabulary, which single-file models are written with and do not hold.

The merges are OpenAI's (clip/LICENSE); the words follow from them. Both files are those of
openai/clip-vit-large-patch14 to the byte."""

import bz2
from functools import cache
from hashlib import sha256
from json.encoder import encode_basestring
from pathlib import Path

from fromnoise.errors import BadCheckpoint
from fromnoise.prompt.tokenizer import BOS, EOS, Tokenizer

FILE = Path(__file__).parent / "clip" / "merges.txt.bz2"
MERGES_SHA256 = "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"
VOCAB_SHA256 = "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349"
LENGTH = 77  # tokens, start and end included


@cache
def read_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]], dict[str, bytes]]:
    """(word → id, the merges in their order, the files vocab.json and merges.txt). Raises
    BadCheckpoint where the installed file is not the right one."""
    try:
        data = bz2.decompress(FILE.read_bytes())
    except (OSError, ValueError):
        data = b""
    if sha256(data).hexdigest() != MERGES_SHA256:
        raise BadCheckpoint(f"{FILE} is missing or damaged", "install fromnoise again")
    lines = data.decode().splitlines()[1:]
    merges = [(left, right) for left, right in (line.split(" ") for line in lines)]
    letters = spell_bytes()
    words = letters + [f"{letter}</w>" for letter in letters]
    words += ["".join(pair) for pair in merges] + [BOS, EOS]
    ids = {word: i for i, word in enumerate(words)}
    # as json.dumps writes it with indent=2 and sorted keys, which takes 30 times as long
    rows = ",\n".join([f"  {encode_basestring(word)}: {ids[word]}" for word in sorted(ids)])
    return ids, merges, {"vocab.json": f"{{\n{rows}\n}}\n".encode(), "merges.txt": data}


def find_tables(files: dict[str, bytes]) -> tuple[dict[str, int], list[tuple[str, str]]] | None:
    """(word → id, the merges) where these files are CLIP's own, which need not be parsed."""
    hashes = [sha256(files[name]).hexdigest() for name in ("vocab.json", "merges.txt")]
    return read_vocabulary()[:2] if hashes == [VOCAB_SHA256, MERGES_SHA256] else None


def spell_bytes() -> list[str]:
    """A visible letter for each byte, in the order of their ids: printable Latin-1 stands for
    itself, the others follow from Ā on (Radford 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


@cache
def make_tokenizer(pad: str = EOS) -> Tokenizer:
    """CLIP's tokenizer. pad: the word that fills a row; Stable Diffusion 1 fills it with the end
    token, 2 and the second encoder of XL with "!", whose id is 0."""
    ids, merges, files = read_vocabulary()
    return Tokenizer(ids, merges, LENGTH, ids[pad], files)
