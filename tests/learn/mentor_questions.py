"""Reads mentor_questions*.txt; every third line of a part of the first file is held out."""

import sys
from pathlib import Path

ASIDE = ("held", "fresh", "last-held")
TUNED = ("tuned", "more", "last-tuned", "third", "fourth", "fifth", "near")
HALVES = (*TUNED, "seen", *ASIDE, "aside")
FILES = sorted(Path(__file__).parent.glob("mentor_questions*.txt"))


def rows(part: str) -> list[tuple[list[str], str]]:
    """(golds, question) of one part: "answerable", "unanswerable" or "false"."""
    found, here = [], ""
    for line in (line for file in FILES for line in file.read_text().splitlines()):
        if line.startswith("["):
            here = line.strip("[]")
        elif line and not line.startswith("#") and here == part:
            gold, _, question = line.rpartition(" | ")
            found.append((gold.split(), question))
    return found


def load(part: str, half: str) -> list[tuple[list[str], str]]:
    """half: "tuned", "held" or "all"."""
    every = rows(part)
    return [row for i, row in enumerate(every) if half == "all" or (i % 3 == 2) == (half == "held")]


def matches(gold: str, name: str) -> bool:
    """Whether a span's id is what a gold says."""
    kind, _, rest = gold.partition(":")
    if kind == "g":
        return name.lower() in (f"glossary:{rest}".lower(), f"glossary:{rest.rstrip(',')}".lower())
    if kind == "d":
        file, _, anchor = rest.partition("#")
        return name == f"docs/{file}.md#{anchor}"
    if kind == "q":
        return name == f"quiz:{rest}"
    if kind == "c":  # the docstring of the file counts as well as that of the function
        return name in (f"src/fromnoise/{rest}", f"src/fromnoise/{rest.split(':')[0]}:")
    return name == gold


def part_of(kind: str, half: str) -> list[tuple[list[str], str]]:
    """half "more": written later, to tune on; "fresh": then, and not tuned on; "last": for a second
    round, of which every second one is held out ("last-held") and the others are "last-tuned";
    "third" to "fifth": batches whose misses were looked at after their first figures; "near": more
    without an answer; "seen": all that was tuned on; "aside": all that never was."""
    if half in ("aside", "seen"):
        return [
            row for part in (ASIDE if half == "aside" else TUNED) for row in part_of(kind, part)
        ]
    if half in ("last-tuned", "last-held"):
        return rows(f"{kind}-last")[half == "last-held" :: 2]
    return load(kind, half) if half in ("tuned", "held", "all") else rows(f"{kind}-{half}")


def measure(half: str) -> dict[str, float]:
    """The mentor's figures on one half."""
    from fromnoise.learn.mentor.answer import ask
    from fromnoise.learn.mentor.index import load_index

    known, unknown = part_of("answerable", half), part_of("unanswerable", half)
    false = part_of("false", half)
    found = [
        any(
            matches(gold, hit.span.id)
            for hit in load_index().search(question)[:5]
            for gold in golds
        )
        for golds, question in known
    ]
    answers = [(golds, ask(question)) for golds, question in known]
    cited = [any(matches(g, i) for i in a.spans for g in golds) for golds, a in answers]
    figures = {
        "recall@5": found,
        "gold cited": cited,
        "false abstention": [answer.abstained for _, answer in answers],
        "abstention": [ask(question).abstained for _, question in unknown],
        "corrected": [ask(question).premise == gold[0] for gold, question in false],
    }
    return {name: sum(rows) / len(rows) for name, rows in figures.items() if rows}


if __name__ == "__main__":
    for half in sys.argv[1:] or HALVES:
        print(half, {name: round(value, 3) for name, value in measure(half).items()})
