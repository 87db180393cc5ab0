"""What networks make of a source's pictures, made once and kept on disk: what the U-Net trains
on."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fromnoise.data.loader import Batch, load_batches
from fromnoise.data.source import Source

CHUNK = 64


class LatentCache:
    """For each name of `shapes` an array (N, *shape) float16, and `ids` (N, L) int32,
    memory-mapped; grows, and resumes after a crash.

    `key` names what made them (source and networks): a cache of another key is made anew.
    """

    def __init__(
        self, folder: Path, key: str, shapes: Mapping[str, tuple[int, ...]], length: int, count: int
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.state, self.key, self.count = folder / "state.json", key, count
        old = json.loads(self.state.read_text()) if self.state.exists() else {}
        self.filled = min(old.get("filled", 0), count) if old.get("key") == key else 0
        if not self.filled:
            self.state.unlink(
                missing_ok=True
            )  # before its latents go, else a crash would leave a lie
        mode = "r+" if self.filled else "w+"
        self.arrays = [
            np.memmap(folder / f"{n}.f16", np.float16, mode, shape=(count, *s))
            for n, s in shapes.items()
        ]
        self.ids = np.memmap(folder / "ids.i32", np.int32, mode, shape=(count, length))

    def fill(
        self,
        source: Source,
        encode: Callable[[Batch], Iterable[Tensor]],
        tokenize: Callable[[str], list[int]],
        first: int = 0,
        workers: int = 0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Makes what is missing: `encode` gives a batch's rows of each array, in the order of
        `shapes`."""
        stream = load_batches(source, CHUNK, self.filled // CHUNK, first=first, workers=workers)
        while self.filled < self.count:
            batch, end = next(stream), min(self.filled + CHUNK, self.count)
            with torch.inference_mode():
                for array, rows in zip(self.arrays, encode(batch), strict=True):
                    array[self.filled : end] = rows[: end - self.filled].cpu().numpy()
            self.ids[self.filled : end] = [tokenize(c) for c in batch.captions[: end - self.filled]]
            self.filled = end
            if end % (CHUNK * 16) == 0 or end == self.count:
                for array in (*self.arrays, self.ids):
                    array.flush()
                self.state.write_text(
                    json.dumps({"key": self.key, "count": self.count, "filled": end})
                )
            progress(end)

    def batches(
        self,
        size: int,
        step: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        device: str | torch.device = "cpu",
    ) -> Iterator[tuple[Tensor, ...]]:
        """Endless (rows of each array float32 (size, …), ids int64 (size, L)) on `device` from
        `step`, each epoch in its own order. A cache that takes less than half of a GPU's free
        memory is moved there whole: reading rows one by one from the disk's cache would keep the
        GPU waiting."""
        device, epoch, order = torch.device(device), -1, np.empty(0, np.int64)
        held = [torch.from_numpy(array) for array in (*self.arrays, self.ids)]
        if (
            device.type == "cuda"
            and sum(a.nbytes for a in held) < torch.cuda.mem_get_info(device)[0] // 2
        ):
            held = [array.to(device) for array in held]
        at = (step * world + rank) * size
        while True:
            rows = []
            for i in range(at, at + size):
                if i // self.count != epoch:
                    epoch = i // self.count
                    order = np.random.default_rng([seed, epoch]).permutation(self.count)
                rows.append(order[i % self.count])
            chosen = torch.tensor(rows, device=held[0].device)
            *read, ids = (array[chosen].to(device) for array in held)
            yield *(array.float() for array in read), ids.long()
            at += size * world
