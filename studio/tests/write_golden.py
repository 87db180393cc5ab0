"""Writes studio/generated/golden/<subject>.json: the Python package's own numbers, with which the
tests compare what the tab computes."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_engine
import golden_plane

from fromnoise.errors import BadInput

FOLDER = Path(__file__).parents[1] / "generated/golden"


def compute_pictures() -> dict[str, Any]:
    """What src/lab/{measure,latents,guidance,clip,maps,bench}.ts compute, on random numbers."""
    import math

    import numpy as np
    import torch
    from torch.nn import functional as F

    from fromnoise import load
    from fromnoise.diffusion.guidance import apply_cfg
    from fromnoise.evaluate.word_maps import INSIDE
    from fromnoise.pipeline.inside.trace import Call, Trace, Word, split_words

    tokenizer = load().model.tokenizer
    rng = np.random.default_rng(16)
    x0, uncond = (torch.from_numpy(rng.standard_normal((16, 4, 4), np.float32)) for _ in "ab")
    a, b = (rng.integers(0, 256, (8, 8, 3)).astype(np.uint8) for _ in "ab")
    a[:2] = 255
    luma = a @ np.array([0.299, 0.587, 0.114])
    inside = rng.random((8, 8)) < 0.8
    lumas = (b @ np.array([0.299, 0.587, 0.114]))[inside]
    change = np.abs(a - b.astype(float)).mean(2).reshape(4, 2, 4, 2).mean((1, 3))
    rows, columns = (
        F.normalize(torch.from_numpy(rng.standard_normal((3, 8))), dim=1) for _ in "ab"
    )
    cosines = rows @ columns.T
    raw = [
        {
            layer: torch.from_numpy(rng.standard_normal((2, side * side, 5), np.float32)).softmax(2)
            for layer, side in (("down_blocks.1.attentions.0", 4), ("mid_block.attentions.0", 2))
        }
        for _ in range(2)
    ]
    word = Word("cat", (2, 3))
    trace = Trace.__new__(Trace)  # it reads calls alone
    trace.calls = [
        [
            Call(step, 0, 0, 1.0, torch.zeros(1, 8, 8), x0, None, (word,), {
                name: map.mean(0).T.unflatten(1, (math.isqrt(map.shape[1]), -1))
                for name, map in maps.items()
            })
            for step, maps in enumerate(raw)
        ]
    ]  # fmt: skip
    map = trace.map("cat")
    area = map > map.min() + INSIDE * (map.max() - map.min())
    centre = area.nonzero().double().mean(0) / 8 + 0.5 / 8
    return {
        "x0": x0.flatten().tolist(),
        "uncond": uncond.flatten().tolist(),
        "average": ((x0 + uncond) / 2).flatten().tolist(),
        "rms": float(x0.square().mean().sqrt()),
        "distance": float((x0 - uncond).square().mean().sqrt()),
        "guided": {s: apply_cfg(x0, uncond, s).flatten().tolist() for s in (0, 0.4, 1, 4, 15)},
        "guided_rms": {
            s: float(apply_cfg(x0, uncond, s).square().mean().sqrt()) for s in (0, 4, 15)
        },
        "a": a.flatten().tolist(),
        "b": b.flatten().tolist(),
        "psnr": -10 * math.log10(np.square(a / 127.5 - b / 127.5).mean() / 4),
        "edge_share": float(((a <= 2) | (a >= 253)).mean()),
        "histogram": np.histogram(a, 8, (0, 256))[0].tolist(),
        "brightness": float(luma.mean()),
        "colour": float(np.ptp(a.astype(int), axis=2).mean()),
        "edges": float(np.abs(np.diff(a.astype(float), axis=1)).mean()),
        "spread": float(np.stack([a, b]).astype(float).std(0, ddof=1).mean()),
        "change": float((change > 4).mean()),
        "area": inside.flatten().tolist(),
        "bright": b[inside][lumas >= lumas.max() / 2].mean(0).tolist(),
        "means": F.avg_pool2d(torch.from_numpy(a).permute(2, 0, 1)[None].double() / 127.5 - 1, 2)
        .flatten()
        .tolist(),
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "cosines": cosines.tolist(),
        "probabilities": {
            "rows": (cosines / 0.07).softmax(1).tolist(),
            "columns": (cosines / 0.07).softmax(0).tolist(),
        },
        "maps": [{name: map.flatten().tolist() for name, map in maps.items()} for maps in raw],
        "word": map.flatten().tolist(),
        "word_of_one": trace.map("cat", 0, [1], ["mid_block.attentions.0"]).flatten().tolist(),
        "centre": centre.flip(0).tolist(),
        "words": {
            text: {
                "pieces": [
                    tokenizer.spell(i).removesuffix("</w>") for i in tokenizer.encode(text)[0]
                ],
                "words": [[w.text, list(w.at)] for w in split_words(tokenizer, text)[0][1:-1]],
            }
            for text in (
                "a neon cat in space",
                "Two  submarines, 12 o'clock: xylophone!",
                "it's a hippopotamus",
            )
        },
    }


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
    "pictures": compute_pictures,
    "review": compute_review,
    "study": compute_study,
    **golden_engine.SUBJECTS,
    **golden_plane.SUBJECTS,
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for subject, compute in SUBJECTS.items():
        (FOLDER / f"{subject}.json").write_text(json.dumps(compute()), encoding="utf-8")
