"""Folders of files that belong together, written without overwriting any file."""

import os
import shutil
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
