"""What each ingredient of `blend` gives: pairs of a source's pictures, drawn with one thing or
another.

python benchmarks/blend.py [--n 24] [--out blend.png] min: the mean of the lesser cosine, as CLIP
sees it, of the drawn picture with either of its two (with CLIP guidance this is what was pulled
at). of A, of B, of both: pictures in which the judge, who has seen nothing of CLIP, reads an
object, style, background or colour that only A, only B has. The sheet has A, B, and below them a
row a setting."""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fromnoise import load
from fromnoise.cli.evaluate import find_judge
from fromnoise.data.loader import to_tensor
from fromnoise.data.source import Sample
from fromnoise.data.sources import open_source
from fromnoise.evaluate.faithfulness import SEEDS
from fromnoise.evaluate.judge import Judge
from fromnoise.pipeline.seeing.blend import write_blend_prompt
from fromnoise.train.stages.sheet import write_sheet

FIRST = SEEDS + 95_000_000
READ = ("object", "style", "background", "colour")
SETTINGS: dict[str, dict] = {
    "A alone": {"weight": 0.0},
    "B alone": {"weight": 1.0},
    "no words": {"prompt": " ", "cfg": 1.0},
    "captions AND": {"prompt": "AND"},
    "captions, strength 0.45": {"strength": 0.45},
    "captions, strength 0.6": {"strength": 0.6},
    "captions": {},
    "captions, strength 1": {"strength": 1.0},
    "captions as described": {"prompt": ""},
    "captions, CLIP 3": {"clip_scale": 3.0},
    "captions, CLIP 10": {"clip_scale": 10.0},
}


def has_unique(read: dict[str, str], of: Sample, other: Sample) -> bool:
    """Whether something that is read is `of`'s and not the other's."""
    mine, theirs = of.attributes, other.attributes
    return any(name in mine and read[name] == mine[name] != theirs.get(name) for name in READ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=24)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", default="blend.png")
    args = parser.parse_args()
    engine, source, judge = (
        load(dtype="bf16"),
        open_source("stickers"),
        Judge.load(find_judge(None)),
    )
    samples = [
        s
        for s in (source.sample(FIRST + i) for i in range(4 * args.n))
        if "relation" not in s.attributes
    ]
    pairs = list(zip(samples[: args.n], samples[args.n : 2 * args.n], strict=True))
    rows = [
        [Image.fromarray(s.image) for s in side if s.image is not None]
        for side in zip(*pairs, strict=True)
    ]
    seen = [engine.seeing.pictures(row) for row in rows]
    print(
        "| drawn with | min | of A | of B | of both | s a picture |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, settings in SETTINGS.items():
        drawn, started = [], time.perf_counter()
        for i, (a, b) in enumerate(pairs):
            told = [source.write_caption(s.attributes) or "" for s in (a, b)]
            more = {"weight": 0.5, "seed": i, "steps": args.steps} | settings
            if "prompt" not in more:
                more |= {"prompt": write_blend_prompt(told, more["weight"]), "dialect": "compel"}
            elif more["prompt"] == "AND":
                more["prompt"] = f"{told[0]} :0.5 AND {told[1]} :0.5"
            drawn.append(engine.blend(rows[0][i], rows[1][i], **more))
        seconds = (time.perf_counter() - started) / args.n
        near = torch.stack([(engine.seeing.pictures(drawn) * row).sum(1) for row in seen])
        found = judge.read(np.stack([np.asarray(p) for p in drawn]))
        has = [
            (has_unique(read, a, b), has_unique(read, b, a))
            for read, (a, b) in zip(found, pairs, strict=True)
        ]
        parts = sum(a for a, _ in has), sum(b for _, b in has), sum(a and b for a, b in has)
        least = near.min(0).values
        cells = [
            name,
            f"{least.mean():.3f} ± {least.std() / args.n**0.5:.3f}",
            *map(str, parts),
            f"{seconds:.1f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
        rows.append(drawn)
    pixels = np.stack([np.asarray(p) for row in rows for p in row])
    write_sheet(to_tensor(pixels), Path(args.out), args.n)


if __name__ == "__main__":
    main()
