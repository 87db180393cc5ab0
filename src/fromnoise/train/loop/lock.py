"""One training a folder: a lock that the system itself releases when its process ends."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fromnoise.errors import BadInput

FILE = ".lock"


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Inside it no other process can train in `folder`. Raises BadInput when one already does.

    The lock belongs to the open file, not to the file's existence: a file that a killed process
    left is no lock. The file holds the number of the process for the error message. Temporary files
    that a killed process left in the folder are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
            raise BadInput(
                f"another training is at work in {folder} (process {process})",
                "wait for it, stop it, or name another folder with --runs",
            ) from None
        except OSError as error:  # a file system without locks
            print(
                f"warning: {folder} cannot be locked ({error.strerror}); start no second training"
                " there",
                file=sys.stderr,
            )
        # a worker that outlives its killed parent must not keep the lock
        _close_in_children(handle)
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        except OSError:
            pass  # a full disk: the number is for a message only
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)
        yield
    finally:
        _HELD.discard(handle)
        os.close(handle)


_HELD: set[int] = set()  # handles that a forked child closes
_REGISTERED: list[bool] = []


def _close_in_children(handle: int) -> None:
    _HELD.add(handle)
    if not _REGISTERED:
        os.register_at_fork(after_in_child=_close_held)
        _REGISTERED.append(True)


def _close_held() -> None:
    while _HELD:
        os.close(_HELD.pop())
