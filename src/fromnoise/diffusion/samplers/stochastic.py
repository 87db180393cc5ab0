"""Noise inside a run: the noise of ancestral steps, and churn, which adds some before each step."""

import math
from collections.abc import Iterable

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource
from fromnoise.errors import BadInput


def check_nonnegative(**options: float) -> None:
    """Raises BadInput for an option that is negative, infinite or not a number."""
    for name, value in options.items():
        if not 0 <= value < math.inf:
            raise BadInput(
                f"{name} {value} cannot be used", "give a finite number from 0; 1 is usual"
            )


def add_churn(
    x: Tensor,
    sigma: float,
    steps: int,
    noise: NoiseSource,
    s_churn: float,
    s_tmin: float,
    s_tmax: float,
    s_noise: float,
) -> tuple[Tensor, float]:
    """(x, sigma) with noise added up to sigma·(1 + min(s_churn / steps, √2 − 1)), where s_tmin ≤
    sigma ≤ s_tmax (Karras et al. 2022, algorithm 2, lines 4 to 6)."""
    check_nonnegative(s_churn=s_churn, s_tmin=s_tmin, s_noise=s_noise)
    if not s_churn or not s_tmin <= sigma <= s_tmax:
        return x, sigma
    raised = sigma * (1 + min(s_churn / steps, math.sqrt(2) - 1))
    return x + noise(sigma, raised).to(x) * (s_noise * math.sqrt(raised**2 - sigma**2)), raised


def split_step(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """(down, up): a step from sigma to `down`, then noise of deviation `up`, ends at sigma_next,
    since down² + up² = sigma_next². up is eta times the deviation of the forward process's own
    posterior, √(1 − ᾱ_s/ᾱ_t) √((1 − ᾱ_t)/(1 − ᾱ_s)) (Song et al. 2021 "DDIM", eq. 16) divided by
    √ᾱ_t, and at most sigma_next."""
    up = min(sigma_next, eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2))
    return math.sqrt(sigma_next**2 - up**2), up


def announce_steps(noise: NoiseSource, steps: Iterable[tuple[float, float]]) -> None:
    """Gives a noise source that can compute ahead, such as a Brownian path, all its later steps in
    order."""
    if announce := getattr(noise, "announce", None):
        announce(steps)
