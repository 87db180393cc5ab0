"""RES multistep: the exponential Adams method of second order in log sigma, also ancestral."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import compute_exponential_weights
from fromnoise.diffusion.samplers.stochastic import check_nonnegative, split_step


def res_multistep(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float = 0.0,
    s_noise: float = 1.0,
    past: Sequence[Past] = (),
) -> Sampling:
    """x0 is linear in log sigma through this question and the last, integrated exactly (Zhang et
    al. 2023 "Improved order analysis and design of exponential integrator for diffusion models
    sampling", eq. 8): `dpmpp_2m` with weights that meet the stiff order conditions too. eta > 0
    steps below the next level and adds noise up to it. The distance back to the last x0 is then the
    length of the last step's deterministic part, which keeps the drift of second order."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    known, last = [*past][-1:], 0.0  # last: the level where the last deterministic part ended
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        down, up = split_step(s, t, eta)
        if down == 0 or not known:
            x = x0 + (x - x0) * (down / s)
        else:
            h, back = math.log(s / down), math.log(known[0].sigma / (last or s))
            now, then = compute_exponential_weights([0.0, -back / h], h)
            x = (x * (down / s)).add_(x0, alpha=now).add_(known[0].x0, alpha=then)
        known, last = [Past(s, x, x0)], down
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x
