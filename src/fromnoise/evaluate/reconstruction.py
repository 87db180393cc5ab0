"""Measures how much of a picture the autoencoder keeps: the PSNR of the whole picture, and of the
part inside the object's mask."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log, log10

import numpy as np
import torch
from torch import Tensor

from fromnoise.data.loader import to_tensor
from fromnoise.data.source import Source
from fromnoise.models.vae import VAE

SEEDS = 6_000_000_000  # pictures that no training sees


@dataclass(frozen=True)
class PSNR:
    """10·log10(1/mse) of pictures in [0, 1]. The mse is over all pixels of the set (the PSNR is not
    a mean over pictures)."""

    mse: float
    mse_error: float  # standard error over pictures

    @property
    def db(self) -> float:
        return 10 * log10(1 / self.mse) if self.mse else float("inf")

    @property
    def db_error(self) -> float:
        return 10 / log(10) * self.mse_error / self.mse if self.mse else 0.0

    @classmethod
    def of(cls, squares: np.ndarray, sizes: np.ndarray) -> "PSNR":
        """From each picture's summed squared error and number of values, both (N,)."""
        mse = squares.sum() / sizes.sum()
        spread = (
            np.sqrt(((squares - mse * sizes) ** 2).sum()) / sizes.sum()
        )  # linearised ratio of two sums
        return cls(float(mse), float(spread))


@dataclass
class Reconstruction:
    """The figures, and the first pictures with their reconstructions."""

    n: int
    whole: PSNR
    inside: PSNR | None  # None where the source marks no object
    shown: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


@torch.inference_mode()
def to_pictures(vae: VAE, latents: Tensor) -> np.ndarray:
    """Latents (B, C, h, w) → uint8 pictures (B, H, W, 3), decoded together."""
    image = vae.to_image(latents.to(next(vae.parameters()))).float()
    return (
        image.mul(127.5).add(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    )


def build_reconstructor(vae: VAE) -> Callable[[np.ndarray], np.ndarray]:
    """A function that encodes and decodes uint8 pictures (B, H, W, 3). It takes the posterior's
    mean, and rounds to uint8 as a picture on disk is rounded."""

    @torch.inference_mode()
    def reconstruct(images: np.ndarray) -> np.ndarray:
        return to_pictures(vae, vae.to_latents(to_tensor(images).to(next(vae.parameters()))))

    return reconstruct


def evaluate(
    reconstruct: Callable[[np.ndarray], np.ndarray],
    source: Source,
    n: int = 512,
    seed: int = SEEDS,
    batch: int = 32,
    shown: int = 12,
) -> Reconstruction:
    """Compares fresh pictures of the source (combinations that training may show) with what
    `reconstruct` makes of them."""
    squares, sizes, inside, masked = [], [], [], []
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for first in range(0, n, batch):
        samples = [source.sample(seed + i) for i in range(first, min(n, first + batch))]
        images = np.stack([s.image for s in samples if s.image is not None])  # (B, H, W, 3)
        back = reconstruct(images)
        error = ((images.astype(np.float64) - back) / 255) ** 2
        squares += error.sum((1, 2, 3)).tolist()
        sizes += [images[0].size] * len(images)
        for sample, e in zip(samples, error, strict=True):
            if sample.mask is not None and sample.mask.any():
                inside.append(e[sample.mask].sum())
                masked.append(3 * int(sample.mask.sum()))
        pairs += zip(images[: shown - len(pairs)], back[: shown - len(pairs)], strict=True)
    within = PSNR.of(np.array(inside), np.array(masked)) if inside else None
    return Reconstruction(n, PSNR.of(np.array(squares), np.array(sizes)), within, pairs[:shown])
