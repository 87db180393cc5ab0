"""Are pictures of mixed settings drawn again to the bit from what their files say? All samplers,
all ways to draw.

python benchmarks/replays.py [--model FOLDER] [--n 200] [--seed 4] Every picture is written to a
file and replayed from it; what is not identical is listed, with its settings."""

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.data.sources import open_source
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.errors import FromnoiseError
from fromnoise.evaluate import faithfulness
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture

FIRST = faithfulness.SEEDS + 60_000_000  # captions that no evaluation draws
KINDS = ("generate",) * 4 + ("edit", "mask", "extend", "hires", "blend")


def choose_settings(chance: random.Random, sampler: str) -> dict[str, Any]:
    def maybe(share: float, **values: Any) -> dict[str, Any]:
        return values if chance.random() < share else {}

    spacing = chance.choice(
        ["karras", "exponential", "sgm_uniform", "beta", "trailing", "ddim", "kl_optimal"]
    )
    return {
        "seed": chance.randrange(2**40),
        "steps": chance.choice([2, 3, 4, 6]),
        "sampler": sampler,
        "cfg": chance.choice([1.0, 2.5, 4.0]),
        **maybe(0.5, spacing=spacing),
        **maybe(0.3, negative_prompt="blurry, red"),
        **maybe(0.2, tiling=chance.choice(["x", "y", "both"])),
        **maybe(0.2, variation_seed=chance.randrange(99), variation_strength=chance.random()),
        **maybe(0.15, cfg_rescale=0.7),
        **maybe(0.15, apg=True, apg_momentum=-0.5),
        **maybe(0.1, rng="nv"),
        **maybe(0.1, clip_skip=2),
        **maybe(0.1, noise_scaling="sigma_max"),
    }


def choose_words(chance: random.Random, caption: str) -> str:
    last = caption.split()[-1]
    if chance.random() < 0.3:
        caption = caption.replace(last, f"({last}:1.2)")
    more = ["", "", "", " AND a star :0.5", " [blue|red]", " [:gold:0.5]", "\nNegative prompt: x"]
    return caption + chance.choice(more)


def draw_picture(
    engine: Engine,
    kind: str,
    prompt: str,
    own: dict[str, Any],
    chance: random.Random,
    given: dict[str, Path],
):
    """A picture of that kind; given: the files that it is made from, as `replay` takes them."""
    if kind == "generate":
        return engine.generate(prompt, **own)
    if kind == "hires":
        scaler = chance.choice(["Latent", "Lanczos", "Latent (nearest)"])
        return engine.hires(prompt, hires_scale=1.5, hires_upscaler=scaler, **own)
    if kind == "blend":
        return engine.blend(given["image"], given["image2"], prompt, weight=chance.random(), **own)
    if kind == "mask":
        blur, content = chance.choice([0, 4]), chance.choice(["original", "fill", "noise"])
        inside = "tiling" not in own and chance.random() < 0.4
        return engine.edit(
            given["image"],
            prompt,
            given["mask"],
            strength=chance.choice([0.4, 0.8, 1.0]),
            mask_blur=blur,
            content=content,
            only_masked=inside,
            **own,
        )
    if kind == "extend":
        return engine.edit(given["image"], prompt, extend_left=chance.choice([16, 32]), **own)
    return engine.edit(given["image"], prompt, strength=chance.choice([0.3, 0.6]), **own)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=4)
    args = parser.parse_args()
    engine, chance, said = load(args.model), random.Random(args.seed), Counter()
    source, names = open_source("stickers", size=engine.model.size), list(SAMPLERS)
    with tempfile.TemporaryDirectory() as place:
        folder, side = Path(place), engine.model.size
        for i in range(args.n):
            kind, prompt = (
                chance.choice(KINDS),
                choose_words(chance, source.sample(FIRST + i, draw=False).caption),
            )
            own, given = choose_settings(chance, names[i % len(names)]), {}
            for name in {
                "edit": ["image"],
                "mask": ["image", "mask"],
                "extend": ["image"],
                "blend": ["image", "image2"],
            }.get(kind, []):
                given[name] = folder / f"{name}.png"
                if name == "mask":
                    mask, corner = (
                        Image.new("L", (side, side)),
                        [chance.randrange(2 * side // 3) for _ in "xy"],
                    )
                    ends = [c + chance.randrange(8, side // 2) for c in corner]
                    ImageDraw.Draw(mask).ellipse((*corner, *ends), 255)
                    mask.save(given[name])
                else:
                    pixels = source.sample(FIRST + i + 1000 * len(given)).image
                    Image.fromarray(pixels).save(given[name])
            try:
                path = save_picture(
                    draw_picture(engine, kind, prompt, own, chance, given), folder / "drawn.png"
                )
                verdict = replay(path, engine.model, engine.unet, **given).verdict
            except FromnoiseError as error:
                verdict = str(error)
            said[kind, verdict if verdict in ("identical", "near", "different") else "refused"] += 1
            if verdict != "identical":
                print(f"{kind}: {verdict}\n  {prompt!r} {own}", flush=True)
    for (kind, verdict), count in sorted(said.items()):
        print(f"{kind:>9}: {count:3} {verdict}")
    print(
        f"identical: {sum(n for (_, verdict), n in said.items() if verdict == 'identical')} "
        f"of {args.n}"
    )


if __name__ == "__main__":
    main()
