"""How much memory there is, and the allocator's ways with it."""

import ctypes
import math
import os
from typing import Any

import torch

# numbers of mallopt(3)
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
# by these the environment says how the C library allocates
TOLD = {"GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "LD_PRELOAD"}


def find_memory(device: torch.device) -> float:
    """Bytes of a device, all of them; infinite where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def keep_freed_memory() -> None:
    """Makes the C library keep up to 2 GB of what is freed. A step allocates as much as the step
    before it has freed; by default glibc gives that back to the system and asks anew, and new pages
    take a sixth of a step's time (benchmarks/true_sizes.py). Changes no bit. Does nothing where the
    C library is another one, or where the environment says how it allocates."""
    library = None if TOLD & os.environ.keys() else _load_glibc()
    if library is not None:
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(MMAP_THRESHOLD, 2**30)
        library.mallopt(ARENA_MAX, 1)  # those of other threads keep nothing


def release_freed_memory() -> None:
    """Gives what was kept back to the system, where the C library can."""
    if (library := _load_glibc()) is not None:
        library.malloc_trim(0)


def _load_glibc() -> Any:
    """The C library of this process if it is glibc, else None."""
    try:
        library = ctypes.CDLL(None)
        return library if library.gnu_get_libc_version else None
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        return None
