"""DPM2 and DPM2 ancestral: the slope at the middle of the step, in log sigma."""

import math
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.stochastic import add_churn, check_nonnegative, split_step


def dpm2(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Sampling:
    """The midpoint rule with the midpoint √(s·t): second order, two questions a step, one in a step
    to sigma 0 (k-diffusion's mixture of Lu et al. 2022 "DPM-Solver", algorithm 1, and Karras et al.
    2022, algorithm 2)."""
    grid = check_levels(sigmas)
    for i, (s, t) in enumerate(pairwise(grid)):
        x, s = add_churn(x, s, len(grid) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
        x = yield from _take_midpoint_step(x, s, t, i, t)
    return x


def dpm2_a(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """`dpm2` to below the next level, then new noise up to it; eta 0 is `dpm2`."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        down, up = split_step(s, t, eta)
        x = yield from _take_midpoint_step(x, s, down, i, t)
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x


def _take_midpoint_step(x: Tensor, s: float, t: float, step: int, next_level: float) -> Sampling:
    d = (x - (yield Query(x, s, step)).x0) / s
    if t > 0 and next_level > 0:
        middle = math.sqrt(s * t)
        x2 = x + d * (middle - s)
        d = (x2 - (yield Query(x2, middle, step, stage=1)).x0) / middle
    return x + d * (t - s)
