"""DPM-Solver++ for the reverse SDE: 2M and 3M SDE use the last x0 too, DPM++ SDE asks twice."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import compute_moments
from fromnoise.diffusion.samplers.stochastic import announce_steps, check_nonnegative, split_step
from fromnoise.errors import BadInput, UnknownName

SOLVERS = ("midpoint", "heun")


def dpmpp_2m_sde(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver: str = "midpoint",
    past: Sequence[Past] = (),
) -> Sampling:
    """`dpmpp_2m` on the reverse SDE; eta scales its noise (Lu et al. 2022 "DPM-Solver++", section 5
    and appendix B.5). solver: how the slope of x0 enters, "midpoint" (with eta 0 it is `dpmpp_2m`)
    or "heun" (the exact integral; with eta 0 it is `res_multistep`). A step to sigma 0 is x0."""
    if solver not in SOLVERS:
        raise UnknownName("solver", solver, SOLVERS)
    return (
        yield from _run_multistep(
            x, sigmas, noise, eta, s_noise, 2, solver == "midpoint", False, past
        )
    )


def dpmpp_3m_sde(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    exact: bool = False,
    past: Sequence[Past] = (),
) -> Sampling:
    """x0 extrapolated from the last three, on the reverse SDE, as k-diffusion published it.

    Its quadratic term is half of the derived one: with u the way through the step and φ₂ = 1 − (1 −
    e^−h)/h, ∫ h·e^(−h·(1 − u))·u² du = 1 − 2·φ₂/h = −2·(φ₂/h − ½), and the published code has
    −(φ₂/h − ½). So the published order is 2, although it uses three questions; `exact` takes the
    whole integral and reaches 3."""
    return (yield from _run_multistep(x, sigmas, noise, eta, s_noise, 3, False, exact, past))


def _run_multistep(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float,
    s_noise: float,
    order: int,
    midpoint: bool,
    exact: bool,
    past: Sequence[Past],
) -> Sampling:
    check_nonnegative(eta=eta, s_noise=s_noise)
    known, grid = list(past), check_levels(sigmas)
    if eta:
        announce_steps(noise, [step for step in pairwise(grid) if step[1] > 0])
    for i, (s, t) in enumerate(pairwise(grid)):
        x0 = (yield Query(x, s, i)).x0
        known = [*known, Past(s, x, x0)][-order:]
        if t == 0:
            return x0
        h = math.log(s / t)
        gain, linear, square = compute_moments((1 + eta) * h, 3)
        x = x * math.exp(-(1 + eta) * h) + x0 * gain
        if len(known) > 1:
            r = math.log(known[-2].sigma / s) / h
            slope = (x0 - known[-2].x0) / r  # the change of x0 over one step
            if len(known) == 3:
                r2 = math.log(known[-3].sigma / known[-2].sigma) / h
                curve = (slope - (known[-2].x0 - known[-3].x0) / r2) / (r + r2)
                x = x + curve * (square if exact else square / 2)
                slope = slope + curve * r
            x = x + slope * (gain / 2 if midpoint else linear)
        if eta:
            x = x + noise(s, t).to(x) * (t * math.sqrt(-math.expm1(-2 * eta * h)) * s_noise)
    return x


def dpmpp_3m(x: Tensor, sigmas: Tensor, noise: NoiseSource, past: Sequence[Past] = ()) -> Sampling:
    """`dpmpp_3m_sde` without noise and with its whole quadratic term: third order from one question
    a step (Lu et al. 2022 "DPM-Solver++", section 4.2, for three x0)."""
    return (yield from _run_multistep(x, sigmas, noise, 0.0, 0.0, 3, False, True, past))


def dpmpp_sde(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
) -> Sampling:
    """Two questions a step, each after its own ancestral noise; the second at the share r of the
    step in log sigma (k-diffusion's stochastic form of Lu et al. 2022 "DPM-Solver++", algorithm 1).
    A step to sigma 0 is x0."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    if not 0 < r < 1:
        raise BadInput(f"r {r} cannot be used", "give a number between 0 and 1; 0.5 is usual")
    grid = check_levels(sigmas)
    middles = [s * (t / s) ** r for s, t in pairwise(grid)]
    if eta:
        asked = zip(grid, middles, grid[1:], strict=False)
        announce_steps(
            noise, [step for s, middle, t in asked if t > 0 for step in ((s, middle), (s, t))]
        )
    for i, (s, t) in enumerate(pairwise(grid)):
        x0 = (yield Query(x, s, i)).x0
        if t == 0:
            return x0
        middle = middles[i]
        down, up = split_step(s, middle, eta)
        x2 = x * (down / s) + x0 * (1 - down / s)
        if up:
            x2 = x2 + noise(s, middle).to(x) * (up * s_noise)
        x0 = x0 + ((yield Query(x2, middle, i, stage=1)).x0 - x0) / (2 * r)
        down, up = split_step(s, t, eta)
        x = x * (down / s) + x0 * (1 - down / s)
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x
