"""UniPC: a multistep predictor. The next step's question corrects its result at no cost."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import compute_moments, solve_vandermonde
from fromnoise.errors import BadInput, UnknownName

VARIANTS = ("bh1", "bh2")
PREDICTS = ("x0", "noise")


def unipc(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    order: int = 3,
    variant: str = "bh1",
    lower_order_final: bool = True,
    predict: str = "x0",
    uncorrected: str = "",
    past: Sequence[Past] = (),
) -> Sampling:
    """UniPC-p (Zhao et al. 2023, algorithms 5 to 8): the predictor of order p
    through x0 at the last p levels, then the corrector of order p + 1, which also goes through the
    next question's x0. No question is asked twice, so x0 belongs to the predicted x.

    variant: B(h) = h ("bh1") or e^h − 1 ("bh2"). It matters where a single x0 gives the slope
    (there both set its weight to ½·B(h)). lower_order_final: the last steps use no more x0 than
    there are steps left, as A1111 and diffusers do for few steps. The order of the first steps
    grows from 1. predict: what the polynomial is of, "x0" or "noise". uncorrected: the numbers of
    the steps that keep their prediction, as "0 1 2" (diffusers' disable_corrector)."""
    if order not in (1, 2, 3):
        raise BadInput(f"order {order} cannot be used", "give 1, 2 or 3")
    if variant not in VARIANTS:
        raise UnknownName("variant", variant, VARIANTS)
    if predict not in PREDICTS:
        raise UnknownName("predict", predict, PREDICTS)
    kept = set(uncorrected.split())
    grid, known, last = check_levels(sigmas), list(past)[-order:], None
    for i, (s, t) in enumerate(pairwise(grid)):
        x0 = (yield Query(x, s, i)).x0
        at = x  # x0 and the noise are those of the predicted x, also where it is corrected
        if last and str(i - 1) not in kept:
            x = _take_step(*last, s, _find_value(x0, at, s, predict), variant, predict)
        known = [*known, Past(s, at, x0)][-order:]
        if t == 0:
            return x0
        used = min(len(known), len(grid) - 1 - i) if lower_order_final else len(known)
        last = x, known[-used:]
        x = _take_step(*last, t, None, variant, predict)
    return x


def _find_value(x0: Tensor, x: Tensor, sigma: float, predict: str) -> Tensor:
    return x0 if predict == "x0" else (x - x0) / sigma


def _take_step(
    x: Tensor,
    known: Sequence[Past],
    t: float,
    value_at_t: Tensor | None,
    variant: str,
    predict: str,
) -> Tensor:
    """x at the last known level → x at t, through the known values (x0 or noise) and, where given,
    the value at t (eq. 5 and 9)."""
    s = known[-1].sigma
    h = math.log(s / t)
    # x0 decays with the step, noise grows
    rate, keep, scale = (h, t / s, 1.0) if predict == "x0" else (-h, 1.0, t)
    moment = compute_moments(rate, 4)  # of e^(−h·(1 − u)): the paper's h·φ_k without their signs
    places = [math.log(s / p.sigma) / h for p in reversed(known[:-1])]
    value, *others = [_find_value(p.x0, p.x, p.sigma, predict) for p in reversed(known)]
    if value_at_t is not None:
        places, others = [*places, 1.0], [*others, value_at_t]
    if len(places) == 1:
        weights = [(rate if variant == "bh1" else -math.expm1(-rate)) / 2]
    else:
        weights = solve_vandermonde(places, moment[1 : 1 + len(places)])
    # in place: small sums take most of the time
    x = (x * keep).add_(value, alpha=scale * moment[0])
    for other, place, w in zip(others, places, weights, strict=True):
        x.add_(other - value, alpha=scale * w / place)
    return x
