"""Which files the tab has: for the test that they are those of the repository."""

from hashlib import sha256
from pathlib import Path


def hash_files(paths: list[str]) -> list[str]:
    return [sha256(Path(path).read_bytes()).hexdigest() for path in paths]
