"""DPM-Solver++ 2S ancestral: exponential integrators in log sigma, with new noise at the end of
each step."""

import math
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.stochastic import check_nonnegative, split_step


def dpmpp_2s_a(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """Second order from two questions, the second at the middle of the step in log sigma. The step
    goes to below the next level; new noise leads up to it (Lu et al. 2022 "DPM-Solver++", algorithm
    1 with r = ½, made ancestral by k-diffusion)."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        down, up = split_step(s, t, eta)
        x0 = (yield Query(x, s, i)).x0
        if down > 0:
            middle = math.sqrt(s * down)
            x2 = x * (middle / s) + x0 * (1 - middle / s)
            x0 = (yield Query(x2, middle, i, stage=1)).x0
        x = x * (down / s) + x0 * (1 - down / s)
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x
