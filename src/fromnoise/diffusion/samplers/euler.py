"""Euler and Euler ancestral: one straight step along the slope dx/dsigma."""

import math
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.stochastic import add_churn, check_nonnegative, split_step


def euler(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Sampling:
    """The probability-flow ODE by Euler's rule (Karras et al. 2022, algorithm 2 without its
    correction; s_churn 0 adds no noise)."""
    grid = check_levels(sigmas)
    for i, (s, t) in enumerate(pairwise(grid)):
        x, s = add_churn(x, s, len(grid) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
        d = (x - (yield Query(x, s, i)).x0) / s
        x = x + d * (t - s)
    return x


def euler_a(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """Euler's rule to below the next level, then new noise up to it (ancestral sampling). eta
    scales how far below, s_noise the noise alone. eta 0 is `euler`; eta 1 on a variance-preserving
    model is DDPM (`ddim` with eta 1)."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        down, up = split_step(s, t, eta)
        d = (x - (yield Query(x, s, i)).x0) / s
        x = x + d * (down - s)
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x
