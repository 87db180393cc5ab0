"""Captioned pictures in batches. A batch depends on its step alone, so that a resumed run sees the
same pictures."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fromnoise.data.source import Sample, Source


@dataclass(frozen=True)
class Batch:
    """`images` (B, 3, H, W) float32 in [−1, 1]; `masks` (B, 1, H, W) float32, 1 inside the objects;
    `samples` whole."""

    images: Tensor
    masks: Tensor
    samples: list[Sample]

    @property
    def captions(self) -> list[str]:
        return [s.caption for s in self.samples]


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) → float32 (B, 3, H, W) in [−1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


class _Steps(Dataset):
    """Item k is the batch of step k: samples first + k·size … of one split."""

    def __init__(self, source: Source, first: int, size: int, split: str, stride: int):
        self.source, self.split = source, split
        self.first, self.size, self.stride = first, size, stride

    def __getitem__(self, step: int) -> Batch:
        start = self.first + step * self.stride
        samples = [self.source.sample(start + i, self.split) for i in range(self.size)]
        images = np.stack([s.image for s in samples if s.image is not None])
        masks = np.stack(
            [np.ones(images.shape[1:3], bool) if s.mask is None else s.mask for s in samples]
        )
        return Batch(to_tensor(images), torch.from_numpy(masks[:, None]).float(), samples)


def ignore_signals(worker: int) -> None:
    """For a worker process: Ctrl-C reaches it too, but its parent decides when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def load_batches(
    source: Source,
    size: int,
    step: int = 0,
    first: int = 0,
    split: str = "train",
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Endless batches from step `step` on. Process `rank` of `world` reads its own share of each
    step."""
    data = _Steps(source, first + rank * size, size, split, size * world)

    def forever() -> Iterator[int]:
        k = step
        while True:
            yield k
            k += 1

    return iter(
        DataLoader(
            data,
            batch_size=None,
            sampler=forever(),
            num_workers=workers,  # type: ignore[arg-type]
            worker_init_fn=ignore_signals,
            prefetch_factor=4 if workers else None,
        )
    )
