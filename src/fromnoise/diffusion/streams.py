"""Streams of random numbers, one for each seed."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

import torch
from torch import Tensor

from fromnoise.errors import BadInput, UnknownName

RNGS = {"cpu": 64, "nv": 64}  # name of a generator: the bits that its seeds may have
Stream = Callable[[Sequence[int]], Tensor]  # shape → the next unit noise, float32


def open_stream(rng: str, seed: int) -> Stream:
    """The unit noises of a seed, one for each call."""
    if rng == "cpu":
        return partial(torch.randn, generator=torch.Generator().manual_seed(seed))
    from fromnoise.diffusion import philox  # most runs do not need it

    calls = count()
    return lambda shape: philox.randn(seed, next(calls), shape)


def check_seeds(rng: str, seeds: Sequence[int], what: str = "seeds") -> None:
    """Raises UnknownName for an unknown rng. Raises BadInput without seeds or for one that is no
    integer of RNGS[rng] bits."""
    if rng not in RNGS:
        raise UnknownName("random number generator", rng, RNGS)
    if not seeds or not all(type(s) is int and 0 <= s < 2 ** RNGS[rng] for s in seeds):
        remedy = f"give an integer from 0 to 2^{RNGS[rng]} − 1 for each image"
        raise BadInput(f"{what} {list(seeds)} cannot be used", remedy)
