"""SEEDS: exponential Runge-Kutta methods for the reverse SDE; one noise path runs through a step's
stages."""

import math
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import compute_moments
from fromnoise.diffusion.samplers.stochastic import check_nonnegative
from fromnoise.errors import BadInput


def seeds_2(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
    exact: bool = False,
) -> Sampling:
    """Two questions a step, the second at the share r of it in log sigma (Gonzalez et al. 2023
    "SEEDS", algorithm 2, data prediction). eta scales the SDE's noise. A step to sigma 0 is x0.

    The second x0 enters with weight 1/(2r) on the whole gain, as in DPM-Solver++ 2S. `exact`
    integrates the line through both (ComfyUI's solver types "phi_1" and "phi_2")."""
    _check_options(eta, s_noise, r, 1.0)
    return (yield from _run_stages(x, sigmas, noise, eta, s_noise, (r,), exact))


def seeds_3(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r1: float = 1 / 3,
    r2: float = 2 / 3,
) -> Sampling:
    """Three questions a step, at the shares 0, r1 and r2 (Gonzalez et al. 2023 "SEEDS", algorithm
    3, data prediction). A step to sigma 0 is x0."""
    _check_options(eta, s_noise, r1, r2)
    return (yield from _run_stages(x, sigmas, noise, eta, s_noise, (r1, r2), True))


def _check_options(eta: float, s_noise: float, r1: float, r2: float) -> None:
    check_nonnegative(eta=eta, s_noise=s_noise)
    if not 0 < r1 <= r2 <= 1:
        raise BadInput(f"shares {r1} and {r2} of a step cannot be used", "give 0 < r1 ≤ r2 ≤ 1")


def _run_stages(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float,
    s_noise: float,
    shares: tuple[float, ...],
    exact: bool,
) -> Sampling:
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        if t == 0:
            return x0
        h = math.log(s / t)
        added, at, known, start = None, s, [(0.0, x0)], x
        for stage, r in enumerate((*shares, 1.0), 1):
            to = s * (t / s) ** r if r < 1 else t
            gain, linear = compute_moments((1 + eta) * r * h, 2)
            x = start * math.exp(-(1 + eta) * r * h) + x0 * gain
            if len(known) > 1:  # the line through the first x0 and the last
                place, latest = known[-1]
                share = linear * r / place if exact else gain / (2 * place)
                x = x + (latest - x0) * share
            if eta:
                # The path from s to `to`: the earlier noise shrinks by (to/at)^eta, and new noise
                # adds the missing variance.
                way = math.log(at / to)
                fresh = noise(at, to).to(x) * math.sqrt(-math.expm1(-2 * eta * way)) if way else 0.0
                added = fresh if added is None else added * math.exp(-eta * way) + fresh
                x = x + added * (to * s_noise)
            if stage <= len(shares):
                known.append((r, (yield Query(x, to, i, stage)).x0))
            at = to
    return x
