"""Linear multistep methods: they extrapolate dx/dsigma from the last few steps, one question a
step."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import FIXED, compute_adams_weights
from fromnoise.errors import BadInput, UnknownName

if TYPE_CHECKING:  # the schedule's tables need all of torch
    from fromnoise.diffusion.schedule import NoiseSchedule


def lms(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, order: int = 4, past: Sequence[Past] = ()
) -> Sampling:
    """Adams-Bashforth for uneven steps: the polynomial in sigma through the last `order` slopes,
    integrated exactly, also over a step to sigma 0 (as in k-diffusion and A1111; ComfyUI takes x0
    there). The first steps have fewer slopes. That limits the whole to order 2 unless `past` is
    given."""
    return (yield from _run_multistep(x, sigmas, order, past, compute_adams_weights, to_zero=True))


def ipndm(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, order: int = 4, past: Sequence[Past] = ()
) -> Sampling:
    """Adams-Bashforth's weights for even steps, used for any steps (Zhang & Chen 2023 "DEIS",
    iPNDM). On levels that are not even in sigma the order is 2."""
    return (yield from _run_multistep(x, sigmas, order, past, _weigh_even_steps))


def ipndm_v(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    order: int = 4,
    exact: bool = False,
    past: Sequence[Past] = (),
) -> Sampling:
    """iPNDM with weights for uneven steps, as zju-pi's diff-sampler and ComfyUI publish them. Two
    of their terms differ from Adams-Bashforth's unless the steps are even: the third-order one
    reads (1 − h/(3·(h + h₁))·r)/2 for (1 − h/(3·(h + h₁)))/2·r, r = h·(h + h₁)/(h₁·(h₁ + h₂)), and
    the oldest weight has h₁/h₂ for h₂/h₃, so the sum of the weights is not 1. `exact` corrects
    both; the result is `lms` except for a step to sigma 0."""
    return (
        yield from _run_multistep(
            x, sigmas, order, past, compute_adams_weights if exact else _weigh_as_published
        )
    )


def deis(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    order: int = 3,
    variable: str = "time",
    final_order: int = 0,
    past: Sequence[Past] = (),
) -> Sampling:
    """DEIS (Zhang & Chen 2023, eq. 14 and 15). The last slopes are the noise predictions; the
    polynomial through them is one in another variable, integrated exactly. variable: "time", that
    of the variance-preserving SDE with β from 0.1 to 20 (tAB, as in ComfyUI), or "log_sigma" (ρAB
    in log ρ, as in diffusers). final_order: the most slopes that the last step uses; the one before
    it may use one more, and so on (0: no limit)."""
    variables: dict[str, Callable[[float], float]] = {
        "time": _compute_vp_time,
        "log_sigma": math.log,
    }
    if variable not in variables:
        raise UnknownName("variable", variable, variables)
    of = variables[variable]
    return (
        yield from _run_multistep(
            x,
            sigmas,
            order,
            past,
            lambda known, s, t: compute_adams_weights(known, s, t, of),
            final_order=final_order,
        )
    )


def plms(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    start: str = "euler",
    predict: str = "noise",
    stride: int = 0,
    schedule: "NoiseSchedule | None" = None,
    past: Sequence[Past] = (),
) -> Sampling:
    """Pseudo linear multistep (Liu et al. 2022 "PNDM", eq. 12): the noise predictions with
    Adams-Bashforth's weights for even steps. The first step has no earlier ones, so it asks twice
    (a pseudo improved Euler step).

    start: "euler", or "runge_kutta", whose first three steps ask four times each (eq. 13). predict:
    what the weights are applied to, "noise", or "v" where the network predicts that (diffusers adds
    the network's own answers). stride, schedule: see strides."""
    if stride or start != "euler" or predict != "noise":
        from fromnoise.diffusion.samplers.strides import pndm

        return (yield from pndm(x, sigmas, noise, start, predict, stride, schedule))
    grid, known = check_levels(sigmas), list(past)
    for i, (s, t) in enumerate(pairwise(grid)):
        x0 = (yield Query(x, s, i)).x0
        known.append(Past(s, x, x0))
        if len(known) == 1 and t > 0:
            x2 = x + (x - x0) / s * (t - s)
            d2 = (x2 - (yield Query(x2, t, i, stage=1)).x0) / t
            x = x + ((x - x0) / s + d2) / 2 * (t - s)
        else:
            x = _add_slopes(
                x, known[-4:], _weigh_even_steps([p.sigma for p in reversed(known[-4:])], s, t)
            )
    return x


def gradient_estimation(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, gamma: float = 2.0, past: Sequence[Past] = ()
) -> Sampling:
    """Euler's step along γ·d − (γ − 1)·d_last (Permenter & Yuan 2024, algorithm 2, γ = 2). γ = 1.5
    is Adams-Bashforth's second order; at 2 the order is 1. A step to sigma 0 is x0."""
    if not 1 <= gamma <= 5:
        raise BadInput(
            f"gamma {gamma} cannot be used", "give a number from 1 (Euler) to 5; 2 is usual"
        )
    known = list(past)[-1:]
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        known = [*known[-1:], Past(s, x, x0)]
        weights = [gamma, 1 - gamma] if len(known) == 2 and t > 0 else [1.0]
        x = _add_slopes(x, known[-len(weights) :], [w * (t - s) for w in weights])
    return x


def _run_multistep(
    x: Tensor,
    sigmas: Tensor,
    order: int,
    past: Sequence[Past],
    weights: Callable[[Sequence[float], float, float], Sequence[float]],
    to_zero: bool = False,
    final_order: int = 0,
) -> Sampling:
    """Adds the slopes times their weights to x. weights: (levels newest first, s, t) → weights
    newest first. A step to sigma 0 is x0 unless `to_zero`. final_order: see `deis`."""
    if final_order not in (0, 1, 2, 3, 4):
        raise BadInput(f"final_order {final_order} cannot be used", "give a number from 0 to 4")
    if order not in (1, 2, 3, 4):
        raise BadInput(f"order {order} cannot be used", "give 1, 2, 3 or 4")
    known = list(past)
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        known = [*known, Past(s, x, x0)][-order:]
        used = known[-(len(sigmas) - 2 - i + final_order) :] if final_order else known
        x = (
            x0
            if t == 0 and not to_zero
            else _add_slopes(x, used, weights([p.sigma for p in reversed(used)], s, t))
        )
    return x


def _add_slopes(x: Tensor, known: Sequence[Past], weights: Sequence[float]) -> Tensor:
    for past, w in zip(reversed(known), weights, strict=True):
        x = x.add(past.x - past.x0, alpha=w / past.sigma)
    return x


def _weigh_even_steps(known: Sequence[float], s: float, t: float) -> list[float]:
    return [w * (t - s) for w in FIXED[len(known) - 1]]


def _compute_vp_time(sigma: float) -> float:
    """t of the variance-preserving SDE at sigma: ln(1 + sigma²) = 19.9/2·t² + 0.1·t (Song et al.
    2021, eq. 33)."""
    return (math.sqrt(0.01 + 2 * 19.9 * math.log1p(sigma**2)) - 0.1) / 19.9


def _weigh_as_published(known: Sequence[float], s: float, t: float) -> list[float]:
    """The published weights of `ipndm_v`, see there."""
    h = [t - s, *(a - b for a, b in pairwise(known))]  # this step, the last, the one before, …
    weights = [1.0] if len(known) == 1 else [1 + h[0] / h[1] / 2, -h[0] / h[1] / 2]
    if len(known) > 2:
        third = (
            1 - h[0] / (3 * (h[0] + h[1])) * (h[0] * (h[0] + h[1])) / (h[1] * (h[1] + h[2]))
        ) / 2
        r = h[1] / h[2]
        weights = [weights[0] + third, weights[1] - (1 + r) * third, r * third]
    if len(known) > 3:
        ahead = h[0] + h[1]
        fourth = (
            (1 - h[0] / (3 * ahead)) / 2 + (1 - h[0] / (2 * ahead)) * h[0] / (6 * (ahead + h[2]))
        ) * (h[0] * ahead * (ahead + h[2]) / (h[1] * (h[1] + h[2]) * (h[1] + h[2] + h[3])))
        r, q = h[1] / h[2], h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
        weights = [
            weights[0] + fourth,
            weights[1] - (1 + r + q) * fourth,
            weights[2] + (r + q * (1 + h[2] / h[3])) * fourth,
            -fourth * q * r,
        ]
    return [w * h[0] for w in weights]
