"""Writes studio/generated/python/: the Python files that run in the tab, as one archive.

From src/ they are the files themselves, byte for byte: the samplers, the errors and the room
`learn`. From studio/python/ come the stand-in for torch and what the worker calls. The mentor's
index is built here, because that takes seconds in a tab. The same files give the same archive."""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fromnoise.learn.mentor.index import PREBUILT, load_index

STUDIO = Path(__file__).parents[1]
SOURCE = STUDIO.parent / "src/fromnoise"
FOLDER = STUDIO / "generated/python"


def list_files() -> Iterator[tuple[str, Path]]:
    """(path in the archive, file)."""
    parts = [SOURCE / "__init__.py", SOURCE / "errors.py", SOURCE / "diffusion/__init__.py"]
    parts += (SOURCE / "diffusion/samplers").glob("*.py")
    parts += (file for file in (SOURCE / "learn").rglob("*") if is_wanted(file))
    for file in parts:
        yield f"fromnoise/{file.relative_to(SOURCE).as_posix()}", file
    for file in (STUDIO / "python").rglob("*.py"):
        yield file.relative_to(STUDIO / "python").as_posix(), file


def is_wanted(file: Path) -> bool:
    place = file.relative_to(SOURCE / "learn").parts
    return file.is_file() and "__pycache__" not in place and place[0] != "site"


def write_archive() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "fromnoise.zip"
    contents = {name: file.read_bytes() for name, file in list_files()}
    index = f"fromnoise/{PREBUILT.relative_to(SOURCE).as_posix()}"
    contents[index] = load_index().export().encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, contents[name], zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (FOLDER / "manifest.json").write_text(json.dumps({path.name: entry}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_archive()
