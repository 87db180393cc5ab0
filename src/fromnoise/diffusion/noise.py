"""Noise as an argument: each image has its own generator, so none depends on its batch."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

RNGS = {"cpu": 64, "nv": 64}  # name of a generator: the bits that its seeds may have
Stream = Callable[[Sequence[int]], Tensor]  # shape → the next unit noise, float32


def open_streams(rng: str, seeds: Sequence[int], what: str = "seeds") -> list[Stream]:
    """A stream of unit noises for each seed. Raises UnknownName for an unknown rng. Raises BadInput
    without seeds or for one that is no integer of RNGS[rng] bits."""
    bits = RNGS.get(rng, 0)
    if not bits or not seeds or not all(type(s) is int and 0 <= s < 2**bits for s in seeds):
        from fromnoise.diffusion.refusals import refuse_seeds

        refuse_seeds(rng, RNGS, seeds, what)
    if rng == "cpu":
        return [partial(torch.randn, generator=torch.Generator().manual_seed(s)) for s in seeds]
    from fromnoise.diffusion.philox import open_stream  # most runs do not need it

    return [open_stream(s) for s in seeds]


class Noise:
    """`noise(sigma, sigma_next)` → unit Gaussian noise (B, *shape), float32 on the CPU, new at
    every call; `noise(sigma, sigma_next, i)` → that of image i alone, (1, *shape). The levels serve
    other sources, such as a Brownian path. shape: of one image, (C, H, W).

    Image i has its own generator with the seed seeds[i]. It first draws `initial` (B, *shape) and
    then one noise at each call: image i of a batch is the image of its seed alone, bit for bit.

    rng: "cpu", PyTorch's Mersenne Twister, which uses only the low 32 bits of a seed; or "nv", the
    numbers of an NVIDIA GPU, see philox.randn. eta_noise_seed_delta: where it is not 0, the noises
    after `initial` come from new generators with the seeds seed + delta (A1111's "ENSD").
    variation_seeds, variation_strength, blend: of another noise for `initial`, see variation.vary.
    Raises as `open_streams`, for seeds with and without delta, and as variation.vary."""

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
        self.shape, self.streams = tuple(shape), open_streams(rng, seeds)
        # drawn in every case: without it the first step's noise would repeat the first latents
        self.initial = self.draw()
        if variation_seeds is not None or variation_strength:
            from fromnoise.diffusion.variation import vary

            more = rng, variation_seeds or (), "variation seeds"
            others = None if variation_seeds is None else open_streams(*more)
            self.initial = vary(self.initial, others, variation_strength, blend)
        if delta := eta_noise_seed_delta:
            what = f"seeds with eta_noise_seed_delta {delta} added,"
            self.streams = open_streams(rng, [s + delta for s in seeds], what)

    def draw(self, image: int | None = None) -> Tensor:
        streams = self.streams if image is None else [self.streams[image]]
        return torch.stack([stream(self.shape) for stream in streams])

    def __call__(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor:
        return self.draw(image)
