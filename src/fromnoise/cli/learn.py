"""`fromnoise learn`: the course in a browser; in a terminal also its exercises and its quiz."""

import os
import random
import sys
import time
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.errors import BadInput, UnknownName

ACTIONS = ("read", "exercise", "check", "quiz")
PROGRESS = "fromnoise/quiz.json"  # in the folder where programs keep a user's data


def learn(
    action: Annotated[
        str | None,
        typer.Argument(help="read, exercise, check or quiz; nothing: the course in a browser."),
    ] = None,
    what: Annotated[
        str | None, typer.Argument(help="A chapter's number, an exercise's name, or a file.")
    ] = None,
    chapter: Annotated[
        str | None, typer.Option(help="Quiz: the number of the chapter; all if left out.")
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=1, max=3, help="Quiz: 1 recalls, 2 explains, 3 applies.")
    ] = None,
    questions: Annotated[int, typer.Option(min=1, max=200, help="Quiz: how many.")] = 10,
    progress: Annotated[
        Path | None, typer.Option(help="Quiz: the file that remembers your answers.")
    ] = None,
    hint: Annotated[int, typer.Option(min=0, max=9, help="Exercise: how many hints to show.")] = 0,
    solution: Annotated[
        bool, typer.Option("--solution", help="Exercise: show the solution.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Browser: the port; 0 takes a free one.")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the browser, or only serve.")
    ] = True,
) -> None:
    """Open the course in a browser; read it, check exercises, take the quiz in a terminal."""
    if action is None:
        return open_site(port, browser)
    if action not in ACTIONS:
        raise UnknownName("action", action, ACTIONS)
    if action == "quiz":
        return take_quiz(chapter, level, questions, progress or progress_path())
    if what is None:
        example = {"read": "1", "exercise": "cfg", "check": "cfg.py"}[action]
        raise BadInput(f"{action} what?", f"for instance: fromnoise learn {action} {example}")
    if action == "check":
        return check(Path(what))
    from fromnoise.learn import reader

    if action == "read":
        return print(reader.show_chapter(reader.find_chapter(what)))
    print(reader.show_exercise(reader.load(what), hint, solution), end="")


def open_site(port: int | None, browser: bool) -> None:
    """Serves the built pages until Ctrl-C; without them, shows what the terminal offers."""
    from fromnoise.learn import server

    if not server.has_site():
        from fromnoise.learn.reader import show_contents

        print(show_contents())
        print("\nThe pages with the model inside are not built: run `make site` in a checkout.")
        return
    site = server.make_server(port=server.PORT if port is None else port)
    address = f"http://{server.HOST}:{site.server_port}/"
    print(f"The course is at {address} (Ctrl-C ends it)", flush=True)
    if browser:
        webbrowser.open(address)
    try:
        site.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        site.server_close()


def check(path: Path) -> None:
    """Checks the exercises in a reader's file. Exit code 1 where one is not right."""
    from fromnoise.learn.exercises.sandbox import check_file

    report = check_file(path)
    if report.printed:
        print("your code printed:", report.printed, sep="\n")
    for verdict in report.verdicts.values():
        print(("✓ " if verdict.passed else "✗ ") + verdict.message)
        if verdict.hint:
            print(f"  → {verdict.hint}")
    if not all(verdict.passed for verdict in report.verdicts.values()):
        raise typer.Exit(1)


def progress_path() -> Path:
    """Where the quiz remembers answers: $XDG_DATA_HOME, else ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(home) / PROGRESS


def take_quiz(chapter: str | None, level: int | None, many: int, path: Path) -> None:
    """Asks questions, explains every answer, and remembers it in `path` at once."""
    from fromnoise.files import write_file
    from fromnoise.learn.course import find_chapter
    from fromnoise.learn.quiz import LEVELS, choose_questions
    from fromnoise.learn.quiz.review import LARGEST_PROGRESS, Progress, load_progress

    pool = choose_questions(
        find_chapter(chapter).id if chapter else None, (level,) if level else LEVELS
    )
    progress, chance, last, right = Progress(), random.Random(), "", 0
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as file:
            progress = load_progress(file.read(LARGEST_PROGRESS + 1))
    for number in range(1, many + 1):
        asked = progress.pick(pool, int(time.time()), chance, last)
        if asked is None:
            print("Nothing is due. Come back tomorrow, or choose another chapter or level.")
            break
        last = asked.question.id
        print(f"\n{number}. {asked.text}\n")
        for letter, option in zip("abcdefgh", asked.options, strict=False):
            print(f"   {letter}) {option.text}")
        choice = ask_letter("abcdefgh"[: len(asked.options)])
        if choice is None:
            break
        chosen = progress.answer(asked, choice, int(time.time()))
        right += chosen.right
        print(f"\n   {'✓ right.' if chosen.right else '✗ no.'} {chosen.why}")
        if not chosen.right:
            print(f"   Right is: {asked.question.right.text}. {asked.question.right.why}")
            print(f"   Read: {asked.question.chapter}#{asked.question.section}")
        write_file(
            path,
            lambda part: part.write_text(progress.export(), encoding="utf-8"),
            remedy="choose another place with --progress",
        )
    print(f"\n{right} right. Progress: {path}")


def ask_letter(letters: str) -> int | None:
    """The number of the letter that is typed; None at the end of the input or at q."""
    while True:
        print(f"\n   {letters[0]} to {letters[-1]}, or q: ", end="", flush=True)
        typed = sys.stdin.readline()
        word = typed.strip().lower()
        if not typed or word == "q":
            return None
        if len(word) == 1 and word in letters:
            return letters.index(word)
