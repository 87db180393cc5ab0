"""Do word maps point? Pictures of the source under noise of the schedule's middle, on the bundled
model.

python benchmarks/word_maps.py [--model FOLDER] [--n 200] [--seed SEED] [--device cpu]
"""

import argparse

from fromnoise import load
from fromnoise.data.sources import open_source
from fromnoise.evaluate.word_maps import INSIDE, OUTSIDE, SEEDS, evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=SEEDS)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    engine = load(args.model, args.device)
    both = evaluate(
        engine,
        open_source("stickers", size=engine.model.size),
        "object",
        "background",
        args.n,
        args.seed,
    )
    print(
        f"{engine.model.source} {engine.model.digest}, n = {args.n}: "
        "intersection over union, ± standard error"
    )
    for name, level, found in zip(("object", "background"), (INSIDE, OUTSIDE), both, strict=True):
        own, other, above = (
            f"{mean:.3f} ± {error:.3f}" for mean, error in found.figures().values()
        )
        print(
            f"{name:>10} (over {level:g} of the range): {own}; another word {other}; "
            f"above it by {above}"
        )


if __name__ == "__main__":
    main()
