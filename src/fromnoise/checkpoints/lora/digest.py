"""What A1111 names a LoRA's file by. No torch."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from fromnoise.checkpoints.configs import open_file

PIECE = 1 << 20  # bytes that are hashed at once


def read_digest(path: Path) -> str:
    """12 signs of the SHA-256 of all behind a safetensors header, so that a changed title is no
    other file; or of the whole of a file of another kind. Raises NotFound and BadCheckpoint."""
    with open_file(path) as file:
        status = os.fstat(file.fileno())
    return _hash(path, status.st_mtime_ns, status.st_size)


@lru_cache(64)
def _hash(path: Path, changed: int, size: int) -> str:
    total = hashlib.sha256()
    with open_file(path) as file:
        start = file.read(9)
        file.seek(8 + int.from_bytes(start[:8], "little") if start[8:] == b"{" else 0)
        while piece := file.read(PIECE):
            total.update(piece)
    return total.hexdigest()[:12]
