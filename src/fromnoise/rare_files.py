"""What writing a file does not need each time: questions before the work, devices, taken names."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from fromnoise.errors import BadInput

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
STALE = 2 * 24 * 3600  # seconds without a change: the run that wrote such a file was killed


def check_writable(path: Path, remedy: str = "choose another place with --out") -> None:
    """Raises BadInput where `write_file(path, …)` would fail, before the long work. It makes no
    folder; it makes a file in the last folder that is there, and removes it again."""
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if os.path.exists(path) and not os.path.isfile(path):
            return
        folder, missing = path.parent, [path.name]
        while not os.path.exists(folder):  # False also where a name is too long
            missing.append(folder.name)
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder")
        longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
        if any(len(os.fsencode(name)) > longest for name in missing):
            raise OSError(errno.ENAMETOOLONG, f"a name has more than {longest} bytes")
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}", remedy) from error


def list_names(path: Path, folder: bool = False) -> Iterator[Path]:
    """The names that the program tries one after the other: cat.png, cat-2.png, cat-3.png, …"""
    stem, suffix = (path.name, "") if folder else (path.stem, path.suffix)
    yield path
    yield from (path.with_name(f"{stem}-{number}{suffix}") for number in count(2))


def write_device(path: Path, write: Callable[[Path], object]) -> Path:
    """Writes a file elsewhere and copies its bytes to a device or a pipe, where nothing can go
    back."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        write(part)
        with part.open("rb") as source, path.open("wb") as device:
            shutil.copyfileobj(source, device)
    return path


def take_free_name(part: Path, path: Path) -> Path:
    """Gives `part` the first name that is free, or that has the same file or its beginning."""
    for place in list_names(path):
        with suppress(FileExistsError):
            move_new(part, place)
            return place
        if is_beginning(place, part, whole=True):
            return place
        if is_beginning(place, part):
            return part.replace(place)
    raise AssertionError


def move_new(part: Path, path: Path) -> None:
    """Moves a file to a free name; no other process can take the same one. Where the file system
    has no links, an empty file reserves the name. Raises FileExistsError."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        part.replace(path)


def is_beginning(path: Path, of: Path, whole: bool = False) -> bool:
    """Whether the file at `path` has the first bytes of another, or, if `whole`, all of them. An
    empty file is no beginning: another process may have just reserved it."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        size, full = path.stat().st_size, of.stat().st_size
        if not 0 < size <= full or (whole and size < full):
            return False
        with path.open("rb") as one, of.open("rb") as other:
            while piece := one.read(1 << 20):
                if piece != other.read(len(piece)):
                    return False
        return True
    except OSError:
        return False


def remove_stale(parts: list[Path]) -> None:
    """Removes hidden files and folders that killed runs left long ago."""
    for part in parts:
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
