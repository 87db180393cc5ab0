"""Latents of a data source, encoded once and kept on disk: what the U-Net trains on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fromnoise.data.loader import Batch, batches
from fromnoise.data.source import Source

CHUNK = 64


class LatentCache:
    """`latents` (N, C, h, w) float16 and `ids` (N, L) int32, memory-mapped; grows, and resumes after a crash.

    `key` names what made them (source and autoencoder): a cache of another key is made anew.
    """

    def __init__(self, folder: Path, key: str, shape: tuple[int, ...], length: int, count: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.state, self.key, self.count = folder / "state.json", key, count
        old = json.loads(self.state.read_text()) if self.state.exists() else {}
        self.filled = min(old.get("filled", 0), count) if old.get("key") == key else 0
        if not self.filled:
            self.state.unlink(missing_ok=True)  # before its latents go, else a crash would leave a lie
        mode = "r+" if self.filled else "w+"
        self.latents = np.memmap(folder / "latents.f16", np.float16, mode, shape=(count, *shape))
        self.ids = np.memmap(folder / "ids.i32", np.int32, mode, shape=(count, length))

    def fill(
        self,
        source: Source,
        encode: Callable[[Batch], Tensor],
        tokenize: Callable[[str], list[int]],
        first: int = 0,
        workers: int = 0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Encodes what is missing: `encode` makes latents of a batch's images or masks."""
        stream = batches(source, CHUNK, self.filled // CHUNK, first=first, workers=workers)
        while self.filled < self.count:
            batch, end = next(stream), min(self.filled + CHUNK, self.count)
            with torch.inference_mode():
                latents = encode(batch).cpu().numpy().astype(np.float16)
            self.latents[self.filled : end] = latents[: end - self.filled]
            self.ids[self.filled : end] = [tokenize(c) for c in batch.captions[: end - self.filled]]
            self.filled = end
            if end % (CHUNK * 16) == 0 or end == self.count:
                self.latents.flush()
                self.ids.flush()
                self.state.write_text(json.dumps({"key": self.key, "count": self.count, "filled": end}))
            progress(end)

    def batches(
        self, size: int, step: int, seed: int, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (latents float32 (size, C, h, w), ids int64 (size, L)) from `step`, each epoch in its own order."""
        epoch, order = -1, np.empty(0, np.int64)
        at = (step * world + rank) * size
        while True:
            rows = []
            for i in range(at, at + size):
                if i // self.count != epoch:
                    epoch = i // self.count
                    order = np.random.default_rng([seed, epoch]).permutation(self.count)
                rows.append(order[i % self.count])
            yield (
                torch.from_numpy(self.latents[rows].astype(np.float32)),
                torch.from_numpy(self.ids[rows].astype(np.int64)),
            )
            at += size * world
