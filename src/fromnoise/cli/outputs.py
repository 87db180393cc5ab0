"""The names of the files that pictures go to."""

import re
import unicodedata

from fromnoise.pipeline.request import GenerationRequest

LETTERS, BYTES = 60, 150  # of the words in a file's name


def name_picture(request: GenerationRequest, index: int, suffix: str) -> str:
    """The name of picture `index` in a folder: its words and its seed."""
    return f"{simplify_words(request.prompt)}-{(request.seed or 0) + index}{suffix}"


def simplify_words(text: str) -> str:
    """Words as a part of a file's name, for any script: letters with their marks, digits and
    pictographs stay, all else becomes a dash."""
    text = unicodedata.normalize("NFC", text[:2000].lower())
    kept = "".join(sign if _is_kept(sign) else "-" for sign in text)
    words = re.sub("-+", "-", kept)[:LETTERS]
    words = words.encode("utf-8")[:BYTES].decode("utf-8", "ignore").strip("-")
    while words and unicodedata.category(words[0])[0] == "M":  # a mark without its letter
        words = words[1:].lstrip("-")
    return words or "picture"


def _is_kept(sign: str) -> bool:
    kind = unicodedata.category(sign)
    return sign == "_" or kind[0] in "LMN" or (kind in ("So", "Sk") and ord(sign) > 0xFF)
