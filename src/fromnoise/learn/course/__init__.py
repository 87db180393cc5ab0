"""The course: chapters of Markdown, one file each, read into sections of blocks.

A chapter begins with lines of `key: value` between two `---`. A section begins with
`## Title {#anchor}`. Besides paragraphs it may hold

    $$ … $$                          a formula in KaTeX, and on the next line the code that is it:
    Code: `path:function` `fragment`
    ```python … ```                  code that is run by a test, and ```output … ``` what it prints
    ::: explorable ID … :::          the place of an experiment, with its texts (`Key: value`)
    ::: exercise NAME                the place of an exercise (its text stands in exercises/)
    ::: misconception TITLE … :::    a usual mistake, dispelled
    ::: takeaways … :::              what to keep, at the end

`{{name}}` stands for a measured number: its value comes from figures.json, which
docs/make_course_figures.py writes.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fromnoise.errors import BadInput, UnknownName

FOLDER = Path(__file__).parent
EXPLORABLES = (
    "destroy",
    "one-look",
    "reconstruct",
    "exact-field",
    "solver-race",
    "schedules",
    "latent-lab",
    "clip-matrix",
    "word-lens",
    "guidance-plane",
    "prompt-bench",
    "write-a-sampler",
    "train-on-points",
)
# Of an explorable, in their order. Answer is the right choice of Predict, word for word.
FIELDS = ("Title", "Predict", "Answer", "Run", "Compare", "Explain", "Check")
DIRECTIVES = ("explorable", "exercise", "misconception", "takeaways")
WORDS_A_MINUTE = 150  # at which such text is read with care


@dataclass(frozen=True)
class Block:
    """A piece of a section. kind: text, formula, python, output, sh, or one of DIRECTIVES."""

    kind: str
    text: str
    name: str = ""  # the directive's argument; of a formula, its code "path:function"
    fragment: str = ""  # of a formula: what the one line of code holds
    line: int = 0  # of the chapter's file, where it begins

    def fields(self) -> dict[str, str]:
        """The texts of an explorable: Title, Predict (a question, then choices), Run, …"""
        pairs = (row.partition(": ") for row in self.text.splitlines())
        return {key: value for key, _, value in pairs}


@dataclass(frozen=True)
class Section:
    title: str
    anchor: str
    blocks: tuple[Block, ...]
    line: int


@dataclass(frozen=True)
class Chapter:
    number: int
    id: str
    title: str
    minutes: int
    objectives: tuple[str, ...]
    sections: tuple[Section, ...]
    path: str  # in the repository

    def blocks(self, kind: str) -> list[Block]:
        return [block for part in self.sections for block in part.blocks if block.kind == kind]


@cache
def figures() -> dict[str, str]:
    """name → the measured value, as text."""
    rows = json.loads((FOLDER / "figures.json").read_text(encoding="utf-8"))["figures"]
    return {name: row["value"] for name, row in rows.items()}


def resolve(text: str) -> str:
    """The text with its `{{name}}` replaced. Raises UnknownName."""

    def value(match: re.Match) -> str:
        if match[1] not in figures():
            raise UnknownName("figure", match[1], figures())
        return figures()[match[1]]

    return re.sub(r"\{\{(\w+)\}\}", value, text)


def chapter_files() -> list[Path]:
    return sorted(FOLDER.glob("[0-9]-*.md"))


@cache
def load_chapters() -> tuple[Chapter, ...]:
    """All chapters in their order."""
    return tuple(
        parse(path.read_text(encoding="utf-8"), f"src/fromnoise/learn/course/{path.name}")
        for path in chapter_files()
    )


def find_chapter(name: str) -> Chapter:
    """The chapter of that number or id. Raises UnknownName."""
    for chapter in load_chapters():
        if name in (str(chapter.number), chapter.id):
            return chapter
    raise UnknownName("chapter", name, [f"{c.number} ({c.id})" for c in load_chapters()])


def parse(text: str, path: str) -> Chapter:
    """Raises BadInput, with the line, for a chapter that does not keep to the form above."""
    lines = text.split("\n")
    if lines[0] != "---" or "---" not in lines[1:]:
        raise BadInput(f"{path} has no head between two lines of ---", "see learn/course")
    end = lines.index("---", 1)
    head = {k: v for k, _, v in (row.partition(": ") for row in lines[1:end] if row[0] != "-")}
    objectives = tuple(row[2:] for row in lines[1:end] if row.startswith("- "))
    sections, title, anchor, begin, blocks = [], "", "", 0, []
    for block in _blocks(lines, end + 1, path):
        if block.kind != "heading":
            blocks.append(block)
            continue
        if title:
            sections.append(Section(title, anchor, tuple(blocks), begin))
        elif blocks:
            raise BadInput(f"{path}, line {blocks[0].line}: text before a section", "add a ##")
        title, anchor, begin, blocks = block.text, block.name, block.line, []
    sections.append(Section(title, anchor, tuple(blocks), begin))
    number = int(Path(path).name.split("-")[0])
    minutes = int(head["minutes"])
    return Chapter(number, head["id"], head["title"], minutes, objectives, tuple(sections), path)


def _blocks(lines: list[str], start: int, path: str) -> Iterator[Block]:
    """Headings and blocks in their order."""
    i = start
    while i < len(lines):
        row, begin = lines[i], i + 1
        if not row.strip():
            i += 1
        elif match := re.fullmatch(r"## (.+) \{#([a-z0-9-]+)\}", row):
            yield Block("heading", match[1], match[2], line=begin)
            i += 1
        elif row == "$$":
            body, i = _until(lines, i + 1, "$$", path)
            code = re.fullmatch(r"Code: `([^`]+)` `(.+)`", lines[i]) if i < len(lines) else None
            if not code:
                raise BadInput(f"{path}, line {i}: a formula without its code", "add `Code: …`")
            yield Block("formula", body, code[1], code[2], begin)
            i += 1
        elif row.startswith("```"):
            body, i = _until(lines, i + 1, "```", path)
            yield Block(row[3:].strip(), body, line=begin)
        elif match := re.fullmatch(r"::: (\w+) ?(.*)", row):
            if match[1] not in DIRECTIVES:
                raise UnknownName("directive", match[1], DIRECTIVES)
            body, i = _until(lines, i + 1, ":::", path)
            yield Block(match[1], resolve(body), match[2], line=begin)
        else:
            stop = i
            while stop < len(lines) and lines[stop].strip() and not _begins(lines[stop]):
                stop += 1
            if stop == i:
                raise BadInput(f"{path}, line {begin}: {row[:60]!r} is no block", "correct it")
            yield Block("text", resolve("\n".join(lines[i:stop])), line=begin)
            i = stop


def _begins(row: str) -> bool:
    return row.startswith(("## ", "```", ":::", "$$"))


def _until(lines: list[str], i: int, mark: str, path: str) -> tuple[str, int]:
    """(the lines before the next `mark`, the number of the line behind it)."""
    if mark not in lines[i:]:
        raise BadInput(f"{path}, line {i}: no {mark} ends what begins here", "add it")
    end = lines.index(mark, i)
    return "\n".join(lines[i:end]), end + 1
