"""Writes studio/generated/golden/<subject>.json: the Python package's own numbers, with which the
tests compare what the tab computes."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_engine
import golden_pages
import golden_pictures
import golden_plane

from fromnoise.errors import BadInput

FOLDER = Path(__file__).parents[1] / "generated/golden"


class Recorder(random.Random):
    """Keeps what random() gave. All that `Progress` draws comes from it."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self.values: list[float] = []

    def random(self) -> float:
        self.values.append(super().random())
        return self.values[-1]


def compute_review() -> dict[str, Any]:
    """A reader's 400 turns with the quiz, over months; then what an import refuses."""
    from dataclasses import asdict

    from fromnoise.learn.quiz import choose_questions
    from fromnoise.learn.quiz.review import Progress, load_progress

    questions = choose_questions()
    chance, reader, progress = Recorder(7), random.Random(8), Progress()
    now, last, turns = 1_800_000_000, "", []
    for turn in range(400):
        pool = questions if turn % 40 < 30 else choose_questions("latent-diffusion", (1, 2))
        asked = progress.pick(pool, now, chance, last)
        row: dict[str, Any] = {"now": now, "pool": len(pool), "id": ""}
        if asked:
            options = [option.text for option in asked.options]
            right = options.index(asked.question.right.text)
            choice = right if reader.random() < 0.7 else reader.randrange(len(options))
            progress.answer(asked, choice, now)
            last = asked.question.id
            row |= {"id": last, "wording": asked.wording, "options": options, "choice": choice}
        turns.append(row)
        now += reader.choice([20, 60, 700, 700, 90_000])
    name = questions[0].id
    card = {"box": 1, "due": 5, "wording": 0, "seen": 3, "right": 2}

    def write(card: Any, version: Any = 1, form: str = "fromnoise-quiz") -> str:
        return json.dumps({"format": form, "version": version, "cards": {name: card}})

    texts = [write(card | {key: value}) for key in card for value in (-2, 2**41, "1", 0.5, None)]
    texts += [write(card | {"right": 4}), write({**card, "more": 1}), write({}), write([]), "[]"]
    texts += [write(card, 2), write(card, form="other"), "{", " " * 1_000_001, "{}", write(card)]
    texts += [json.dumps({"format": "fromnoise-quiz", "version": 1, "cards": []})]
    refused = []
    for text in texts:
        try:
            load_progress(text)
            refused.append([text, ""])
        except BadInput as error:
            refused.append([text, error.message])
    return {
        "questions": [asdict(question) for question in questions],
        "chance": chance.values,
        "turns": turns,
        "exported": progress.export(),
        "imports": refused,
    }


def compute_study() -> dict[str, Any]:
    """The mentor's answers and the judge's verdicts, from the tests' own questions and mistakes."""
    import sys

    sys.path.append(str(Path(__file__).parents[2] / "tests/learn"))
    from mentor_questions import rows
    from wrong import WRONG

    from fromnoise.learn.course import load_chapters
    from fromnoise.learn.exercises import EXERCISES, load
    from fromnoise.learn.mentor.answer import ask

    parts = ("answerable", "unanswerable", "false", "answerable-fresh")
    asked: list[tuple[str, dict[str, Any]]] = [(q, {}) for part in parts for _, q in rows(part)]
    for name in EXERCISES:
        asked += [(f"give me a hint for {name}", {"hint": hint}) for hint in (1, 2, 9)]
    for block in (block for chapter in load_chapters() for block in chapter.blocks("explorable")):
        open_now = {"explorable": block.name, "values": {"steps": 8, "sampler": "euler"}}
        asked += [("What do I see here?", open_now), ("What is sigma?", open_now)]
    answers = [(q, place, ask(q, in_page=True, **place).as_dict()) for q, place in asked]
    exercises = {
        name: {
            "solution": load(name).solution,
            "wrong": [
                [
                    "import math\n" + source,
                    tag,
                    [m.hint for m in load(name).misconceptions if m.tag == tag],
                ]
                for tag, source in WRONG[name]
            ],
        }
        for name in EXERCISES
    }
    return {"answers": answers, "exercises": exercises}


# subject → a function that returns what its test reads
SUBJECTS: dict[str, Callable[[], Any]] = {
    "review": compute_review,
    "study": compute_study,
    **golden_engine.SUBJECTS,
    **golden_pages.SUBJECTS,
    **golden_pictures.SUBJECTS,
    **golden_plane.SUBJECTS,
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for subject, compute in SUBJECTS.items():
        (FOLDER / f"{subject}.json").write_text(json.dumps(compute()), encoding="utf-8")
