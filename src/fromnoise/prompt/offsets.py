"""Where the tokens of a text stand in it."""

from fromnoise.prompt.tokenizer import Tokenizer


def find_offsets(tokenizer: Tokenizer, text: str) -> list[tuple[int, int]]:
    """(start, end) of each token in the text."""
    return tokenizer._bpe.encode(text, add_special_tokens=False).offsets
