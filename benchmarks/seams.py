"""Whether an edit's borders can be seen: gradients across them, as multiples of the pictures' own.

python benchmarks/seams.py [inpaint] [extend] [tiling] [--model FOLDER] [--n 40] [--steps 12]
[--device cpu]
    [--out FOLDER]
Pictures are drawn from captions of the model's source and edited with the same caption, at an
edit's usual settings but for what a row names. A border's gradient is the mean |difference| of all
pairs of neighbouring pixels of the result that it parts. "own": over the mean |difference| of all
pairs of neighbours in the picture before; "before": over the same pairs in the picture before,
where there are any; "near": over the pairs of the result that lie within 3 pixels of the border on
either side, but are not parted by it. All are ratios of sums over n pictures, with their standard
error. "autoencoder" puts what the autoencoder alone makes of a picture inside of the mask;
"nothing" is the picture before."""

import argparse
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.data.sources import open_source
from fromnoise.evaluate import faithfulness
from fromnoise.pipeline.editing.edit import Canvas, composite
from fromnoise.pipeline.encoding import encode_picture

FIRST = faithfulness.SEEDS + 90_000_000  # captions that no evaluation draws
INPAINT = {"usual": {}, "mask_blur 0": {"mask_blur": 0.0}}
EXTEND = {"usual": {}, "mask_blur 0": {"mask_blur": 0.0}}
BORDERS = {"left": 48, "right": 16, "top": 32, "bottom": 0}
# gradient across the border; of the whole picture before; across the same pairs then; near the
# border
Row = tuple[float, float, float, float]


