"""The SHA-256 of a model's file. That of a large file takes seconds, so it is kept for the next
start, until the file changes."""

import hashlib
import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from fromnoise.checkpoints.configs import open_file, parse_json, read_bytes
from fromnoise.errors import FromnoiseError
from fromnoise.files import write_file

LARGE = 256 << 20  # bytes from which a hash is worth keeping
BYTES = 1 << 20  # of the file that keeps them
KEPT = 1_000  # hashes, the last ones
SETTLED = 2_000_000_000  # ns since the last change: a file of the same time may still be written


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, 64 digits; A1111 calls its first ten the model's hash."""
    before = identify(path)
    large = before[0] >= LARGE
    if large and (known := read_kept().get(str(path.resolve()))) and known[:-1] == before:
        return str(known[-1])
    with open_file(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if large and identify(path) == before and time.time_ns() - before[1] > SETTLED:
        keep(path, [*before, digest])
    return digest


def identify(path: Path) -> list[int]:
    """What changes with a file's content: its size, the times of its last changes, its place."""
    with open_file(path) as file:
        state = os.fstat(file.fileno())
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def find_place() -> Path:
    """Where the hashes are kept: $XDG_CACHE_HOME, else ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fromnoise" / "hashes.json"


def read_kept() -> dict[str, list]:
    """path → [what `identify` gives, the hash]. A file that says anything else keeps nothing."""
    place = find_place()
    if not place.is_file():
        return {}
    try:
        values = parse_json(read_bytes(place, BYTES), place)
    except FromnoiseError:
        return {}
    return {path: value for path, value in values.items() if is_entry(value)}


def is_entry(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 5:
        return False
    *numbers, digest = value
    known = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
    return bool(known) and all(type(number) is int for number in numbers)


def keep(path: Path, entry: list) -> None:
    """Writes the hash down; where that is not possible, it is computed again the next time."""
    values = {**read_kept(), str(path.resolve()): entry}
    text = json.dumps(dict([*values.items()][-KEPT:]), ensure_ascii=False, indent=0)
    with suppress(FromnoiseError, OSError):
        write_file(find_place(), lambda part: part.write_text(text, "utf-8"))
