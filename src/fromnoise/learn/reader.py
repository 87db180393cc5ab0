"""Chapters and exercises as text for a terminal."""

import textwrap

from fromnoise.errors import NotFound
from fromnoise.learn.course import Block, Chapter, find_chapter, load_chapters
from fromnoise.learn.exercises import EXERCISES, load
from fromnoise.learn.exercises.exercise import Exercise
from fromnoise.learn.sources import find_place

WIDTH = 92
__all__ = [
    "EXERCISES",
    "find_chapter",
    "load",
    "load_chapters",
    "show_chapter",
    "show_contents",
    "show_exercise",
]


def show_contents() -> str:
    """The list of chapters and exercises."""
    rows = ["The course of fromnoise", ""]
    for chapter in load_chapters():
        rows.append(f"  {chapter.number}  {chapter.title}  ({chapter.minutes} minutes)")
        rows += [f"       · {goal}" for goal in chapter.objectives]
    rows += ["", "Exercises: " + ", ".join(EXERCISES), ""]
    rows += [
        "  fromnoise learn read 1             read a chapter",
        "  fromnoise learn exercise cfg       what to write; --hint 1 … 3, --solution",
        "  fromnoise learn check cfg.py       check what you wrote",
        "  fromnoise learn quiz --chapter 1   questions; without a chapter, from all",
        '  fromnoise mentor "what is sigma?"  ask; every sentence says where it stands',
    ]
    return "\n".join(rows)


def show_chapter(chapter: Chapter) -> str:
    """A whole chapter; formulas stand above the line of code that is them."""
    head = f"{chapter.number}. {chapter.title}"
    rows = [head, "=" * len(head), ""]
    rows += ["You will learn to:", *[f"  · {goal}" for goal in chapter.objectives], ""]
    for section in chapter.sections:
        rows += ["", section.title, "-" * len(section.title), ""]
        for block in section.blocks:
            rows += [show_block(block), ""]
    return "\n".join(rows)


def show_block(block: Block) -> str:
    match block.kind:
        case "text":
            return "\n".join(_wrap(part) for part in _parts(block.text))
        case "formula":
            body = textwrap.indent(block.text, "    ")
            try:
                place = find_place(block.name, block.fragment)
                return f"{body}\n    {place.path}:{place.line}\n    {place.text}"
            except NotFound:  # a page holds only some of the sources
                return f"{body}\n    {block.name}\n    {block.fragment}"
        case "explorable":
            fields = block.fields()
            question, *choices = fields["Predict"].split(" | ")
            rows = [f"[explorable: {fields['Title']}]", _wrap("Predict: " + question)]
            rows += [f"  {'abcdef'[i]}) {choice}" for i, choice in enumerate(choices)]
            shown = ("Run", "Compare", "Answer", "Explain", "Check")  # first guess, then see
            rows += [_wrap(f"{key}: {fields[key]}") for key in shown]
            return textwrap.indent("\n".join(rows), "  | ")
        case "exercise":
            title = load(block.name).title
            return f"  [exercise: {title}]  fromnoise learn exercise {block.name}"
        case "misconception":
            body = "\n".join(_wrap(part) for part in _parts(block.text))
            return f"  ✗ {block.name}\n{textwrap.indent(body, '    ')}"
        case "takeaways":
            return "\n".join(_wrap(part, "  ") for part in _parts(block.text))
        case "output":
            return textwrap.indent(block.text, "    → ")
    return textwrap.indent(block.text, "    ")


def show_exercise(exercise: Exercise, hints: int = 0, solution: bool = False) -> str:
    """The task of an exercise, the first `hints` hints, and what to write into the file."""
    place = find_place(exercise.code)
    rows = [f"{exercise.title} ({exercise.name})", "", _wrap(" ".join(exercise.task.split())), ""]
    rows += [f"    {exercise.formula}", "", f"In fromnoise: {place.path}:{place.line}", ""]
    for i, hint in enumerate(exercise.hints[:hints], 1):
        rows += [_wrap(f"Hint {i}: {hint}"), ""]
    if solution:
        return "\n".join([*rows, "Solution:", "", exercise.solution])
    rows += [
        f"Write this into {exercise.name}.py, then `fromnoise learn check {exercise.name}.py`:"
    ]
    return "\n".join([*rows, "", exercise.starter])


def _parts(text: str) -> list[str]:
    """A paragraph, or the entries of a list, each as one line; a table stays as it is."""
    parts: list[str] = []
    for row in text.split("\n"):
        first = row.startswith(("- ", "| ", "|-")) or row.split(". ")[0].isdigit()
        if first or not parts:
            parts.append(row.rstrip())
        else:
            parts[-1] += " " + row.strip()
    return parts


def _wrap(text: str, indent: str = "") -> str:
    if text.startswith("|"):
        return text
    hang = indent + ("  " if text.startswith("- ") else "")
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=hang, break_on_hyphens=False
    )
