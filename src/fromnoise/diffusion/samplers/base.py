"""What a sampler and its driver say to each other: Query, Answer, drive."""

import math
from collections.abc import Callable, Generator
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
    step: int  # 0 … steps − 1, never falling for an image; who chooses its own levels says here how far it has come
    stage: int = 0  # counts the questions inside a step
    image: int | None = None  # x is this one image of the batch, (1, C, H, W); None: all of them


@dataclass(frozen=True, eq=False)
class Answer:
    """The denoised picture E[x0 | x], guided, and the unconditional one for samplers that steer by it."""

    x0: Tensor  # (B, C, H, W)
    x0_uncond: Tensor | None = None


class Past(NamedTuple):
    """An earlier question and its answer. Multistep samplers remember them, and can be given some to start with."""

    sigma: float
    x: Tensor
    x0: Tensor


class NoiseSource(Protocol):
    """(sigma, sigma_next) → unit noise (B, C, H, W) for the way between two levels; of one image, (1, C, H, W), where
    `image` says which. See noise.Noise."""

    def __call__(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor: ...


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


def churned(
    x: Tensor, sigma: float, steps: int, noise: NoiseSource,
    s_churn: float, s_tmin: float, s_tmax: float, s_noise: float,
) -> tuple[Tensor, float]:  # fmt: skip
    """(x, sigma) with noise added up to sigma·(1 + min(s_churn / steps, √2 − 1)), where s_tmin ≤ sigma ≤ s_tmax
    (Karras et al. 2022, algorithm 2, lines 4 to 6)."""
    at_least_0(s_churn=s_churn, s_tmin=s_tmin, s_noise=s_noise)
    if not s_churn or not s_tmin <= sigma <= s_tmax:
        return x, sigma
    raised = sigma * (1 + min(s_churn / steps, math.sqrt(2) - 1))
    return x + noise(sigma, raised).to(x) * (s_noise * math.sqrt(raised**2 - sigma**2)), raised


def ancestral(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """(down, up): a step from sigma that goes down to `down` and then adds noise of deviation `up` lands on sigma_next,
    since down² + up² = sigma_next². up is eta times that of the forward process's own posterior, √(1 − ᾱ_s/ᾱ_t)
    √((1 − ᾱ_t)/(1 − ᾱ_s)) (Song et al. 2021 "DDIM", eq. 16) divided by √ᾱ_t, and never more than sigma_next."""
    up = min(sigma_next, eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2))
    return math.sqrt(sigma_next**2 - up**2), up
