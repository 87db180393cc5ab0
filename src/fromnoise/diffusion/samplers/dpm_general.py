"""DPM-Solver and DPM-Solver++ of orders 1 to 3 with every choice that diffusers offers: multistep
from past answers, singlestep over two or three levels of the run."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import compute_moments
from fromnoise.errors import BadInput, UnknownName

PREDICTS = ("x0", "noise")
SOLVERS = ("midpoint", "heun")


def dpm_multistep(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    order: int = 2,
    predict: str = "x0",
    solver: str = "midpoint",
    sde: bool = False,
    lower_order_final: bool = False,
    euler_at_final: bool = False,
    past: Sequence[Past] = (),
) -> Sampling:
    """The polynomial in log sigma through the last `order` answers, integrated with the
    exponential (Lu et al. 2022 "DPM-Solver", section 3.2, and "DPM-Solver++", algorithm 2; as
    diffusers' DPMSolverMultistepScheduler).

    predict: what the polynomial is of: "x0" (DPM-Solver++) or "noise" (DPM-Solver). solver: how a
    slope enters at order 2, "midpoint" or "heun" (the exact integral). sde: the reverse SDE, with
    new noise in each step. lower_order_final: the last step has order 1, the one before it at most
    2. euler_at_final: the last step has order 1. A step to sigma 0 is x0."""
    _check(order, predict, solver)
    grid, known = check_levels(sigmas), list(past)
    last = len(grid) - 2
    for i, (s, t) in enumerate(pairwise(grid)):
        known = [*known, Past(s, x, (yield Query(x, s, i)).x0)][-order:]
        used = len(known)
        if lower_order_final or (euler_at_final and i == last):
            used = min(used, last - i + 1)
        if t == 0:
            return known[-1].x0
        values = [_predicted(p, predict) for p in known[-used:]]
        # the polynomial at s: its value, slope and curvature over a step of length 1
        h = math.log(s / t)
        slope = curve = None
        if used > 1:
            r = math.log(known[-2].sigma / s) / h
            slope = (values[-1] - values[-2]) / r
            if used == 3:
                r2 = math.log(known[-3].sigma / known[-2].sigma) / h
                curve = (slope - (values[-2] - values[-3]) / r2) / (r + r2)
                slope = slope + curve * r
        exact = solver == "heun" or used == 3
        x = _take_step(x, s, t, (values[-1], slope, curve), predict, exact, sde)
        x = _add_noise(x, s, t, noise, predict, sde)
    return x


def dpm_singlestep(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    order: int = 2,
    predict: str = "x0",
    solver: str = "midpoint",
    sde: bool = False,
    lower_order_final: bool = True,
) -> Sampling:
    """Steps over one, two and three levels in turn, each from the start of its block, so that every
    answer inside of the block is used once (Lu et al. 2022 "DPM-Solver++", algorithm 1, with the
    middle at levels of the run; as diffusers' DPMSolverSinglestepScheduler).

    lower_order_final: blocks of lower order at the end, where the levels do not fill a whole one;
    always so where they do not, and for a run to sigma 0. For the others see `dpm_multistep`."""
    _check(order, predict, solver)
    grid = check_levels(sigmas)
    known: list[Past] = []
    for i, size in enumerate(_plan_blocks(len(grid) - 1, order, lower_order_final, grid[-1] == 0)):
        s, t = grid[i], grid[i + 1]
        known = [*known[-2:], Past(s, x, (yield Query(x, s, i)).x0)]
        if t == 0:
            return known[-1].x0
        block = known[-size:]  # its start first
        start, h = block[0], math.log(block[0].sigma / t)
        values = [_predicted(p, predict) for p in block]
        slope = curve = None
        if size > 1:
            r = math.log(start.sigma / s) / h
            slope = (values[-1] - values[0]) / r
            if size == 3 and solver == "heun":
                r1 = math.log(start.sigma / block[1].sigma) / h
                first = (values[1] - values[0]) / r1
                curve = 2 * (slope - first) / (r - r1)
                slope = (r * first - r1 * slope) / (r - r1)
        exact = solver == "heun" or size == 3
        x = _take_step(start.x, start.sigma, t, (values[0], slope, curve), predict, exact, sde)
        x = _add_noise(x, start.sigma, t, noise, predict, sde)
    return x


def _check(order: int, predict: str, solver: str) -> None:
    if order not in (1, 2, 3):
        raise BadInput(f"order {order} cannot be used", "give 1, 2 or 3")
    if predict not in PREDICTS:
        raise UnknownName("predict", predict, PREDICTS)
    if solver not in SOLVERS:
        raise UnknownName("solver", solver, SOLVERS)


def _predicted(past: Past, predict: str) -> Tensor:
    return past.x0 if predict == "x0" else (past.x - past.x0) / past.sigma


def _take_step(
    x: Tensor,
    s: float,
    t: float,
    terms: tuple[Tensor, Tensor | None, Tensor | None],
    predict: str,
    exact: bool,
    sde: bool,
) -> Tensor:
    """x at s → x at t without its noise. terms: value, slope and curvature of x0 or of the noise.
    exact: the slope's weight is its integral, else half of the value's.

    The weight of the curvature in an SDE of x0 is the published one: diffusers subtracts ½ where
    the integral adds it."""
    h, value, slope, curve = math.log(s / t), *terms
    # ∫ h·e^(−h·(1 − u))·u^p du for x0, which decays; the noise grows
    rate, scale = ((1 + sde) * h, 1.0) if predict == "x0" else (-h, (1 + sde) * t)
    whole, linear, square = compute_moments(rate, 3)
    x = x * math.exp(-rate) if predict == "x0" else x
    x = x + value * (scale * whole)
    if slope is not None:
        x = x + slope * (scale * (linear if exact else whole / 2))
    if curve is not None:
        x = x + curve * (scale * (square / 2 - (sde and predict == "x0")))
    return x


def _add_noise(
    x: Tensor, s: float, t: float, noise: NoiseSource, predict: str, sde: bool
) -> Tensor:
    """The noise of the reverse SDE from s to t."""
    if not sde:
        return x
    h = math.log(s / t)
    share = -math.expm1(-2 * h) if predict == "x0" else math.expm1(2 * h)
    return x + noise(s, t).to(x) * (t * math.sqrt(share))


def _plan_blocks(steps: int, order: int, lower_order_final: bool, to_zero: bool) -> list[int]:
    """For each step, over how many levels it goes: 1, 2, 3, 1, 2, 3, …"""
    if order == 1:
        return [1] * steps
    whole, rest = divmod(steps, order)
    blocks = [*range(1, order + 1)]
    if lower_order_final or rest or to_zero:
        if order == 3 and not rest:
            sizes = blocks * (whole - 1) + [1, 2, 1]
        elif order == 2 and not rest:
            sizes = blocks * (whole - 1) + [1, 1]
        else:
            sizes = blocks * whole + [*range(1, rest + 1)]
    else:
        sizes = blocks * whole
    if to_zero:
        sizes[-1] = 1
    return sizes
