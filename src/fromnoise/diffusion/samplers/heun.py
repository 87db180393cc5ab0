"""Heun: Euler's step, corrected by the slopes at later levels."""

import math
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.stochastic import add_churn


def heun(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Sampling:
    """Second order, two questions a step, one in a step to sigma 0 (Karras et al. 2022, algorithm
    2)."""
    grid = check_levels(sigmas)
    for i, (s, t) in enumerate(pairwise(grid)):
        x, s = add_churn(x, s, len(grid) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
        d = (x - (yield Query(x, s, i)).x0) / s
        if t == 0:  # the slope at 0 is not defined
            x = x + d * (t - s)
            continue
        x2 = x + d * (t - s)
        d2 = (x2 - (yield Query(x2, t, i, stage=1)).x0) / t
        x = x + (d + d2) / 2 * (t - s)
    return x


def heunpp2(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Sampling:
    """Heun++: the slopes of this level and of up to two later ones. Their weights are sigma /
    sigma_max, so the later slopes count at high noise and hardly at all at low noise (Carzit,
    sd-webui-samplers-scheduler, 2023). These weights meet no condition of second order: it
    converges with order 1. Three questions a step, fewer in the last two."""
    grid = check_levels(sigmas)
    for i, (s, t) in enumerate(pairwise(grid)):
        x, s = add_churn(x, s, len(grid) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
        d = (x - (yield Query(x, s, i)).x0) / s
        slopes, x_later, level = [d], x, s
        for k, later in enumerate(grid[i + 1 : min(i + 3, len(grid) - 1)], 1):
            x_later = x_later + slopes[-1] * (later - level)
            slopes.append((x_later - (yield Query(x_later, later, i, stage=k)).x0) / later)
            level = later
        weights = [grid[i + k] / (len(slopes) * grid[0]) for k in range(1, len(slopes))]
        mean = d * (1 - sum(weights))
        for w, slope in zip(weights, slopes[1:], strict=True):
            mean = mean + slope * w
        x = x + mean * (t - s)
    return x
