"""The latent cache: what networks make of a source's pictures, made once and kept on disk. The
U-Net trains on it."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fromnoise.data.loader import Batch, load_batches
from fromnoise.data.source import Source
from fromnoise.errors import BadInput
from fromnoise.files import write_file

CHUNK = 64  # pictures that are encoded at once
REMEDY = "free some space on this disk, then run the same command again: the cache goes on"


class LatentCache:
    """For each name of `shapes` an array (N, *shape) float16, and `ids` (N, L) int32,
    memory-mapped.

    `key` names what made them (source and networks). A cache of another key is made anew; a cache
    that a crash left is filled from where it stood. Raises BadInput when the disk cannot hold it.
    """

    def __init__(
        self, folder: Path, key: str, shapes: Mapping[str, tuple[int, ...]], length: int, count: int
    ):
        self.state, self.key, self.count = folder / "state.json", key, count
        files: dict[Path, tuple[type, tuple[int, ...]]] = {
            folder / f"{name}.f16": (np.float16, (count, *s)) for name, s in shapes.items()
        }
        files[folder / "ids.i32"] = (np.int32, (count, length))
        sizes = {
            path: int(np.dtype(kind).itemsize * np.prod(shape, dtype=object))
            for path, (kind, shape) in files.items()
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.filled = self._read_state(sizes)
        if not self.filled:
            # the state goes before its arrays, else a crash would leave a state that is not true
            for path in (self.state, *files):
                path.unlink(missing_ok=True)
        reserve(sizes)
        *self.arrays, self.ids = (
            np.memmap(path, kind, "r+", shape=shape) for path, (kind, shape) in files.items()
        )

    def _read_state(self, sizes: dict[Path, int]) -> int:
        """How many pictures are in the cache: 0 unless it is this key's and its files are whole."""
        try:
            state = json.loads(self.state.read_text("utf-8"))
            key, filled, count = state["key"], state["filled"], state["count"]
            if not (isinstance(key, str) and type(filled) is int and 0 <= filled <= count):
                raise ValueError("its numbers cannot be")
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            _warn(f"{self.state} is damaged ({error}); the cache is made anew")
            return 0
        if key != self.key:
            return 0
        for path, size in sizes.items():
            # the cache may have been made for another count
            if not path.is_file() or path.stat().st_size < size // self.count * filled:
                _warn(f"{path} is cut short; the cache is made anew")
                return 0
        return min(filled, self.count)

    def fill(
        self,
        source: Source,
        encode: Callable[[Batch], Iterable[Tensor]],
        tokenize: Callable[[str], list[int]],
        first: int = 0,
        workers: int = 0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Makes what is missing. `encode` gives a batch's rows of each array, in the order of
        `shapes`."""
        if self.filled < self.count:
            self.filled = self.filled // CHUNK * CHUNK  # batches begin at multiples of CHUNK
        stream = load_batches(source, CHUNK, self.filled // CHUNK, first=first, workers=workers)
        while self.filled < self.count:
            batch, end = next(stream), min(self.filled + CHUNK, self.count)
            with torch.inference_mode():
                for array, rows in zip(self.arrays, encode(batch), strict=True):
                    array[self.filled : end] = rows[: end - self.filled].cpu().numpy()
            self.ids[self.filled : end] = [tokenize(c) for c in batch.captions[: end - self.filled]]
            self.filled = end
            if end % (CHUNK * 16) == 0 or end == self.count:
                self._save()
            progress(end)

    def _save(self) -> None:
        """Writes the arrays to disk, then the state that says how much of them is filled."""
        for array in (*self.arrays, self.ids):
            array.flush()
        text = json.dumps({"key": self.key, "count": self.count, "filled": self.filled})
        write_file(self.state, lambda part: part.write_text(text, "utf-8"), remedy=REMEDY)

    def batches(
        self,
        size: int,
        step: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        device: str | torch.device = "cpu",
    ) -> Iterator[tuple[Tensor, ...]]:
        """Endless (rows of each array float32 (size, …), ids int64 (size, L)) from step `step` on.

        Each epoch has its own order. The tensors are on `device`. A cache that takes less than half
        of a GPU's free memory is moved there whole: rows that are read one by one from the disk's
        cache would keep the GPU waiting.
        """
        device, epoch, order = torch.device(device), -1, np.empty(0, np.int64)
        tables = [torch.from_numpy(array) for array in (*self.arrays, self.ids)]
        if device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
            if sum(table.nbytes for table in tables) < free // 2:
                tables = [table.to(device) for table in tables]
        position = (step * world + rank) * size
        while True:
            rows = []
            for i in range(position, position + size):
                if i // self.count != epoch:
                    epoch = i // self.count
                    order = np.random.default_rng([seed, epoch]).permutation(self.count)
                rows.append(order[i % self.count])
            index = torch.tensor(rows, device=tables[0].device)
            *values, ids = (table[index].to(device) for table in tables)
            yield *(value.float() for value in values), ids.long()
            position += size * world


def reserve(sizes: Mapping[Path, int]) -> None:
    """Makes each file at least so many bytes long, with its blocks on the disk.

    A memory map over blocks that a full disk cannot give would end the process (SIGBUS). Raises
    BadInput with the bytes that are needed and free; the files are then as they were.
    """
    before = {path: path.stat().st_size if path.exists() else None for path in sizes}
    missing = sum(max(0, size - (before[path] or 0)) for path, size in sizes.items())
    folder = next(iter(sizes)).parent
    free = shutil.disk_usage(folder).free
    try:
        if missing > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for path, size in sizes.items():
            _extend(path, size)
    except OSError as error:
        for path, size in before.items():
            if size is None:
                path.unlink(missing_ok=True)
            elif path.exists():
                os.truncate(path, size)
        raise BadInput(
            f"the latent cache in {folder} needs {missing:,} bytes more; {free:,} are free"
            f" ({error.strerror})",
            "lower `cached` under [unet], free some space, or name a folder on another disk with"
            " --runs",
        ) from None


def _extend(path: Path, size: int) -> None:
    """Makes a file `size` bytes long, with real blocks. A longer file stays as it is."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        length = os.fstat(handle).st_size
        if _allocate(handle, max(size, length)):
            return
        os.lseek(handle, 0, os.SEEK_END)
        while length < size:  # a file system that cannot reserve: zeros take their room
            length += os.write(handle, bytes(min(size - length, 1 << 22)))
    finally:
        os.close(handle)


def _allocate(handle: int, size: int) -> bool:
    """Reserves blocks. Returns whether the file system can; raises OSError when it is full."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV):
            return False
        raise
    return True


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
