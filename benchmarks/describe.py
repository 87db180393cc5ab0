"""How well `describe` tells what is in a picture: of fresh pictures of a source, and of pictures
drawn by the model.

python benchmarks/describe.py [--n 150] [--drawn 60] [--steps 12] The judge reads the same pictures:
what can be read in them at all, by a network that was trained to."""

import argparse
import time

import numpy as np
from PIL import Image

from fromnoise import load
from fromnoise.cli.evaluate import find_judge
from fromnoise.data.source import Source
from fromnoise.data.sources import open_source
from fromnoise.evaluate import faithfulness
from fromnoise.evaluate.faithfulness import SEEDS, Scene, Tally
from fromnoise.evaluate.judge import Judge
from fromnoise.pipeline.seeing.clip import ClipEmbedder

FIRST = SEEDS + 90_000_000  # pictures that nothing else is measured on


def measure_describe(
    see: ClipEmbedder, source: Source, images: np.ndarray, scenes: list[Scene]
) -> tuple[Tally, float]:
    """(what `describe` has right, seconds a picture)."""
    tally, started = Tally(), time.perf_counter()
    for scene, image in zip(scenes, images, strict=True):
        found = see.describe(Image.fromarray(image), source, 1)[0].attributes
        tally.add(scene, {name: found.get(name, "") for name in source.schema})
        a, names = scene.sample.attributes, ("object", "object2")
        if all(name in a for name in names):  # whichever is which
            tally.n["both objects"] += 1
            tally.right["both objects"] += {a[name] for name in names} == {
                found.get(name) for name in names
            }
    return tally, (time.perf_counter() - started) / max(len(scenes), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=150)
    parser.add_argument("--drawn", type=int, default=60)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    engine, source, judge = (
        load(dtype="bf16", batch=20),
        open_source("stickers"),
        Judge.load(find_judge(None)),
    )
    see = ClipEmbedder(engine.model)
    samples = [source.sample(FIRST + i) for i in range(args.n)]
    scenes = [Scene(FIRST + i, s, tuple(s.attributes)) for i, s in enumerate(samples)]
    sets = [("real", np.stack([s.image for s in samples if s.image is not None]), scenes)]
    if args.drawn:
        some = [Scene(s.seed, s.sample, tuple(s.sample.stated)) for s in scenes[: args.drawn]]
        draw, drawn = faithfulness.build_drawer(engine, steps=args.steps), []
        for k in range(0, args.drawn, 20):
            drawn.append(
                draw(
                    [s.sample.caption for s in some[k : k + 20]], [s.seed for s in some[k : k + 20]]
                )
            )
        sets.append(("drawn", np.concatenate(drawn), some))
    print("| pictures | attribute | described | n | judge |\n|---|---|---:|---:|---:|")
    for name, images, some in sets:
        ours, seconds = measure_describe(see, source, images, some)
        theirs = Tally()
        for scene, read in zip(some, judge.read(images), strict=True):
            theirs.add(scene, read)
        read = theirs.scores()
        for attribute, score in ours.scores().items():
            judged = f"{read[attribute].accuracy:.3f}" if attribute in read else ""
            print(
                f"| {name} | {attribute} | {score.accuracy:.3f} ± {score.error:.3f} | {score.n} "
                f"| {judged} |"
            )
        print(f"{name}: {seconds:.2f} s a picture", flush=True)


if __name__ == "__main__":
    main()
