"""Euler and Euler ancestral: one straight step along the slope dx/dsigma."""

from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, ancestral, at_least_0, levels


def euler(x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Sampling:
    """The probability-flow ODE by Euler's rule (Karras et al. 2022, algorithm 1 without its correction)."""
    for i, (s, t) in enumerate(pairwise(levels(sigmas))):
        d = (x - (yield Query(x, s, i)).x0) / s
        x = x + d * (t - s)
    return x


def euler_a(x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 1.0, s_noise: float = 1.0) -> Sampling:
    """Euler's rule to below the next level, then fresh noise up to it (ancestral sampling). eta scales how far below,
    s_noise the noise alone; eta 0 is `euler`, eta 1 on a variance-preserving model is DDPM (`ddim` with eta 1)."""
    at_least_0(eta=eta, s_noise=s_noise)
    for i, (s, t) in enumerate(pairwise(levels(sigmas))):
        down, up = ancestral(s, t, eta)
        d = (x - (yield Query(x, s, i)).x0) / s
        x = x + d * (down - s)
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x
