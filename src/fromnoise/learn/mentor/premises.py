"""False premises: questions that believe a misconception, recognised by their words."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fromnoise.learn.mentor.words import stem, terms_of


@dataclass(frozen=True)
class Premise:
    """A misconception. patterns: alternatives, each a row of groups of which every one must have a
    word in the question."""

    id: str
    says: str
    sources: tuple[str, ...]
    patterns: tuple[tuple[tuple[str, ...], ...], ...]
    unless: tuple[str, ...]
    line: int


@cache
def load_premises() -> tuple[Premise, ...]:
    text = Path(__file__).with_name("premises.toml").read_text(encoding="utf-8")
    lines = [n for n, row in enumerate(text.split("\n"), 1) if row.startswith("id = ")]
    found = []
    for line, row in zip(lines, tomllib.loads(text)["premise"], strict=True):
        patterns = tuple(tuple(_words(group) for group in rows) for rows in row["patterns"])
        unless = _words(row.get("unless", ""))
        found.append(Premise(row["id"], row["says"], tuple(row["from"]), patterns, unless, line))
    return tuple(found)


def _words(group: str) -> tuple[str, ...]:
    """Alternatives as they are searched: words in lower case, and their stems."""
    return tuple(word.lower() for word in group.split("|") if word)


def find_premise(question: str) -> Premise | None:
    """The misconception that a question holds, or None. Where several fit, the one whose pattern
    says more words wins."""
    raw = " ".join(re.findall(r"\w+", question.lower()))
    words = set(raw.split()) | set(terms_of(question))
    words |= {stem(word) for word in raw.split()}
    line = f" {raw} {' '.join(terms_of(question))} "

    def holds(word: str) -> bool:
        if " " in word:
            return f" {word}" in line
        return word in words or stem(word) in words

    best: tuple[int, Premise] | None = None
    for premise in load_premises():
        if any(holds(word) for word in premise.unless):
            continue
        for pattern in premise.patterns:
            if all(any(holds(word) for word in group) for group in pattern) and (
                best is None or len(pattern) > best[0]
            ):
                best = len(pattern), premise
    return best[1] if best else None
