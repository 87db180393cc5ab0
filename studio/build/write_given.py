"""Writes studio/src/given/*.webp: the pictures that explorables offer. They are drawn by the source
of stickers, and no model saw their seeds. The files are committed, because the font that draws them
is not on every machine: run this only to change the choice."""

from pathlib import Path

from PIL import Image

from fromnoise.data.sources.stickers import Stickers

FOLDER = Path(__file__).parents[1] / "src/given"
FIRST = 5_000_000_000  # seeds that no training and no measurement uses
CHOICE = {
    "unicorn": 307,
    "octopus": 28,
    "flamingo": 252,
    "whale": 189,
    "boot": 371,
    "turtle": 172,
}

if __name__ == "__main__":
    source = Stickers()
    for name, seed in CHOICE.items():
        picture = source.sample(FIRST + seed).image
        assert picture is not None
        Image.fromarray(picture).save(FOLDER / f"{name}.webp", lossless=True, method=6)
