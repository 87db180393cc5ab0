"""UniPC: a multistep predictor. The next step's question corrects its result at no cost."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import compute_moments, solve_vandermonde
from fromnoise.errors import BadInput, UnknownName

VARIANTS = ("bh1", "bh2")


def unipc(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    order: int = 3,
    variant: str = "bh1",
    lower_order_final: bool = True,
    past: Sequence[Past] = (),
) -> Sampling:
    """UniPC-p (Zhao et al. 2023, algorithms 5 to 8, data prediction): the predictor of order p
    through x0 at the last p levels, then the corrector of order p + 1, which also goes through the
    next question's x0. No question is asked twice, so x0 belongs to the predicted x.

    variant: B(h) = h ("bh1") or e^h − 1 ("bh2"). It matters where a single x0 gives the slope
    (there both set its weight to ½·B(h)). lower_order_final: the last steps use no more x0 than
    there are steps left, as A1111 and diffusers do for few steps. The order of the first steps
    grows from 1."""
    if order not in (1, 2, 3):
        raise BadInput(f"order {order} cannot be used", "give 1, 2 or 3")
    if variant not in VARIANTS:
        raise UnknownName("variant", variant, VARIANTS)
    grid, known, last = check_levels(sigmas), list(past)[-order:], None
    for i, (s, t) in enumerate(pairwise(grid)):
        x0 = (yield Query(x, s, i)).x0
        if last:  # correct the last step
            x = _take_step(*last, s, x0, variant)
        known = [*known, Past(s, x, x0)][-order:]
        if t == 0:
            return x0
        used = min(len(known), len(grid) - 1 - i) if lower_order_final else len(known)
        last = x, known[-used:]
        x = _take_step(*last, t, None, variant)
    return x


def _take_step(
    x: Tensor, known: Sequence[Past], t: float, x0_at_t: Tensor | None, variant: str
) -> Tensor:
    """x at the last known level → x at t, through the known x0 and, where given, the x0 at t (eq. 5
    and 9)."""
    s, x0 = known[-1].sigma, known[-1].x0
    h = math.log(s / t)
    moment = compute_moments(h, 4)  # of e^(−h·(1 − u)): the paper's h·φ_k without their signs
    places = [math.log(s / p.sigma) / h for p in reversed(known[:-1])]
    others = [p.x0 for p in reversed(known[:-1])]
    if x0_at_t is not None:
        places, others = [*places, 1.0], [*others, x0_at_t]
    if len(places) == 1:
        weights = [(h if variant == "bh1" else -math.expm1(-h)) / 2]
    else:
        weights = solve_vandermonde(places, moment[1 : 1 + len(places)])
    x = (x * (t / s)).add_(x0, alpha=moment[0])  # in place: small sums take most of the time
    for other, place, w in zip(others, places, weights, strict=True):
        x.add_(other - x0, alpha=w / place)
    return x
