"""DPM-Solver++ for the probability-flow ODE: exponential integrators of x0 in log sigma."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, check_levels


def dpmpp_2m(x: Tensor, sigmas: Tensor, noise: NoiseSource, past: Sequence[Past] = ()) -> Sampling:
    """Second order from one question a step: x0 is extrapolated along log sigma from this one and
    the last (Lu et al. 2022 "DPM-Solver++", alg. 2). The first step and one to 0 have order 1."""
    known = list(past)[-1:]
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        d = x0
        if known and t > 0:
            d = x0 + (x0 - known[0].x0) * (math.log(s / t) / (2 * math.log(known[0].sigma / s)))
        known = [Past(s, x, x0)]
        x = x * (t / s) + d * (1 - t / s)
    return x
