"""LCM: the predicted picture, and new noise up to the next level."""

from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.stochastic import check_nonnegative


def lcm(x: Tensor, sigmas: Tensor, noise: NoiseSource, s_noise: float = 1.0) -> Sampling:
    """Multistep consistency sampling (Song et al. 2023 "Consistency models", algorithm 1; Luo et
    al. 2023 "Latent consistency models", algorithm 3), for networks that were distilled to predict
    the picture in one step. On others each step forgets everything except x0, so no number of steps
    converges to the data."""
    check_nonnegative(s_noise=s_noise)
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x = (yield Query(x, s, i)).x0
        if t > 0:
            x = x + noise(s, t).to(x) * (t * s_noise)
    return x
