"""DDIM and DDPM: the predicted picture, plus the predicted noise at the next level, plus new noise
by eta."""

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.stochastic import check_nonnegative, split_step

if TYPE_CHECKING:  # the schedule's tables need all of torch
    from fromnoise.diffusion.schedule import NoiseSchedule


def ddim(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float = 0.0,
    s_noise: float = 1.0,
    stride: int = 0,
    schedule: "NoiseSchedule | None" = None,
) -> Sampling:
    """Song et al. 2021 "DDIM", eq. 12 and 16, divided by √ᾱ. eta 0 draws no noise and equals
    `euler`. eta 1 is DDPM (Ho et al. 2020, algorithm 2, with the variance of its posterior) and
    equals `euler_a`. stride: steps of so many timesteps of the schedule, wherever the levels are,
    see strides (0: to the next level)."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    if stride:
        from fromnoise.diffusion.samplers import strides

        return (yield from strides.ddim(x, sigmas, noise, eta, s_noise, stride, schedule))
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        down, up = split_step(s, t, eta)
        x = x0 + down * ((x - x0) / s)
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x
