"""Spacings by a formula in sigma: exponential, polyexponential, kl_optimal, linear_quadratic.

Each returns n levels from sigma_max down to sigma_min. Where these are None, they are the ends of
the schedule."""

import math

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import make_ramp, resolve_sigma_range
from fromnoise.diffusion.spacing_faults import check_range


def exponential(
    schedule: NoiseSchedule,
    n: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> list[float]:
    """Even in log sigma."""
    low, high = map(math.log, resolve_sigma_range(schedule, sigma_min, sigma_max))
    return [math.exp(high + u * (low - high)) for u in make_ramp(n)]


def polyexponential(
    schedule: NoiseSchedule,
    n: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 1,
) -> list[float]:
    """log sigma is the power rho of an even ramp (k-diffusion's get_sigmas_polyexponential): at 1
    it is exponential, above 1 denser where sigma is small. rho in (0, 1000]."""
    low, high = map(math.log, resolve_sigma_range(schedule, sigma_min, sigma_max))
    check_range("rho", rho, 0, 1000, usual=1)
    return [math.exp(low + (1 - u) ** rho * (high - low)) for u in make_ramp(n)]


def kl_optimal(
    schedule: NoiseSchedule,
    n: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> list[float]:
    """Even in arctan sigma: the steps with the smallest loss, in Kullback-Leibler divergence, on
    Gaussian data of variance 1 (Sabour et al. 2024, theorem 3.1 with c = 1).

    The theorem's n steps go from sigma_max to sigma_min and end there: `make_sigmas(...,
    final="none")`, as A1111 does. With final="zero" the last of n levels is sigma_min and a step to
    0 follows it, as in ComfyUI."""
    low, high = resolve_sigma_range(schedule, sigma_min, sigma_max)
    # π/2 − arctan sigma, exact where sigma is large
    start, end = math.atan(1 / high), math.atan(1 / low)
    return [1 / math.tan(start + u * (end - start)) for u in make_ramp(n)]


def linear_quadratic(
    schedule: NoiseSchedule, n: int, *, threshold_noise: float = 0.025
) -> list[float]:
    """sigma / sigma_max falls from 1 by threshold_noise in n // 2 even steps, and from there to 0
    as a parabola that starts with the same slope (Genmo's Mochi 1; ComfyUI's linear_quadratic). The
    n levels do not include the 0.

    It is meant for flow matching: the first steps equal those of a run of (n // 2) /
    threshold_noise steps. threshold_noise in (0, 1); above about 1/2 the parabola may overshoot,
    and `make_sigmas` refuses that."""
    _, high = resolve_sigma_range(schedule, None, None)
    check_range("threshold_noise", threshold_noise, 0, 1, usual=0.025)
    linear = max(n // 2, 1)
    slope = threshold_noise / linear
    bend = (1 - slope * n) / max(n - linear, 1) ** 2
    return [high * (1 - slope * i - bend * max(i - linear, 0) ** 2) for i in range(n)]
