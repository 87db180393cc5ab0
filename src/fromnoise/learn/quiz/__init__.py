"""The questions of the quiz: one TOML file a chapter, read through one gate.

A question has an id, a level from 1 to 3, the section that explains it, two or more wordings of the
same thing, and four or more options. Each option says why it is right or wrong; a wrong one also
has the tag of the misconception behind it.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fromnoise.errors import BadInput

FOLDER = Path(__file__).parent / "questions"
LEVELS = (1, 2, 3)  # to recall, to understand, to apply


@dataclass(frozen=True)
class Option:
    text: str
    why: str  # what is said to somebody who chose it
    right: bool = False
    tag: str = ""  # the misconception behind a wrong one


@dataclass(frozen=True)
class Question:
    id: str
    chapter: str  # the chapter's id
    section: str  # the anchor in it that explains the answer
    level: int
    wordings: tuple[str, ...]
    options: tuple[Option, ...]

    @property
    def right(self) -> Option:
        return next(option for option in self.options if option.right)


def read_questions(text: str, chapter: str) -> list[Question]:
    """The questions of one file. Raises BadInput, which names question and field."""
    questions = []
    for row in tomllib.loads(text).get("question", []):
        where = f"question {row.get('id', len(questions) + 1)!r} of {chapter}"
        options = tuple(_option(option, where) for option in row.get("options", []))
        question = Question(
            row["id"], chapter, row["section"], row["level"], tuple(row["wordings"]), options
        )
        wrong = {
            "level": question.level not in LEVELS,
            "wordings": len(set(question.wordings)) < 2,
            "options": len({o.text for o in options}) != len(options) or len(options) < 4,
            "right": sum(o.right for o in options) != 1,
        }
        if bad := [name for name, is_bad in wrong.items() if is_bad]:
            raise BadInput(f"{where}: bad {', '.join(bad)}", "see learn/quiz/__init__.py")
        questions.append(question)
    return questions


def _option(row: dict[str, Any], where: str) -> Option:
    option = Option(
        row.get("text", ""), row.get("why", ""), row.get("right", False), row.get("tag", "")
    )
    if not (option.text and option.why and option.right != bool(option.tag)):
        raise BadInput(f"{where}: an option without text, why or tag", "give all of them")
    return option


@cache
def load_questions() -> dict[str, Question]:
    """id → question, all chapters in their order."""
    found: dict[str, Question] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        chapter = path.stem.split("-", 1)[1]
        for question in read_questions(path.read_text(encoding="utf-8"), chapter):
            if question.id in found:
                raise BadInput(f"two questions are called {question.id!r}", "rename one")
            found[question.id] = question
    return found


def choose_questions(chapter: str | None = None, levels: Iterable[int] = LEVELS) -> list[Question]:
    """The questions of a chapter's id (None: of all) and of these levels."""
    wanted = set(levels)
    return [
        question
        for question in load_questions().values()
        if question.level in wanted and chapter in (None, question.chapter)
    ]
