"""Folders of files that belong together: filled without overwriting any file, or replaced whole."""

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from fromnoise.errors import BadInput
from fromnoise.files import (
    PREFIX,
    REMEDY,
    SUFFIX,
    find_mode,
    remove_stale_parts,
    sync,
)
from fromnoise.rare_files import is_beginning, list_names, move_new

PLACE = "choose another place, or make room there"
EXCHANGE, HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


def write_folder(folder: Path, write: Callable[[Path], object], remedy: str = REMEDY) -> Path:
    """Calls `write` with an empty folder, then moves its files into `folder`. Returns the folder.

    No file is overwritten: where one of another content has the name of a new one, all go to
    "folder-2", "folder-3", … Files that are there with the very same bytes stay. Raises BadInput.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_parts(folder)
        part = Path(tempfile.mkdtemp(SUFFIX, PREFIX, folder))
        try:
            write(part)
            files = sorted(part.iterdir())
            for file in files:
                sync(file)
                file.chmod(find_mode(folder / file.name))
            place, taken = folder.resolve(), list[Path]()
            for place in list_names(folder.resolve(), folder=True):
                taken = [file for file in files if os.path.lexists(place / file.name)]
                if all(is_beginning(place / file.name, file, whole=True) for file in taken):
                    break
            place = folder if place == folder.resolve() else place
            place.mkdir(exist_ok=True)
            for file in files:
                if file not in taken:
                    move_new(file, place / file.name)
            return place
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise BadInput(f"cannot write {folder}: {error.strerror or error}", remedy) from error


def replace_folder(
    folder: Path, write: Callable[[Path], object], keep: Callable[[str], bool] | None = None
) -> None:
    """Calls `write` with a new folder beside `folder`, then gives that folder its name.

    A crash, a signal or a full disk at any moment leaves the old folder whole, or the new one. What
    `keep` says yes to (a name in the old folder) is copied into the new one. Raises BadInput where
    the folder cannot be written.
    """
    target = Path(folder).resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        repair(target)
        _remove_abandoned(target)
        prefix = f".{target.name}.{os.getpid()}."
        part = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=target.parent))
        try:
            part.chmod(find_mode(target, 0o777))
            write(part)
            for old in sorted(target.iterdir()) if keep and target.is_dir() else ():
                if keep and keep(old.name) and not (part / old.name).exists():
                    copy = shutil.copytree if old.is_dir() else shutil.copy2
                    copy(old, part / old.name)
            _swap(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)  # after the swap this is the old folder
    except OSError as error:
        raise BadInput(f"cannot write {folder}: {error.strerror or error}", PLACE) from error


def repair(folder: Path) -> None:
    """Puts a folder back whose replacement was interrupted between two renames."""
    old = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and old.is_dir():
        old.rename(folder)


def _swap(part: Path, target: Path) -> None:
    """Gives `part` the name of `target`, and the other way round where there is a target."""
    if not target.exists():
        part.rename(target)
    elif not _exchange(part, target):
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        part.rename(target)  # a crash before this line: see `repair`
        shutil.rmtree(old, ignore_errors=True)


def _exchange(part: Path, target: Path) -> bool:
    """Swaps two names at once, where the system can."""
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        names = os.fsencode(part), os.fsencode(target)
        return rename(HERE, names[0], HERE, names[1], EXCHANGE) == 0
    return False


def _remove_abandoned(target: Path) -> None:
    """Removes what a process that is gone has left of this folder."""
    for part in target.parent.glob(f".{target.name}.*.part"):
        pid = part.name.removeprefix(f".{target.name}.").split(".")[0]
        if part.is_dir() and pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(part, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
