"""Restart: Heun's steps, and back up with new noise in the middle of the run."""

import math
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.stochastic import check_nonnegative


def restart(x: Tensor, sigmas: Tensor, noise: NoiseSource, s_noise: float = 1.0) -> Sampling:
    """Xu et al. 2023 "Restart sampling for improving generative processes", algorithm 1, with
    A1111's plan: below 20 steps no restart. From 20 on, 9 of the run's steps (from 36 on, twice a
    quarter of the steps) repeat the way from sigma 2 to 0.1. The rest of the steps are spread
    again, so the levels are Karras's between the given ends, for any given levels."""
    check_nonnegative(s_noise=s_noise)
    steps = plan_restarts(check_levels(sigmas))
    last = steps[0][0]
    for i, (s, t) in enumerate(steps):
        if s > last:
            x = x + noise(last, s).to(x) * (math.sqrt(s**2 - last**2) * s_noise)
        d = (x - (yield Query(x, s, i)).x0) / s
        if t == 0:
            x = x + d * (t - s)
        else:
            x2 = x + d * (t - s)
            d2 = (x2 - (yield Query(x2, t, i, stage=1)).x0) / t
            x = x + (d + d2) / 2 * (t - s)
        last = t
    return x


def plan_restarts(
    grid: list[float], low: float = 0.1, high: float = 2.0
) -> list[tuple[float, float]]:
    """The steps (from, to) of `restart` for a list of levels; about as many as the list has."""
    count = len(grid) - 1
    if count < 20 or grid[-1] > 0:
        return list(pairwise(grid))
    back, times = (count // 4, 2) if count >= 36 else (9, 1)
    grid = [*_space_karras(count - back * times, grid[-2], grid[0]), 0.0]
    steps = list(pairwise(grid))
    bottom, top = (
        min(range(len(grid) - 1), key=lambda i: abs(grid[i] - level)) for level in (low, high)
    )
    if top >= bottom:
        return steps
    repeated = list(pairwise(_space_karras(back + 1, grid[bottom], grid[top])))
    return steps[:bottom] + repeated * times + steps[bottom:]


def _space_karras(n: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """Karras et al. 2022, eq. 5, between two levels."""
    a, b = high ** (1 / rho), low ** (1 / rho)
    return [(a + i / max(n - 1, 1) * (b - a)) ** rho for i in range(n)]
