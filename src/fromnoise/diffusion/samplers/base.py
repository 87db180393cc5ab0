"""What a sampler and its driver say to each other: Query, Answer, drive."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from fromnoise.errors import BadInput


@dataclass(frozen=True, eq=False)
class Query:
    """A sampler's question: what is the clean picture behind x = x0 + sigma·n?"""

    x: Tensor  # (B, C, H, W), variance exploding
    sigma: float
    step: int  # 0 … steps − 1
    stage: int = 0  # counts the questions inside a step


@dataclass(frozen=True, eq=False)
class Answer:
    """The denoised picture E[x0 | x], guided, and the unconditional one for samplers that steer by it."""

    x0: Tensor  # (B, C, H, W)
    x0_uncond: Tensor | None = None


NoiseSource = Callable[[float, float], Tensor]  # (sigma, sigma_next) → unit noise (B, C, H, W), see noise.Noise
Sampling = Generator[Query, Answer, Tensor]


def drive(sampling: Sampling, answer: Callable[[Query], Answer]) -> Tensor:
    """Runs a sampler to its end, asking `answer` every question; returns its last x (B, C, H, W)."""
    try:
        query = next(sampling)
        while True:
            query = sampling.send(answer(query))
    except StopIteration as end:
        return end.value


def levels(sigmas: Tensor) -> list[float]:
    """The noise levels of a run as Python floats, which are float64 whatever x is. Raises BadInput unless there are two
    or more, finite, strictly decreasing, none negative, and only the last one may be 0."""
    values = [float(s) for s in sigmas]
    if len(values) < 2 or not math.isfinite(values[0]) or not all(s > t >= 0 for s, t in pairwise(values)):
        raise BadInput(
            "a run needs at least two noise levels, finite and strictly decreasing, of which only the last may be 0",
            "make them with fromnoise.diffusion.spacing.sigmas",
        )
    return values


def at_least_0(**options: float) -> None:
    """Raises BadInput for an option that is negative, infinite or not a number."""
    for name, value in options.items():
        if not 0 <= value < math.inf:
            raise BadInput(f"{name} {value} cannot be used", "give a finite number from 0 up; 1 is usual")


def ancestral(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """(down, up): a step from sigma that goes down to `down` and then adds noise of deviation `up` lands on sigma_next,
    since down² + up² = sigma_next². up is eta times that of the forward process's own posterior, √(1 − ᾱ_s/ᾱ_t)
    √((1 − ᾱ_t)/(1 − ᾱ_s)) (Song et al. 2021 "DDIM", eq. 16) divided by √ᾱ_t, and never more than sigma_next."""
    up = min(sigma_next, eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2))
    return math.sqrt(sigma_next**2 - up**2), up