def measure_differences(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|difference| of every pair of neighbours, down and across, of an array (H, W, …), the mean
    over its channels."""
    values = pixels.astype(float).reshape(*pixels.shape[:2], -1)
    return np.abs(np.diff(values, axis=0)).mean(-1), np.abs(np.diff(values, axis=1)).mean(-1)


def measure_across(pixels: np.ndarray, inside: np.ndarray) -> float:
    """The mean |difference| of the pairs of which one lies inside."""
    parted = [step > 0 for step in measure_differences(inside)]
    return float(
        np.concatenate(
            [s[p] for s, p in zip(measure_differences(pixels), parted, strict=True)]
        ).mean()
    )


def measure_near(pixels: np.ndarray, inside: np.ndarray) -> float:
    """The mean |difference| of the pairs that lie wholly inside or outside and within 3 pixels of
    the border."""
    image = Image.fromarray(255 * inside.astype(np.uint8))
    band = np.asarray(image.filter(ImageFilter.MaxFilter(7))) != np.asarray(
        image.filter(ImageFilter.MinFilter(7))
    )
    pairs = [band[1:] & band[:-1], band[:, 1:] & band[:, :-1]]
    parted = [step > 0 for step in measure_differences(inside)]
    chosen = [s[p & ~q] for s, p, q in zip(measure_differences(pixels), pairs, parted, strict=True)]
    return float(np.concatenate(chosen).mean())


def measure_whole(pixels: np.ndarray) -> float:
    return float(np.concatenate([s.ravel() for s in measure_differences(pixels)]).mean())


def compute_ratio(a: np.ndarray, b: np.ndarray) -> str:
    """Σa/Σb and its standard error over pictures."""
    value = a.sum() / b.sum()
    return f"{value:.2f} ± {(a - value * b).std(ddof=1) * len(a) ** 0.5 / b.sum():.2f}"


def make_mask(kind: str, width: int, height: int, chance: np.random.Generator) -> Image.Image:
    """By lot: a box, an ellipse, or a stroke of a round brush."""
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    size = chance.uniform(0.2, 0.6, 2) * (width, height)
    corner = chance.uniform(0.05, 0.95 - size / (width, height)) * (width, height)
    bounds = [*corner, *(corner + size)]
    if kind == "stroke":
        brush = chance.uniform(0.06, 0.12) * width
        ends = chance.uniform(0.15, 0.85, (4, 2)) * (width, height)
        for start, end in pairwise(ends):
            for t in np.linspace(0, 1, 2 * width):
                x, y = start + t * (end - start)
                draw.ellipse((x - brush, y - brush, x + brush, y + brush), 255)
    else:
        (draw.rectangle if kind == "box" else draw.ellipse)(bounds, 255)
    return mask


def draw_pictures(engine: Engine, n: int, steps: int) -> Iterator[tuple[str, int, Image.Image]]:
    """(caption, seed, picture), as the model draws it."""
    for scene in faithfulness.choose_scenes(
        open_source("stickers", size=engine.model.size), n, seed=FIRST
    ):
        yield (
            scene.sample.caption,
            scene.seed,
            take_single(engine.generate(scene.sample.caption, seed=scene.seed, steps=steps)),
        )


def take_single(found: Image.Image | list[Image.Image]) -> Image.Image:
    assert isinstance(found, Image.Image)
    return found


@torch.inference_mode()
def reconstruct(engine: Engine, picture: Image.Image) -> Image.Image:
    return engine.pictures(encode_picture(engine.model, picture))[0]


def print_table(
    title: str, rows: dict[str, list[Row]], keep: Callable[[int], bool] = lambda i: True
) -> None:
    print(f"\n{title:<28}{'own':>14}{'before':>14}{'near':>14}")
    for name, found in rows.items():
        edge, *others = np.array([row for i, row in enumerate(found) if keep(i)]).T
        print(
            f"{name:<28}"
            + "".join(f"{'–' if np.isnan(o).any() else compute_ratio(edge, o):>14}" for o in others)
        )


def inpaint(engine: Engine, n: int, steps: int, out: Path | None) -> None:
    kinds, chance = ("box", "ellipse", "stroke"), np.random.default_rng(0)
    rows: dict[str, list[Row]] = {name: [] for name in ("nothing", "autoencoder", *INPAINT)}
    for i, (caption, seed, picture) in enumerate(draw_pictures(engine, n, steps)):
        mask, before = make_mask(kinds[i % 3], *picture.size, chance), np.asarray(picture)
        inside, area = np.asarray(mask) > 0, (0, 0, *picture.size)
        on = Canvas(picture, area, picture, mask, mask)
        found = {
            "nothing": picture,
            "autoencoder": composite(on, reconstruct(engine, picture), 0),
        }
        for name, settings in INPAINT.items():
            found[name] = take_single(
                engine.edit(picture, caption, mask, seed=seed + 1, steps=steps, **settings)
            )
        for name, after in found.items():
            pixels = np.asarray(after)
            rows[name].append(
                (
                    measure_across(pixels, inside),
                    measure_whole(before),
                    measure_across(before, inside),
                    measure_near(pixels, inside),
                )
            )
        show(out, f"inpaint-{i:02}", [picture, mask.convert("RGB"), *found.values()])
    print_table(f"inpaint, n = {n}", rows)
    for k, kind in enumerate(kinds):
        print_table(f"  {kind}", rows, lambda i, k=k: i % 3 == k)


def extend(engine: Engine, n: int, steps: int, out: Path | None) -> None:
    rows: dict[str, list[Row]] = {name: [] for name in EXTEND}
    for i, (caption, seed, picture) in enumerate(draw_pictures(engine, n, steps)):
        before, sides = (
            np.asarray(picture),
            {f"extend_{side}": pixels for side, pixels in BORDERS.items()},
        )
        found = {
            name: take_single(
                engine.edit(picture, caption, seed=seed + 1, steps=steps, **sides, **settings)
            )
            for name, settings in EXTEND.items()
        }
        for name, after in found.items():
            inside = np.ones((after.height, after.width), bool)
            left, top = BORDERS["left"], BORDERS["top"]
            inside[top : top + picture.height, left : left + picture.width] = False
            pixels = np.asarray(after)
            rows[name].append(
                (
                    measure_across(pixels, inside),
                    measure_whole(before),
                    float("nan"),
                    measure_near(pixels, inside),
                )
            )
        show(out, f"extend-{i:02}", [picture, *found.values()])
    print_table(f"extend, n = {n}", rows)


def tiling(engine: Engine, n: int, steps: int, out: Path | None) -> None:
    rows: dict[str, list[Row]] = {name: [] for name in ("none", "both")}
    for i, (caption, seed, picture) in enumerate(draw_pictures(engine, n, steps)):
        seamless = take_single(engine.generate(caption, seed=seed, steps=steps, tiling="both"))
        for name, after in (("none", picture), ("both", seamless)):
            pixels = np.asarray(after).astype(float)
            wrapped = [
                np.abs(pixels[0] - pixels[-1]).mean(-1),
                np.abs(pixels[:, 0] - pixels[:, -1]).mean(-1),
            ]
            rows[name].append(
                (
                    float(np.concatenate(wrapped).mean()),
                    measure_whole(pixels),
                    float("nan"),
                    float("nan"),
                )
            )
        show(out, f"tiling-{i:02}", [picture, seamless])
    print_table(f"tiling, n = {n}", rows)


def show(out: Path | None, name: str, pictures: list[Image.Image]) -> None:
    """All of them side by side in a file, if there is a folder for it."""
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    sheet = Image.new(
        "RGB", (sum(p.width + 4 for p in pictures), max(p.height for p in pictures)), "white"
    )
    x = 0
    for picture in pictures:
        sheet.paste(picture, (x, 0))
        x += picture.width + 4
    sheet.save(out / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("sets", nargs="*", default=["inpaint", "extend", "tiling"])
    parser.add_argument("--model")
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="a folder for the pictures, side by side")
    args = parser.parse_args()
    engine, sets = (
        load(args.model, args.device),
        {"inpaint": inpaint, "extend": extend, "tiling": tiling},
    )
    for name in args.sets:
        sets[name](engine, args.n, args.steps, args.out)


if __name__ == "__main__":
    main()
