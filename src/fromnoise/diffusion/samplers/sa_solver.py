"""SA-Solver: stochastic Adams methods, predictor and corrector, for the reverse SDE; tau sets the
noise."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Past, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import compute_exponential_weights
from fromnoise.diffusion.samplers.stochastic import check_nonnegative
from fromnoise.errors import BadInput, UnknownName

STYLES = ("paper", "diffusers")


def sa_solver(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    tau: float = 1.0,
    tau_min: float = 0.45,
    tau_max: float = 4.94,
    s_noise: float = 1.0,
    predictor: int = 3,
    corrector: int = 4,
    pece: bool = False,
    lower_order_final: bool = True,
    style: str = "paper",
    past: Sequence[Past] = (),
) -> Sampling:
    """Xue et al. 2023 "SA-Solver", algorithm 1, eq. 14 to 18. The SDE has noise tau where the step
    ends inside of [tau_min, tau_max], and none elsewhere; the bounds are σ at 20 % and 80 % of
    Stable Diffusion's timesteps. predictor, corrector: the number of x0 on their polynomials in log
    sigma (corrector 0: none). pece: asks again at the corrected x, two questions a step.
    lower_order_final: fewer x0 in the last steps of a run to sigma 0, whose last step is x0.

    style: "paper", or "diffusers", whose SASolverScheduler looks at tau where the step starts,
    gives the slope through two x0 half the weight of a whole step, and has fewer x0 in the last
    steps of any run."""
    check_nonnegative(tau=tau, s_noise=s_noise, tau_min=tau_min)
    if predictor not in (1, 2, 3, 4) or corrector not in (0, 1, 2, 3, 4):
        raise BadInput(
            f"orders {predictor} and {corrector} cannot be used", "give 1 to 4, and 0 to 4"
        )
    if style not in STYLES:
        raise UnknownName("style", style, STYLES)
    grid, known, other = check_levels(sigmas), list(past), style == "diffusers"
    # (x, level, tau, noise) of the last step
    last: tuple[Tensor, float, float, Tensor | float] | None = None
    for i, (s, t) in enumerate(pairwise(grid)):
        fewer = lower_order_final and (other or grid[-1] == 0)
        left = len(grid) - 1 - i + 2 * other if fewer else len(grid) + 1
        x0 = (yield Query(x, s, i)).x0
        known = [*known, Past(s, x, x0)][-4:]
        used = min(corrector, len(known), left)
        if last and used and (t > 0 or pece):
            start, level, noise_tau, added = last
            x = _take_step(start, known[-used:], level, s, noise_tau, other) + added
            if pece:
                x0 = (yield Query(x, s, i, stage=1)).x0
            known[-1] = Past(s, x, x0)
        if t == 0:
            return x0
        noise_tau = tau if tau_min <= (s if other else t) <= tau_max else 0.0
        added = 0.0
        if noise_tau and s_noise:
            share = math.sqrt(-math.expm1(-2 * noise_tau**2 * math.log(s / t)))
            added = noise(s, t).to(x) * (t * share * s_noise)
        last = x, s, noise_tau, added
        points = known[-max(1, min(predictor, len(known), left - 1 - other)) :]
        x = _take_step(x, points, s, t, noise_tau, other) + added
    return x


def _take_step(
    x: Tensor, known: Sequence[Past], s: float, t: float, tau: float, half: bool
) -> Tensor:
    """x at s → x at t without its noise, x0 being the polynomial in log sigma through the known
    ones. half: of two, the slope has the weight of half a step."""
    h = math.log(s / t)
    x = x * math.exp(-(1 + tau**2) * h)
    places, rate = [math.log(s / p.sigma) / h for p in known], (1 + tau**2) * h
    weights = compute_exponential_weights(places, rate)
    if half and len(known) == 2:
        # the weights of a line through both that is whole at the start of the step
        slope, value = rate / 2 / (places[1] - places[0]), -math.expm1(-rate)
        shares = [places[1], -places[0]]
        weights = [
            value * share / (places[1] - places[0]) + sign * slope
            for share, sign in zip(shares, (-1, 1), strict=True)
        ]
    for p, w in zip(known, weights, strict=True):
        x.add_(p.x0, alpha=w)  # in place: half the time, which is felt beside a small network
    return x
