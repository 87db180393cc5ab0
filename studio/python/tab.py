"""What the pages ask of the course's Python: to check an exercise, to answer a question."""

from dataclasses import asdict
from typing import Any

from limits import READER_FILE

from fromnoise.learn.exercises.in_tab import check_source
from fromnoise.learn.mentor import endpoint
from fromnoise.learn.mentor.answer import Answer, find_exercise
from fromnoise.learn.mentor.answer import ask as ask_mentor


def check(exercise: str, source: str) -> dict[str, Any]:
    """The verdict on a reader's code, and what the code printed."""
    verdict, printed = check_source(exercise, source, file=READER_FILE)
    return {"verdict": asdict(verdict), "printed": printed}


def ask(question: str, place: dict[str, Any] | None = None) -> dict[str, Any]:
    """The mentor's answer. place: the explorable that is open, its values, and which hint of an
    exercise comes next."""
    return {**show(answer(question, place)), "exercise": find_exercise(question)}


def show(found: Answer) -> dict[str, Any]:
    """An answer for the page. A citation of the quiz has the id of its question."""
    shown = found.as_dict()
    for citation, span in zip(shown["citations"], found.spans, strict=False):
        if span.startswith("quiz:"):
            citation["question"] = span.removeprefix("quiz:")
    return shown


def answer(question: str, place: dict[str, Any] | None) -> Answer:
    place = place or {}
    return ask_mentor(
        question,
        explorable=place.get("explorable", ""),
        values=place.get("values"),
        hint=place.get("hint", 1),
        in_page=True,
    )


def write_request(question: str, model: str, place: dict[str, Any] | None) -> dict[str, Any] | None:
    """What an endpoint is sent; None where the mentor answers by itself."""
    if not endpoint.may_send(question, answer(question, place)):
        return None
    return endpoint.write_request(question, model)


def word(question: str, reply: str, url: str, place: dict[str, Any] | None) -> dict[str, Any]:
    """What is supported of an endpoint's reply, else the mentor's own answer, and a note."""
    text = endpoint.read_reply(reply, url)
    worded, note = endpoint.word(question, answer(question, place), text)
    return {**show(worded), "exercise": "", "note": note}
