"""DPM-Solver: exponential integrators of the noise in log sigma. DPM fast and adaptive choose their
steps."""

import math
from collections.abc import Generator
from itertools import pairwise

import torch
from torch import Tensor

from fromnoise.diffusion.samplers.base import Answer, NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.stochastic import check_nonnegative, split_step
from fromnoise.errors import BadInput


def dpm_solver_3(x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Sampling:
    """Third order from three questions a step (Lu et al. 2022 "DPM-Solver", algorithm 2 with r₁ =
    ⅓, r₂ = ⅔)."""
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        eps = (x - (yield Query(x, s, i)).x0) / s
        if t == 0:
            return x - s * eps
        x = (yield from _take_step(x, eps, s, t, i, 3))[-1]
    return x


def dpm_fast(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """As many questions as the run has steps, in DPM-Solver's third-order steps and a shorter rest.
    The steps are even in log sigma between the run's first level and its smallest positive one,
    where it ends (Lu et al. 2022 "DPM-Solver", section 3.4 and appendix C.1). A1111 runs it with
    eta 1; k-diffusion's own default is 0."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    start, end, n = _find_ends(sigmas)
    orders = [3] * (n // 3 - 1) + [2, 1] if n % 3 == 0 else [3] * (n // 3) + [n % 3]
    grid = [start * (end / start) ** (i / len(orders)) for i in range(len(orders))] + [end]
    asked = 0
    for order, (s, t) in zip(orders, pairwise(grid), strict=True):
        down, up = _split_step_above(s, t, end, eta)
        eps = (x - (yield Query(x, s, asked)).x0) / s
        x = (yield from _take_step(x, eps, s, down, asked, order))[-1]
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
        asked += order
    return x


def dpm_adaptive(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    accept_safety: float = 0.81,
) -> Sampling:
    """DPM-Solver-12 or -23 with steps as long as the error allows (Lu et al. 2022 "DPM-Solver",
    appendix C.4), between the run's first level and its smallest positive one. The run's number of
    steps has no effect.

    The error of a step is the difference of two orders. It is measured for each image, and each
    image of a batch takes its own steps. k-diffusion measures it over the batch, so its pictures
    depend on their neighbours. A1111 runs it with eta 1."""
    check_nonnegative(eta=eta, s_noise=s_noise, rtol=rtol, atol=atol)
    if (
        order not in (2, 3)
        or not 0 < h_init < math.inf
        or not 0 < accept_safety < 1
        or rtol == atol == 0
    ):
        raise BadInput(
            f"order {order}, h_init {h_init}, accept_safety {accept_safety}, rtol {rtol}, "
            f"atol {atol} cannot be used",
            "give order 2 or 3, h_init above 0, accept_safety in (0, 1), and rtol or atol above 0",
        )
    start, end, n = _find_ends(sigmas)
    done = []
    for image in range(len(x)):
        one, last, s, h = x[image : image + 1], x[image : image + 1], start, h_init
        while math.log(s / end) > 1e-5:
            t = max(end, s * math.exp(-h))
            step = min(n - 1, int(math.log(start / s) / math.log(start / end) * n))
            down, up = _split_step_above(s, t, end, eta)
            eps = (one - (yield Query(one, s, step, image=image)).x0) / s
            low, high = yield from _take_step(one, eps, s, down, step, order, image)
            allowed = torch.maximum(
                torch.maximum(low.abs(), last.abs()) * rtol, torch.full_like(low, atol)
            )
            error = float(((low - high) / allowed).square().mean().sqrt())
            if not math.isfinite(error):
                raise BadInput(
                    "DPM adaptive finds no step: the predicted picture is not finite",
                    "use another sampler, or --dtype fp32",
                )
            # an integral controller: k-diffusion's PID with its usual 0, 1, 0
            factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / (1.5 if eta else order)) - 1)
            if factor >= accept_safety:
                one, last, s = high, low, t
                if up:
                    one = one + noise(s, t, image).to(x) * (up * s_noise)
            h *= factor
        done.append(one)
    return torch.cat(done)


def _find_ends(sigmas: Tensor) -> tuple[float, float, int]:
    """(first level, smallest positive level, number of steps). Raises BadInput where these levels
    are equal."""
    grid = check_levels(sigmas)
    end = grid[-1] or grid[-2]
    if end == grid[0]:
        raise BadInput(
            "a sampler that chooses its own steps needs two positive noise levels",
            "use 2 steps or more",
        )
    return grid[0], end, len(grid) - 1


def _split_step_above(s: float, t: float, end: float, eta: float) -> tuple[float, float]:
    """`split_step`, but down is never below `end`."""
    down = max(end, split_step(s, t, eta)[0])
    return down, math.sqrt(max(t**2 - down**2, 0.0))


def _take_step(
    x: Tensor, eps: Tensor, s: float, t: float, step: int, order: int, image: int | None = None
) -> Generator[Query, Answer, tuple[Tensor, Tensor]]:
    """(x at t by the order below, by `order`) from the noise `eps` predicted at s; order − 1
    questions. In terms of h = log(s / t), both orders share their first question (r₁ = ½ for order
    2, ⅓ for order 3)."""
    h = math.log(s / t)
    first = x - t * math.expm1(h) * eps
    if order == 1:
        return first, first

    def ask(x: Tensor, at: float, stage: int) -> Generator[Query, Answer, Tensor]:
        return (x - (yield Query(x, at, step, stage, image)).x0) / at

    r1 = 1 / 2 if order == 2 else 1 / 3
    middle = s * math.exp(-r1 * h)
    eps1 = yield from ask(x - middle * math.expm1(r1 * h) * eps, middle, 1)
    second = first - t / (2 * r1) * math.expm1(h) * (eps1 - eps)
    if order == 2:
        return first, second
    r2 = 2 / 3
    later = s * math.exp(-r2 * h)
    x2 = (
        x
        - later * math.expm1(r2 * h) * eps
        - later * (r2 / r1) * (math.expm1(r2 * h) / (r2 * h) - 1) * (eps1 - eps)
    )
    eps2 = yield from ask(x2, later, 2)
    return second, first - t / r2 * (math.expm1(h) / h - 1) * (eps2 - eps)
