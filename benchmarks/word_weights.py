"""Do prompt weights work? The judge's probability of what a word states, as (word:w) goes from 0.6 to 1.4.

python benchmarks/word_weights.py [--model FOLDER] [--n 200] [--steps 10] [--cfg 1] [--only object,style,...]
Captions and seeds are the same for every weight, so steps from weight to weight are paired differences.
"""

import argparse

import numpy as np
import torch

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.cli.evaluate import judge_of
from fromnoise.data.loader import to_tensor
from fromnoise.data.source import Source
from fromnoise.data.sources import open_source
from fromnoise.evaluate import faithfulness
from fromnoise.evaluate.judge import Judge

WEIGHTS = (0.6, 0.8, 1.0, 1.2, 1.4)
ATTRIBUTES = ("object", "style", "colour", "background")
FIRST = faithfulness.SEEDS + 80_000_000  # captions that no evaluation draws
BATCH = 25


def scenes(source: Source, attribute: str, n: int) -> list[tuple[int, str, str, str]]:
    """(seed, caption, the phrase in it that states the attribute, the value) of n captions that state it once."""
    names, found, seed = source.names(attribute), [], FIRST
    while len(found) < n:
        sample = source.sample(seed, draw=False)
        if attribute in sample.stated:
            value = sample.attributes[attribute]
            phrase = max((name for name in names[value] if name in sample.caption), key=len, default="")
            if phrase and sample.caption.count(phrase) == 1:
                found.append((seed, sample.caption, phrase, value))
        seed += 1
    return found


def probabilities(engine: Engine, judge: Judge, attribute: str, rows: list, weight: float, **settings) -> np.ndarray:
    """(n,) of the stated values, in the pictures drawn."""
    draw, index, found = faithfulness.drawer(engine, **settings), judge.config.schema[attribute].index, []
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        drawn = draw([caption.replace(phrase, f"({phrase}:{weight})") for _, caption, phrase, _ in some],
                     [seed for seed, *_ in some])  # fmt: skip
        with torch.inference_mode():
            likely = judge(to_tensor(drawn))[attribute].softmax(1)
        found += [float(row[index(value)]) for row, (*_, value) in zip(likely, some, strict=True)]
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(ATTRIBUTES))
    parser.add_argument("--dtype", default="fp32")
    args = parser.parse_args()
    engine, judge = load(args.model, dtype=args.dtype), Judge.load(judge_of(args.model))
    source = open_source("stickers", size=engine.model.size)
    print(f"{engine.model.digest}, n = {args.n}, {args.steps} steps, cfg {args.cfg:g}: mean probability ± its error")
    for attribute in args.only.split(","):
        rows, before = scenes(source, attribute, args.n), None
        for weight in WEIGHTS:
            now = probabilities(engine, judge, attribute, rows, weight, steps=args.steps, cfg=args.cfg)
            root, step = args.n**0.5, ""
            if before is not None:
                more = now - before
                step = f"   {more.mean():+.4f} ± {more.std(ddof=1) / root:.4f} from the weight before"
            print(f"{attribute:>10} {weight}: {now.mean():.4f} ± {now.std(ddof=1) / root:.4f}{step}", flush=True)
            before = now


if __name__ == "__main__":
    main()
