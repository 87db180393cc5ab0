"""Runs the commands of README.md that draw its pictures, and stores these as WebP in docs/.

A comment `<!-- docs/NAME.webp: FILE … -->` after a block of commands names the files that these
commands write and the picture shows. Several files become one row.
"""

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
RUN = "from fromnoise.cli.main import main; main()"
# a block of commands, then a comment: the picture and the files that it shows
BLOCK = re.compile(r"```sh\n([^`]*)```\n+<!-- (docs/\S+): (.*?) -->")
GAP = 6  # pixels between the pictures of a row


def read_pictures(text: str) -> list[tuple[str, list[str], list[str]]]:
    """The README → (picture, the commands that draw it, their files) for each of its pictures."""
    pictures = []
    for block, picture, files in BLOCK.findall(text):
        commands = [line.partition(" #")[0].strip() for line in block.splitlines()]
        pictures.append((picture, commands, files.split()))
    return pictures


def join_row(pictures: list[Image.Image]) -> Image.Image:
    """Pictures side by side on white, all from the top."""
    width = sum(p.width for p in pictures) + GAP * (len(pictures) - 1)
    row, x = Image.new("RGB", (width, max(p.height for p in pictures)), "white"), 0
    for picture in pictures:
        row.paste(picture, (x, 0))
        x += picture.width + GAP
    return row


def main() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for picture, commands, files in read_pictures(readme):
        with tempfile.TemporaryDirectory() as folder:
            for command in commands:
                run = [sys.executable, "-c", RUN, *shlex.split(command)[1:]]
                subprocess.run(run, cwd=folder, check=True)
            row = join_row([Image.open(Path(folder, name)).convert("RGB") for name in files])
        row.save(ROOT / picture, quality=85, method=6)
        print(picture, row.size, f"{(ROOT / picture).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
