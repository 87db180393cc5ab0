"""The pictures of add-ons: one beside the file, as A1111 and ComfyUI keep them, or the one in its
header (ModelSpec). They are foreign pictures: what leaves is made anew from their pixels."""

import base64
import binascii
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Collection
from functools import cache, lru_cache
from pathlib import Path

from fromnoise.checkpoints.configs import HEADER_BYTES
from fromnoise.checkpoints.headers import peek
from fromnoise.errors import BadInput, NotFound
from fromnoise.serve.settings import Limits
from fromnoise.serve.store.files import SMALL
from fromnoise.serve.store.uploads import read_apart

# the ends of a picture's name behind that of its file, the most telling first
ENDINGS = tuple(
    f"{word}.{kind}" for word in (".preview", "") for kind in ("png", "jpg", "jpeg", "webp")
)
EMBEDDED = "modelspec.thumbnail"  # the key of a header's metadata, with a data: address
IN_HEADER = re.compile(rb'"modelspec\.thumbnail"\s*:\s*"data:image/')
REMEDY = f"put one beside the file, with its name and {ENDINGS[0]}"
KEPT = 1_000  # small pictures in memory, of some kilobytes each
reading = threading.Lock()  # one process at a time unpacks a picture


def make_finder() -> Callable[[Path], bool]:
    """A function that says whether an add-on's file has a picture. It lists each folder once."""
    list_once = cache(list_names)
    return lambda path: bool(find_beside(path, list_once(path.parent)) or has_embedded(path))


def list_names(folder: Path) -> frozenset[str]:
    """The names in a folder; none where it cannot be read."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def find_beside(path: Path, names: Collection[str]) -> Path | None:
    """The picture beside a file: where it really lies, which is in the file's folder. names: those
    of the folder."""
    stem, folder = path.stem, path.parent.resolve()
    for name in (f"{stem}{end}" for end in ENDINGS if f"{stem}{end}" in names):
        place = (path.parent / name).resolve()
        if place.is_relative_to(folder) and place.is_file():
            return place
    return None


def has_embedded(path: Path) -> bool:
    """Whether a header holds a picture. Its bytes tell, which is a hundred times as fast as to read
    it: a folder may hold thousands of files."""
    try:
        status = path.stat()
        return _has_embedded(path, status.st_mtime_ns, status.st_size)
    except OSError:
        return False


@lru_cache(20_000)
def _has_embedded(path: Path, changed: int, size: int) -> bool:
    with path.open("rb") as file:
        start = file.read(9)
        if start[8:] != b"{":
            return False
        text = file.read(min(int.from_bytes(start[:8], "little"), HEADER_BYTES))
    return bool(IN_HEADER.search(text))


def read_picture(path: Path, most: int) -> bytes:
    """The bytes of the picture of an add-on's file. most: bytes. Raises NotFound and BadInput."""
    if place := find_beside(path, list_names(path.parent)):
        return read_file(place, most)
    embedded = peek(path).metadata.get(EMBEDDED, "") if has_embedded(path) else ""
    if not embedded:
        raise NotFound(f"{path.name} has no picture", REMEDY)
    try:
        return base64.b64decode(embedded.partition(";base64,")[2], validate=True)
    except binascii.Error:
        fault = f"the picture in the header of {path.name} cannot be read"
        raise BadInput(fault, REMEDY) from None


def read_file(place: Path, most: int) -> bytes:
    """The bytes of a regular file, which is no link. Raises NotFound and BadInput."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(place, flags)
    except OSError:
        raise NotFound(f"the picture {place.name} is gone", REMEDY) from None
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise NotFound(f"{place.name} is no regular file", REMEDY)
        data = file.read(most + 1)
    if len(data) > most:
        raise BadInput(f"the picture {place.name} has more than {most:,} bytes", "make it smaller")
    return data


def hash_picture(data: bytes) -> str:
    """The name of a picture's content, which browsers compare."""
    return hashlib.sha256(data).hexdigest()[:32]


class AddonPictures:
    """Small WebP pictures of add-ons, kept by the hash of the picture that they are made of."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.kept: dict[str, bytes] = {}

    def shrink(self, data: bytes) -> bytes:
        """A small WebP picture of a foreign picture's pixels, read in a process of its own. Raises
        BadInput."""
        digest = hash_picture(data)
        with reading:
            if digest not in self.kept:
                while len(self.kept) >= KEPT:
                    self.kept.pop(next(iter(self.kept)))
                self.kept[digest] = read_apart(data, self.limits, "thumbnail", side=SMALL)[0]
            return self.kept[digest]
