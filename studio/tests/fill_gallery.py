"""Fills a data folder with pictures for measure_budgets.ts: real files, thumbnails and rows, all
different, written by the server's own store.

python studio/tests/fill_gallery.py FOLDER [COUNT]: the folder is new, or its server is ended."""

import json
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

SIDE = 128  # pixels, as the bundled model draws
PART = 250  # pictures that one process writes at a time
SUBJECTS = ("cat", "rocket", "whale", "star", "fox", "mushroom", "robot", "tree")
PLACES = ("in space", "in a forest", "at sunset", "in the ocean", "in a night city")
STYLES = ("a neon", "a pixel art", "a small blue", "a sketched", "a red")
INFOTEXT = (
    "{prompt}\nSteps: 20, Sampler: DPM++ 2M, CFG scale: 4.0, Seed: {seed}, Size: 128x128, "
    "Model: fromnoise, Version: fromnoise, Schedule type: Karras, Negative prompt: blurry"
)


@dataclass(frozen=True)
class DoneJob:
    """What make_row reads of a job."""

    id: str
    client: str
    model: str
    request: str


def paint(number: int) -> "Image.Image":
    """A picture of some shapes; every number has its own."""
    from PIL import Image, ImageDraw

    chance = random.Random(number)
    colour = lambda: tuple(chance.randrange(256) for _ in range(3))  # noqa: E731
    picture = Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")
    picture = Image.blend(picture, Image.new("RGB", picture.size, colour()), 0.7)
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, side = (chance.randrange(SIDE) for _ in "xys")
        shape = chance.choice([pen.ellipse, pen.rectangle])
        shape((x, y, x + side // 2, y + side // 2), fill=colour(), outline=colour())
    return picture


def write_rows(folder: Path, numbers: range) -> list[dict[str, Any]]:
    """Writes the files of some pictures; their rows."""
    from fromnoise.serve.store.files import Files
    from fromnoise.serve.store.gallery import make_row

    files, rows = Files(folder), []
    for number in numbers:
        chance = random.Random(number)
        prompt = " ".join(chance.choice(words) for words in (STYLES, SUBJECTS, PLACES))
        settings = {"prompt": prompt, "negative_prompt": "blurry", "steps": 20, "cfg": 4.0}
        settings |= {"sampler": "dpmpp_2m", "spacing": "karras", "width": SIDE, "height": SIDE}
        settings |= {"seed": number, "count": 1}
        job = DoneJob(f"{number:032x}", "local", "fromnoise", json.dumps(settings))
        text = INFOTEXT.format(prompt=prompt, seed=number)
        picture = paint(number)
        picture.info["parameters"] = text
        file = files.add_picture(picture)
        files.thumbnail(file[0])
        rows.append(make_row(job, 0, number, picture.size, file, text))
    return rows


def main(folder: Path, count: int) -> None:
    """Writes the pictures and their rows."""
    from sqlalchemy import insert

    from fromnoise.serve.database.opening import open_database
    from fromnoise.serve.database.tables import pictures
    from fromnoise.serve.settings import Settings

    engine = open_database(Settings(folder).url)
    parts = [range(i, min(i + PART, count)) for i in range(0, count, PART)]
    with ProcessPoolExecutor(2) as pool, engine.begin() as connection:
        for rows in pool.map(write_rows, [folder] * len(parts), parts):
            connection.execute(insert(pictures), rows)
    engine.dispose()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
