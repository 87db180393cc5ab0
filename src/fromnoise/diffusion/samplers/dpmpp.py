"""DPM-Solver++ for the probability-flow ODE: exponential integrators in log sigma, of x0 rather than of the noise."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, ancestral, at_least_0, levels


def dpmpp_2m(x: Tensor, sigmas: Tensor, noise: NoiseSource, past: Sequence[Past] = ()) -> Sampling:
    """Second order from one question a step: x0 is extrapolated along log sigma from this one and the last
    (Lu et al. 2022 "DPM-Solver++", algorithm 2). The first step and one to sigma 0 are of first order."""
    known = list(past)[-1:]
    for i, (s, t) in enumerate(pairwise(levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        d = x0
        if known and t > 0:
            d = x0 + (x0 - known[0].x0) * (math.log(s / t) / (2 * math.log(known[0].sigma / s)))
        known = [Past(s, x, x0)]
        x = x * (t / s) + d * (1 - t / s)
    return x


def dpmpp_2s_a(x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 1.0, s_noise: float = 1.0) -> Sampling:
    """Second order from two questions, the second at the middle of the step in log sigma, to below the next level; then
    fresh noise up to it (Lu et al. 2022 "DPM-Solver++", algorithm 1 with r = ½, made ancestral by k-diffusion)."""
    at_least_0(eta=eta, s_noise=s_noise)
    for i, (s, t) in enumerate(pairwise(levels(sigmas))):
        down, up = ancestral(s, t, eta)
        x0 = (yield Query(x, s, i)).x0
        if down > 0:
            middle = math.sqrt(s * down)
            x2 = x * (middle / s) + x0 * (1 - middle / s)
            x0 = (yield Query(x2, middle, i, stage=1)).x0
        x = x * (down / s) + x0 * (1 - down / s)
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x
