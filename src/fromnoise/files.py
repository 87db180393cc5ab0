"""Files that are written whole or not at all: beside their place first, then renamed."""

import os
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

from fromnoise.errors import BadInput

REMEDY = "choose another place with --out"


def write_file(
    path: Path, write: Callable[[Path], object], *, overwrite: bool = True, remedy: str = REMEDY
) -> Path:
    """Calls `write` with a new file beside `path`, then gives that file its name. Returns the path.

    A crash, a signal or a full disk at any moment leaves what was there before as it was.
    `overwrite=False` is for a name that the program chose: where it is taken, a number is added
    ("cat-7-2.png"). A symbolic link is followed; a device or a pipe is written in place.
    Raises BadInput with `remedy` where the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            if path.is_dir():
                raise IsADirectoryError(21, "it is a folder")
            write(path)
            return path
        target = path.resolve() if path.is_symlink() else path
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
        os.close(handle)
        part = Path(name)
        try:
            write(part)
            _sync(part)
            part.chmod(_mode(target))
            if overwrite:
                part.replace(target)
                return path
            return _link_new(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}", remedy) from error


def check_writable(path: Path, remedy: str = REMEDY) -> None:
    """Raises BadInput where `write_file(path, …)` would fail: to be asked before the long work.

    It makes the folders of the path, and a file in the last one that it removes again.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        if path.exists() and not path.is_file():
            return
        path.parent.mkdir(parents=True, exist_ok=True)

        if len(os.fsencode(path.name)) > os.pathconf(path.parent, "PC_NAME_MAX"):
            raise OSError(36, "its name is too long")
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}", remedy) from error


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _mode(path: Path) -> int:
    """The permissions of the file that is replaced, or those that a new file has."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _link_new(part: Path, path: Path) -> Path:
    """Gives `part` the first free name among path, path-2, path-3, …; no other process can take
    the same one."""
    for number in count(1):
        free = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            os.link(part, free)
            return free
        except FileExistsError:
            continue
    raise AssertionError
