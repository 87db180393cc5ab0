"""`fromnoise mentor`: answers about diffusion and this program, each sentence with its source."""

import json as jsonlib
import os
import sys
from typing import Annotated

import typer


def mentor(
    question: Annotated[str, typer.Argument(help="What you want to know, in English.")],
    json: Annotated[
        bool, typer.Option("--json", help="Print answer and citations as JSON.")
    ] = False,
    explorable: Annotated[
        str, typer.Option(help="The explorable that the question is about, for instance destroy.")
    ] = "",
    hint: Annotated[int, typer.Option(min=1, max=9, help="Which hint of an exercise.")] = 1,
    endpoint: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible address that words the answer.")
    ] = None,
    model: Annotated[str, typer.Option(help="The endpoint's model.")] = "default",
) -> None:
    """Ask about diffusion and this program. An endpoint's key is read from FROMNOISE_MENTOR_KEY."""
    from fromnoise.errors import UnknownName
    from fromnoise.learn.course import EXPLORABLES
    from fromnoise.learn.mentor.answer import ask

    if explorable and explorable not in EXPLORABLES:
        raise UnknownName("explorable", explorable, EXPLORABLES)
    note = ""
    if endpoint is None:
        answer = ask(question, explorable=explorable, hint=hint)
    else:
        from fromnoise.learn.mentor.endpoint import ask_endpoint

        key = os.environ.get("FROMNOISE_MENTOR_KEY", "")
        answer, note = ask_endpoint(question, endpoint, model, key, explorable=explorable)
    if note:
        print(f"note: {note}", file=sys.stderr)
    if json:
        return print(jsonlib.dumps(answer.as_dict(), ensure_ascii=False))
    places = list(dict.fromkeys(citation.place for citation in answer.citations))
    if not places:
        return print(answer.text)
    for citation in answer.citations:
        print(f"{citation.sentence} [{places.index(citation.place) + 1}]")
    print()
    for number, place in enumerate(places, 1):
        line = next(c.line for c in answer.citations if c.place == place)
        print(f"[{number}] {place}" + (f" (line {line})" if "#" in place else ""))
