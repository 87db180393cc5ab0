"""Slips of spelling: a word that nothing here has, one letter away from a frequent one."""

import re
from collections import Counter
from collections.abc import Callable, Iterable

LONG_WORD, LONG = re.compile(r"[A-Za-z]{5,}"), 7  # short words have too many neighbours
FREQUENT = 4  # places that a word must stand in


def correct(question: str, vocabulary: Iterable[str], is_spelt: Callable[[str], bool]) -> str:
    """The question with slips mended by the first word of the vocabulary that is near. Names stay
    as they are."""

    def mend(match: re.Match) -> str:
        word = match[0].lower()
        if (match.start() and match[0][0].isupper()) or is_spelt(word):
            return match[0]
        near = (other for other in vocabulary if other[0] == word[0] and is_one_slip(word, other))
        return next(near, match[0])

    return LONG_WORD.sub(mend, question)


def list_words(texts: Iterable[str]) -> tuple[str, ...]:
    """Words of the texts that stand in FREQUENT places or more, the most frequent first."""
    counts = Counter(word for text in texts for word in set(LONG_WORD.findall(text.lower())))
    frequent = [word for word, count in counts.items() if count >= FREQUENT]
    return tuple(sorted(frequent, key=lambda word: (-counts[word], word)))


def is_one_slip(word: str, other: str) -> bool:
    """Whether one letter is missing, too many or another one, or two neighbours are exchanged. A
    short word has neighbours exchanged, or a letter once or twice: else it is another word."""
    if abs(len(word) - len(other)) > 1 or word == other:
        return False
    pairs = zip(word, other, strict=False)
    start = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(word), len(other)))
    a, b = word[start:], other[start:]
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    exchanged = len(a) > 1 and a[:2] == b[1::-1] and a[2:] == b[2:]
    doubled = start > 0 and longer[1:] == shorter and longer[0] == word[start - 1]
    if len(word) < LONG:
        return exchanged or doubled
    return exchanged or longer[1:] == shorter or a[1:] == b[1:]
