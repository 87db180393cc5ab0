"""The conversation of a sampler and its driver: Query, Answer. `drive` is the simplest driver."""

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

from torch import Tensor

from fromnoise.errors import BadInput


@dataclass(frozen=True, eq=False)
class Query:
    """A sampler's question: what is the clean picture behind x = x0 + sigma·n?"""

    x: Tensor  # (B, C, H, W), variance exploding
    sigma: float
    step: int  # 0 … steps − 1, never decreasing for an image: the progress
    stage: int = 0  # the number of the question inside its step
    image: int | None = None  # x is only this image of the batch, (1, C, H, W); None: all of them


@dataclass(frozen=True, eq=False)
class Answer:
    """The denoised picture E[x0 | x], guided, and the unconditional one if a sampler needs it."""

    x0: Tensor  # (B, C, H, W)
    x0_uncond: Tensor | None = None


class Past(NamedTuple):
    """An earlier question and its answer, which multistep samplers store, and accept."""

    sigma: float
    x: Tensor
    x0: Tensor


class NoiseSource(Protocol):
    """(sigma, sigma_next) → unit noise (B, C, H, W) for the way between two levels. With `image`:
    that image's noise alone, (1, C, H, W). See noise.Noise."""

    def __call__(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor: ...


Sampling = Generator[Query, Answer, Tensor]


def check_levels(sigmas: Tensor) -> list[float]:
    """The noise levels of a run as Python floats, which are float64 for any x. Raises BadInput
    unless there are two or more, finite, strictly decreasing and above 0; the last may be 0."""
    values = [float(s) for s in sigmas]
    if (
        len(values) < 2
        or not math.isfinite(values[0])
        or not all(s > t >= 0 for s, t in pairwise(values))
    ):
        raise BadInput(
            "a run needs two or more noise levels, finite and strictly decreasing; "
            "only the last may be 0",
            "make them with fromnoise.diffusion.spacing.make_sigmas",
        )
    return values
