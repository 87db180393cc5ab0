"""Heun: Euler's step, corrected by the mean of the slopes at both its ends."""

from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, levels


def heun(x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Sampling:
    """Second order, two questions a step, one in a step to sigma 0 (Karras et al. 2022, algorithm 1)."""
    for i, (s, t) in enumerate(pairwise(levels(sigmas))):
        d = (x - (yield Query(x, s, i)).x0) / s
        if t == 0:  # the slope at 0 is not defined
            x = x + d * (t - s)
            continue
        x2 = x + d * (t - s)
        d2 = (x2 - (yield Query(x2, t, i, stage=1)).x0) / t
        x = x + (d + d2) / 2 * (t - s)
    return x
