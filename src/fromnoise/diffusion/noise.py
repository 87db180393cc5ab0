"""Noise as an argument: each image has its own generator on the CPU, so no picture depends on its
batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fromnoise.diffusion.streams import check_seeds, open_stream


class Noise:
    """`noise(sigma, sigma_next)` → unit Gaussian noise (B, *shape), float32 on the CPU, new at
    every call. `noise(sigma, sigma_next, i)` → the noise of image i alone, (1, *shape); the
    generators of the other images do not move.

    Image i has its own generator with the seed seeds[i]. It first draws `initial` (B, *shape) and
    then one noise at each call: image i of a batch is the image of its seed alone, bit for bit.
    `shape` is that of one image, (C, H, W). This source does not use the two noise levels; others
    do, such as a Brownian path.

    rng: "cpu", PyTorch's Mersenne Twister, which uses only the low 32 bits of a seed; or "nv", the
    numbers of an NVIDIA GPU, see philox.randn. eta_noise_seed_delta: where it is not 0, the noises
    after `initial` come from new generators with the seeds seed + delta (A1111's "ENSD").
    variation_seeds, variation_strength, blend: how `initial` moves towards another noise, see
    variation.vary.

    Raises UnknownName for rng and blend. Raises BadInput without seeds, for a seed that is no
    integer in [0, 2⁶⁴) (with and without delta), and where variation.vary does."""

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        *,
        rng: str = "cpu",
        eta_noise_seed_delta: int = 0,
        variation_seeds: Sequence[int] | None = None,
        variation_strength: float = 0.0,
        blend: str = "slerp",
    ):
        check_seeds(rng, seeds)
        later = [s + eta_noise_seed_delta for s in seeds]
        check_seeds(rng, later, f"seeds with eta_noise_seed_delta {eta_noise_seed_delta} added,")
        self.shape = tuple(shape)
        self.streams = [open_stream(rng, s) for s in seeds]
        # drawn in every case: without it the first step's noise would repeat the first latents
        self.initial = self.draw()
        if variation_seeds is not None or variation_strength:
            from fromnoise.diffusion.variation import vary

            self.initial = vary(self.initial, rng, variation_seeds, variation_strength, blend)
        if eta_noise_seed_delta:
            self.streams = [open_stream(rng, s) for s in later]

    def draw(self, image: int | None = None) -> Tensor:
        streams = self.streams if image is None else [self.streams[image]]
        return torch.stack([stream(self.shape) for stream in streams])

    def __call__(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor:
        return self.draw(image)
