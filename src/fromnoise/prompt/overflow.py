"""Where tokens stand in a text, and what of it is more than a text encoder reads."""

from fromnoise.prompt.tokenizer import Tokenizer


def find_rest(text: str, offsets: list[tuple[int, int]], room: int) -> str:
    """The end of a text of which only `room` tokens fit. offsets: (start, end) of each token."""
    cut = room  # goes back to the start of a word: a half is not named
    while cut and offsets[cut][0] == offsets[cut - 1][1]:
        cut -= 1
    return text[offsets[cut][0] :].strip()


def find_offsets(tokenizer: Tokenizer, text: str) -> list[tuple[int, int]]:
    """(start, end) of each token in the text."""
    return tokenizer._bpe.encode(text, add_special_tokens=False).offsets
