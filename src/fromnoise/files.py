"""Files that are written whole or not at all: beside their place first, then renamed."""

import errno
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from fromnoise.errors import BadInput

REMEDY = "choose another place with --out"
PREFIX, SUFFIX = ".fromnoise-", ".part"  # of the name that a file has while it is written


def write_file(
    path: Path, write: Callable[[Path], object], *, overwrite: bool = True, remedy: str = REMEDY
) -> Path:
    """Calls `write` with a new file beside `path`, then gives that file its name. Returns the path.

    A crash, a signal or a full disk at any moment leaves what was there before as it was.
    `overwrite=False` is for a name that the program chose: where it is taken, a number is added
    ("cat-7-2.png"), unless the file there has the very same bytes, or is cut off and has the first
    of them. A link is followed; a device gets all bytes at once. Raises BadInput with `remedy`."""
    try:
        if path.is_dir() and overwrite:
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if path.exists() and not path.is_file() and not path.is_dir():
            from fromnoise.rare_files import write_device

            return write_device(path, write)
        target = path.resolve() if path.is_symlink() else path
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_parts(target.parent)
        handle, name = tempfile.mkstemp(SUFFIX, PREFIX, target.parent)
        os.close(handle)
        part = Path(name)
        try:
            write(part)
            sync(part)
            part.chmod(find_mode(target))
            if overwrite:
                part.replace(target)
                return path
            try:
                os.link(part, path)
                return path
            except OSError:  # the name is taken, or the file system has no links
                from fromnoise.rare_files import take_free_name

                return take_free_name(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}", remedy) from error


@cache  # once in a process and folder
def remove_stale_parts(folder: Path) -> None:
    """Removes the hidden files that killed runs left in a folder long ago."""
    if parts := [*folder.glob(f"{PREFIX}*{SUFFIX}")]:
        from fromnoise.rare_files import remove_stale

        remove_stale(parts)


def sync(path: Path) -> None:
    """Waits until the file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def find_mode(path: Path, new: int = 0o666) -> int:
    """The permissions of what is replaced, or those of a new file (or folder: 0o777)."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return new & ~mask
