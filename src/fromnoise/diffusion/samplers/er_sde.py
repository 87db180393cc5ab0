"""ER-SDE: reverse SDEs with a free choice of noise, x0 as a polynomial in sigma."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import integrate
from fromnoise.diffusion.samplers.stochastic import check_nonnegative
from fromnoise.errors import BadInput


def compute_phi(sigma: Any) -> Any:
    """φ(σ) = σ·(e^(σ^0.3) + 10), the paper's "ER SDE 5": with this noise x/φ(σ) drifts alone. For a
    float or a Tensor."""
    return sigma * (math.e ** (sigma**0.3) + 10)


def er_sde(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    s_noise: float = 1.0,
    order: int = 3,
    exact: bool = False,
    past: Sequence[Past] = (),
) -> Sampling:
    """Cui et al. 2023 "Elucidating the solution space of extended reverse-time SDE for diffusion
    models", algorithms 3 to 5 (in variance exploding coordinates, which VP-ER-SDE-Solver-3 uses). A
    step to sigma 0 is x0.

    With r = φ(t)/φ(s): x ← r·x + (1 − r)·x0 + slope·(t − s + φ(t)·∫ dσ/φ) + …, plus noise of
    variance t² − r²·s². The integrals, from t to s, are exact here; the authors and ComfyUI sum 200
    rectangles.

    The published order 3 is really 2: its polynomial is x0(s) + (σ − s)·d + (σ − s)²·c, with d the
    divided difference over [s₁, s] and c that over [s₂, s]. Newton's polynomial, which goes through
    all three, has (σ − s)·(σ − s₁)·c; the rest, (σ − s)·(s₁ − s)·c, is of second order. `exact`
    takes Newton's: order 3 from exact starting values."""
    check_nonnegative(s_noise=s_noise)
    if order not in (1, 2, 3):
        raise BadInput(f"order {order} cannot be used", "give 1, 2 or 3")
    known, slopes = list(past)[-2:], []
    if len(known) == 2:
        slopes = [(known[1].x0 - known[0].x0) / (known[1].sigma - known[0].sigma)]
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        if t == 0:
            return x0
        end, begin = compute_phi(t), compute_phi(s)
        r = end / begin
        x = (x * r).add_(x0, alpha=1 - r)  # in place: small sums take most of the time
        if known and order > 1:
            slope = (x0 - known[-1].x0) / (s - known[-1].sigma)
            whole, moment = integrate(lambda v: (1 / (size := compute_phi(v)), v / size), t, s)
            x.add_(slope, alpha=t - s + end * whole)
            if slopes and len(known) > 1 and order > 2:
                curve = (slope - slopes[-1]) / ((s - known[-2].sigma) / 2)
                x.add_(curve, alpha=(t - s) ** 2 / 2 + end * (moment - s * whole))
                if exact:
                    x.add_(curve, alpha=(s - known[-1].sigma) / 2 * (t - s + end * whole))
            slopes = [slope]
        known = [*known, Past(s, x, x0)][-2:]
        if s_noise:
            x = x + noise(s, t).to(x) * (math.sqrt(max(t**2 - (r * s) ** 2, 0.0)) * s_noise)
    return x
