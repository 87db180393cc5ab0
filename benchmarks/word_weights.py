"""Do prompt weights work? The judge's probability of what a word states, as (word:w) goes from 0.6
to 1.4.

python benchmarks/word_weights.py [--model FOLDER] [--n 200] [--steps 10] [--cfg 1] [--only
object,style,...]
    [--dtype fp32] [--device cpu] [--rival]
Captions and seeds are the same for every weight, so steps from weight to weight are paired
differences. Where nearly all are near 1 already, the mean of the log odds ln p/(1 − p) still tells
weights apart. --rival puts another value of the attribute before the words, unweighted ("a pixel
art (neon:1.2) cat"), so that nothing is near 1."""

import argparse
import random

import numpy as np
import torch

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.cli.evaluate import find_judge
from fromnoise.data.loader import to_tensor
from fromnoise.data.source import Source
from fromnoise.data.sources import open_source
from fromnoise.evaluate import faithfulness
from fromnoise.evaluate.judge import Judge

WEIGHTS = (0.6, 0.8, 1.0, 1.2, 1.4)
ATTRIBUTES = ("object", "style", "colour", "background")
FIRST = faithfulness.SEEDS + 80_000_000  # captions that no evaluation draws
BATCH = 25


def choose_scenes(
    source: Source, attribute: str, n: int, rival: bool
) -> list[tuple[int, str, str, str]]:
    """(seed, caption with a {} where the phrase belongs that states the attribute, the phrase, the
    value) of n captions that state it once; rival: behind the phrase of another value."""
    names, found, seed = source.list_names(attribute), [], FIRST
    while len(found) < n:
        sample = source.sample(seed, draw=False)
        if attribute in sample.stated:
            value = sample.attributes[attribute]
            phrase = max(
                (name for name in names[value] if name in sample.caption), key=len, default=""
            )
            if phrase and sample.caption.count(phrase) == 1:
                other = random.Random(seed).choice([v for v in names if v != value and names[v]])
                where = f"{names[other][0]} {{}}" if rival else "{}"
                found.append((seed, sample.caption.replace(phrase, where), phrase, value))
        seed += 1
    return found


def compute_log_odds(
    engine: Engine, judge: Judge, attribute: str, rows: list, weight: float, **settings
) -> np.ndarray:
    """(n,) of the stated values in the pictures drawn, ln p/(1 − p), in float64 for what is near
    1."""
    draw, index, found = (
        faithfulness.build_drawer(engine, **settings),
        judge.config.schema[attribute].index,
        [],
    )
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        prompts = [caption.format(f"({phrase}:{weight})") for _, caption, phrase, _ in some]
        drawn = draw(prompts, [seed for seed, *_ in some])
        with torch.inference_mode():
            scores = judge(to_tensor(drawn).to(engine.unet.device))[attribute].double().cpu()
        for row, (*_, value) in zip(scores, some, strict=True):
            others = torch.cat((row[: index(value)], row[index(value) + 1 :]))
            found.append(float(row[index(value)] - others.logsumexp(0)))
    return np.array(found)


def format_row(rows: np.ndarray, formats: tuple[str, ...]) -> str:
    """The mean of each row and its standard error."""
    errors = rows.std(1, ddof=1) / rows.shape[1] ** 0.5
    return ", ".join(
        f.format(*pair) for f, *pair in zip(formats, rows.mean(1), errors, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(ATTRIBUTES))
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rival", action="store_true")
    args = parser.parse_args()
    engine = load(args.model, args.device, args.dtype)
    judge = Judge.load(find_judge(args.model)).to(engine.unet.device)
    source = open_source("stickers", size=engine.model.size)
    print(
        f"{engine.model.digest}, n = {args.n}, {args.steps} steps, cfg {args.cfg:g}: "
        "mean probability, log odds"
    )
    for attribute in args.only.split(","):
        rows, before = choose_scenes(source, attribute, args.n, args.rival), None
        for weight in WEIGHTS:
            odds = compute_log_odds(
                engine, judge, attribute, rows, weight, steps=args.steps, cfg=args.cfg
            )
            now = np.stack((1 / (1 + np.exp(-odds)), odds))  # (2, n)
            said = f"{attribute:>10} {weight}: " + format_row(
                now, ("{:.4f} ± {:.4f}", "{:6.3f} ± {:.3f}")
            )
            if before is not None:
                said += "   from the weight before " + format_row(
                    now - before, ("{:+.4f} ± {:.4f}", "{:+.3f} ± {:.3f}")
                )
            print(said, flush=True)
            before = now


if __name__ == "__main__":
    main()
