"""Writes studio/generated/content/: what the pages of the course are built from.

    course.json      the chapters: sections of blocks; formulas with their line of code
    exercises.json   the exercises: task, hints, starter, solution, and fromnoise's own place
    quiz.json        the questions with the explanation of every option
    documents.json   glossary and documents that the mentor cites, as Markdown
    places.json      "path:function" → [line, text], for all functions and classes of fromnoise
    sources/         the files that a citation can open; sources.json lists them
    pictures/        the pictures in documents
    choices.json     names and labels of the samplers and spacings
    about.json       version and counts

Needs Python alone. The same sources give the same bytes.
"""

import ast
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fromnoise import __version__
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS
from fromnoise.learn.course import Block, Chapter, load_chapters
from fromnoise.learn.exercises import EXERCISES, load
from fromnoise.learn.mentor.corpus import DOCS, docs_folder
from fromnoise.learn.quiz import load_questions
from fromnoise.learn.sources import PACKAGE, PREFIX, find_place

FOLDER = Path(__file__).parents[1] / "generated/content"
DOCUMENTS = (*DOCS, "endpoints", "map")
PICTURES = ("samplers.png", "latent_vs_pixel.png")


def describe_chapter(chapter: Chapter) -> dict[str, Any]:
    rows = asdict(chapter)
    for part, section in zip(rows["sections"], chapter.sections, strict=True):
        part["blocks"] = [describe_block(block) for block in section.blocks]
    return rows


def describe_block(block: Block) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": block.kind, "text": block.text, "line": block.line}
    if block.name:
        row["name"] = block.name
    if block.kind == "formula":
        row["place"] = find_place(block.name, block.fragment)._asdict()
    if block.kind == "explorable":
        row["texts"] = describe_explorable(block.fields())
    return row


def describe_explorable(fields: dict[str, str]) -> dict[str, Any]:
    """The texts that the frame of an explorable shows (explorables/types.ts)."""
    question, *choices = fields["Predict"].split(" | ")
    texts = {name.lower(): fields[name] for name in ("Title", "Run", "Compare", "Explain", "Check")}
    right = choices.index(fields["Answer"])
    return {"question": question, "choices": choices, "right": right, **texts}


def describe_exercise(name: str) -> dict[str, Any]:
    exercise = load(name)
    return {
        "name": name,
        "title": exercise.title,
        "chapter": exercise.chapter,
        "task": exercise.task,
        "formula": exercise.formula,
        "place": find_place(exercise.code)._asdict(),
        "starter": exercise.starter,
        "hints": exercise.hints,
        "solution": exercise.solution,
    }


def list_sources() -> dict[str, Path]:
    """Path in the repository → file: the package's Python files, and cited texts of learn/."""
    files = [file for file in PACKAGE.rglob("*.py") if "__pycache__" not in file.parts]
    files += (PACKAGE / "learn").rglob("*.toml")
    files = [file for file in files if "site" not in file.relative_to(PACKAGE).parts]
    return {PREFIX + file.relative_to(PACKAGE).as_posix(): file for file in sorted(files)}


def find_places(path: str, text: str) -> Iterator[tuple[str, tuple[int, str]]]:
    """Every function and class of a file: "path:Class.function" → line, text."""
    lines = text.splitlines()

    def visit(node: ast.AST, outer: str) -> Iterator[tuple[str, tuple[int, str]]]:
        for child in getattr(node, "body", []):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{outer}.{child.name}" if outer else child.name
                said = lines[child.lineno - 1].strip()
                yield f"{path}:{name}", (child.lineno, said)
                yield from visit(child, name)

    yield from visit(ast.parse(text), "")


def write_json(name: str, value: Any, compact: bool = False) -> None:
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    text = json.dumps(value, ensure_ascii=False, **layout) + "\n"
    (FOLDER / name).write_text(text, encoding="utf-8")


def write_content() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "pictures").mkdir(parents=True)
    chapters, questions = load_chapters(), load_questions()
    write_json("course.json", [describe_chapter(chapter) for chapter in chapters])
    write_json("exercises.json", {name: describe_exercise(name) for name in EXERCISES})
    write_json("quiz.json", [asdict(question) for question in questions.values()])
    documents = {name: (docs_folder() / f"{name}.md").read_text("utf-8") for name in DOCUMENTS}
    write_json("documents.json", documents)
    places: dict[str, tuple[int, str]] = {}
    sources = list_sources()
    for path, file in sources.items():
        text = file.read_text(encoding="utf-8")
        copy = FOLDER / "sources" / f"{path}.txt"  # any host sends .txt as text
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
        if path.endswith(".py"):
            places.update(find_places(path, text))
    write_json("places.json", places, compact=True)  # the tab loads it
    write_json("sources.json", list(sources))
    for name in PICTURES:
        shutil.copyfile(docs_folder() / name, FOLDER / "pictures" / name)
    counts = {
        "explorables": sum(len(chapter.blocks("explorable")) for chapter in chapters),
        "exercises": len(EXERCISES),
        "questions": len(questions),
    }
    write_json("about.json", {"version": __version__, **counts})
    choices = {"samplers": SAMPLERS, "spacings": SPACINGS}
    rows = {k: [{"name": n, "label": e.label} for n, e in v.items()] for k, v in choices.items()}
    write_json("choices.json", rows)


if __name__ == "__main__":
    write_content()
