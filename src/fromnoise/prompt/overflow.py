"""What of a text is more than a text encoder reads."""


def find_rest(text: str, offsets: list[tuple[int, int]], room: int) -> str:
    """The end of a text of which only `room` tokens fit. offsets: (start, end) of each token."""
    cut = room  # goes back to the start of a word: a half is not named
    while cut and offsets[cut][0] == offsets[cut - 1][1]:
        cut -= 1
    return text[offsets[cut][0] :].strip()
