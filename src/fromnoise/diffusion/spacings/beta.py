"""The beta spacing: levels at the quantiles of a beta distribution."""

import math

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import (
    make_ramp,
    resolve_sigma_range,
)
from fromnoise.diffusion.spacing_faults import check_level_count, check_range
from fromnoise.errors import UnknownName


def beta(
    schedule: NoiseSchedule,
    n: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    alpha: float = 0.6,
    beta: float = 0.6,
    of: str = "sigma",
) -> list[float]:
    """Even in the distribution function of Beta(alpha, beta): below 1 denser at both ends (Lee et
    al. 2024, "Beta Sampling is All You Need"). alpha, beta in (0.01, 100]. Not to be confused with
    the schedule's betas.

    of: the value that has this distribution. "timestep", as in the paper and in ComfyUI: timestep
    (T − 1)·Q(1 − i/n) for i < n, rounded, Q the quantile function; equal timesteps count once, so a
    run may have fewer levels than n. "sigma", as in A1111 and diffusers: sigma_min + (sigma_max −
    sigma_min)·Q(1 − i/(n − 1)), always n levels; only these have ends other than the schedule's."""
    check_range("alpha", alpha, 0.01, 100, usual=0.6)
    check_range("beta", beta, 0.01, 100, usual=0.6)
    if of == "sigma":
        low, high = resolve_sigma_range(schedule, sigma_min, sigma_max)
        return [low + quantile(1 - u, alpha, beta) * (high - low) for u in make_ramp(n)]
    if of == "timestep":
        check_level_count(schedule, n)
        times = [round((len(schedule) - 1) * quantile(1 - i / n, alpha, beta)) for i in range(n)]
        return [float(schedule.sigmas[t]) for t in dict.fromkeys(times)]
    raise UnknownName("of", str(of), ("sigma", "timestep"))


def quantile(p: float, a: float, b: float) -> float:
    """The x ∈ [0, 1] with I_x(a, b) = p ∈ [0, 1], by Newton's steps. A step that leaves the bracket
    becomes a halving."""
    if p in (0, 1):
        return float(p)
    low, high, x = 0.0, 1.0, 0.5
    for _ in range(200):  # usually 10; 200 halvings are far below an ulp of any sigma
        excess = distribution(x, a, b) - p
        low, high = (low, x) if excess > 0 else (x, high)
        mass = _mass(x, a, b)
        following = x - excess * x * (1 - x) / mass if mass else low
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - x) <= 1e-14 * x:
            return following
        x = following
    return x


def distribution(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), the distribution function of Beta(a, b),
    for x ∈ (0, 1). Computed as its continued fraction (DLMF 8.17.22) by Lentz's method, after a
    reflection (8.17.4) where it converges slowly."""
    if x > (a + 1) / (a + b + 2):
        return 1 - distribution(1 - x, b, a)
    value = c = 1.0
    d = 0.0
    for k in range(1, 1000):  # about √max(a, b) terms are enough
        m = k // 2
        if k % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        c, d = 1 + term / c, 1 / (1 + term * d)
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return _mass(x, a, b) / (a * value)


def _mass(x: float, a: float, b: float) -> float:
    """x^a (1 − x)^b / B(a, b): x (1 − x) times the density."""
    return math.exp(
        a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    )
