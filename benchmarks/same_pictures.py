"""Does a change of the code keep every bit? Hashes of pictures of mixed settings, to be compared
before and after.

python benchmarks/same_pictures.py --write before.json     (with the old code) python
benchmarks/same_pictures.py --compare before.json   (with the new code; exits with 1 where a picture
differs)

It draws with every sampler, with every way to edit, in two passes, films and blends. Bits depend on
the processor and on PyTorch, so a list holds for one machine."""

import argparse
import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

from PIL import Image, ImageDraw

from fromnoise import load
from fromnoise.diffusion.samplers import SAMPLERS

PROMPTS = [
    "a neon cat in space",
    "two (green:1.2) silhouette roosters in a meadow",
    "a [red|blue] star, sketch",
    "a pixel art fish AND a snowy night :0.6",
    "a [small:large:0.5] castle at sunset",
    "a cat, " * 30 + "in a forest",
    "a rocket BREAK in the desert",
]
SPACINGS = [None, "karras", "exponential", "sgm_uniform", "beta", "trailing", "ddim"]


def make_picture(size: int, seed: int) -> Image.Image:
    """A drawing of discs on a plain colour."""
    chance = random.Random(seed)
    drawing = Image.new("RGB", (size, size), tuple(chance.randrange(256) for _ in range(3)))
    for _ in range(5):
        x, y, r = chance.randrange(size), chance.randrange(size), chance.randrange(5, size // 3)
        colour = tuple(chance.randrange(256) for _ in range(3))
        ImageDraw.Draw(drawing).ellipse((x - r, y - r, x + r, y + r), colour)
    return drawing


def make_mask(size: int) -> Image.Image:
    drawing = Image.new("L", (size, size))
    ImageDraw.Draw(drawing).ellipse((size // 4, size // 4, size // 2 + 9, size // 2 + 20), 255)
    return drawing


def draw_all() -> dict[str, str]:
    """What was drawn → the SHA-256 of its pixels."""
    engine, hashes = load(), {}
    size = engine.model.size
    before, painted = make_picture(size, 1), make_mask(size)

    def keep(name: str, drawn: Image.Image | list[Image.Image]) -> None:
        for i, one in enumerate(drawn if isinstance(drawn, list) else [drawn]):
            hashes[f"{name} #{i}"] = hashlib.sha256(one.tobytes()).hexdigest()
        print(name, file=sys.stderr, flush=True)

    for sampler in SAMPLERS:
        i = crc32(sampler.encode())  # its own, whatever samplers are added beside it
        prompt, spacing = PROMPTS[i % len(PROMPTS)], SPACINGS[i % len(SPACINGS)]
        own: dict[str, Any] = {"sampler": sampler, "steps": 3, "seed": i, "cfg": 4.0}
        spaced = own | ({} if spacing is None else {"spacing": spacing})
        keep(f"generate {sampler}", engine.generate(prompt, count=1 + (i % 5 == 0), **spaced))
        keep(f"edit {sampler}", engine.edit(before, prompt, strength=0.7, **own))
        if i % 3 == 0:
            keep(
                f"inpaint {sampler}",
                engine.edit(before, prompt, painted, strength=0.9, mask_blur=i % 2 * 4, **own),
            )
        if i % 4 == 0:
            keep(f"hires {sampler}", engine.hires(prompt, hires_scale=1.5, **own))
    own = {"steps": 3, "seed": 7}
    for content in ("original", "fill", "noise"):
        keep(
            f"content {content}",
            engine.edit(before, "a cat", painted, content=content, strength=1.0, **own),
        )
    keep("only masked", engine.edit(before, "a cat", painted, only_masked=True, **own))
    keep("extend", engine.edit(before, "a cat", extend_left=32, **own))
    keep(
        "resize",
        engine.edit(
            before.resize((100, 80)), "a cat", width=size, height=size, resize="fill", **own
        ),
    )
    for dialect, prompt in (("comfy", "a (neon:1.3) cat"), ("compel", "a (neon)1.3 cat")):
        keep(f"dialect {dialect}", engine.generate(prompt, dialect=dialect, **own))
    for name, more in {
        "tiling": {"tiling": "both"},
        "apg": {"apg": True, "apg_momentum": -0.5},
        "rescale": {"cfg_rescale": 0.7},
        "nv": {"rng": "nv"},
        "clip skip": {"clip_skip": 2},
        "variation": {"variation_seed": 3, "variation_strength": 0.4},
        "negative": {"negative_prompt": "blurry, red", "cfg": 3.0, "cfg_sigma_max": 1e9},
        "cfg 1": {"cfg": 1.0},
        "call": {"prompt_steps": "call"},
        "sigma_max": {"noise_scaling": "sigma_max"},
        "wide": {"width": size + 64},
        "long negative": {"negative_prompt": "blurry, " * 60, "cfg": 3.0},
    }.items():
        keep(name, engine.generate("a [red:blue:2] neon cat", **own, **more))
    keep(
        "hires Lanczos",
        engine.hires("a neon cat", hires_upscaler="Lanczos", hires_strength=0.3, **own),
    )
    keep("film", engine.film(["a red cat", "a blue dog"], frames=4, **own))
    keep(
        "film, slerp",
        engine.film(["a red cat", "a blue dog"], frames=3, blend="slerp", loop=True, **own),
    )
    keep("blend", engine.blend(before, make_picture(size, 2), "a cat", **own))
    keep("blend, CLIP", engine.blend(before, make_picture(size, 2), "a cat", clip_scale=2.0, **own))
    keep("trace", engine.trace("a neon cat", **own)[0])
    return hashes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", type=Path)
    group.add_argument("--compare", type=Path)
    args = parser.parse_args()
    now = draw_all()
    if args.write:
        args.write.write_text(json.dumps(now, indent=1) + "\n")
        print(f"{len(now)} pictures")
        return
    before = json.loads(args.compare.read_text())
    other = [name for name, bits in before.items() if now.get(name) != bits]
    print(
        *sorted(other),
        f"{len(before) - len(other)} of {len(before)} pictures have the bits of before; "
        f"{len(now.keys() - before.keys())} are new",
        sep="\n",
    )
    sys.exit(bool(other))


if __name__ == "__main__":
    main()
