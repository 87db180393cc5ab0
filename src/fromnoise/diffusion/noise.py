"""Noise as an argument: one CPU generator an image, so that a picture never depends on its batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fromnoise.errors import BadInput


class Noise:
    """`noise(sigma, sigma_next)` → unit Gaussian noise (B, *shape), float32 on the CPU, fresh at every call.

    Image i has a generator of its own, seeded seeds[i], which first drew `initial` (B, *shape) and then draws one image
    a call: image i of a batch is the image of its seed alone, bit for bit. `shape` is that of one image, (C, H, W).
    The two noise levels are there for sources that need them, as a Brownian path does.
    Raises BadInput for no seeds, or one that is no integer in [0, 2⁶⁴).
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int]):
        if not seeds or not all(type(s) is int and 0 <= s < 2**64 for s in seeds):
            raise BadInput(f"seeds {list(seeds)} cannot be used", "give one integer from 0 to 2⁶⁴ − 1 for each image")
        self.shape = tuple(shape)
        self.generators = [torch.Generator().manual_seed(s) for s in seeds]
        self.initial = self.draw()  # always drawn, else the first step's noise would repeat the starting latents

    def draw(self) -> Tensor:
        return torch.stack([torch.randn(self.shape, generator=g) for g in self.generators])

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        return self.draw()


def initial(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The unit noise that each seed starts from, (B, *shape) for one image's shape (C, H, W): `Noise(…).initial`."""
    return Noise(seeds, shape).initial
