"""Noise as an argument: one generator an image, on the CPU, so that a picture never depends on its
batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fromnoise.diffusion.streams import check_seeds, open_stream


class Noise:
    """`noise(sigma, sigma_next)` → unit Gaussian noise (B, *shape), float32 on the CPU, fresh at
    every call; `noise(sigma, sigma_next, i)` → that of image i alone, (1, *shape), which leaves the
    others' generators alone.

    Image i has a generator of its own, seeded seeds[i], which first drew `initial` (B, *shape) and
    then draws one image a call: image i of a batch is the image of its seed alone, bit for bit.
    `shape` is that of one image, (C, H, W). The two noise levels are there for sources that need
    them, as a Brownian path does.

    rng                   "cpu": PyTorch's Mersenne Twister, which looks at the low 32 bits of a
    seed only; "nv": the
                          numbers of an NVIDIA GPU, see philox.randn
    eta_noise_seed_delta  where it is not 0, the noises after `initial` come from new generators
    seeded seed + delta
                          (A1111's "ENSD")
    variation_seeds, variation_strength, blend    where `initial` goes from there, see
    variation.varied

    Raises UnknownName for rng and blend; BadInput for no seeds, for one that is no integer in [0,
    2⁶³) for "cpu" or [0, 2⁶⁴) for "nv" (delta added or not), and as variation.varied does."""

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
        self.initial = (
            self.draw()
        )  # always drawn, else the first step's noise would repeat the starting latents
        if variation_seeds is not None or variation_strength:
            from fromnoise.diffusion.variation import vary

            self.initial = vary(self.initial, rng, variation_seeds, variation_strength, blend)
        if eta_noise_seed_delta:
            self.streams = [open_stream(rng, s) for s in later]

    def draw(self, image: int | None = None) -> Tensor:
        chosen = self.streams if image is None else [self.streams[image]]
        return torch.stack([draw(self.shape) for draw in chosen])

    def __call__(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor:
        return self.draw(image)
