"""Which sigmas a run visits: karras, exponential, linspace, leading, trailing."""

import math
from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING

from fromnoise.errors import BadInput, UnknownName

if TYPE_CHECKING:  # so that listing the names imports no torch
    from torch import Tensor

    from fromnoise.diffusion.schedule import NoiseSchedule


def karras(
    schedule: "NoiseSchedule", n: int, *, sigma_min: float | None = None, sigma_max: float | None = None, rho: float = 7
) -> list[float]:
    """Even in sigma^(1/rho), so denser where sigma is small (Karras et al. 2022, eq. 5)."""
    low, high = _range(schedule, sigma_min, sigma_max)
    if not 0 < rho < math.inf:
        raise BadInput(f"rho {rho} cannot be used", "give a number above 0; 7 is usual")
    low, high = low ** (1 / rho), high ** (1 / rho)
    return [(high + u * (low - high)) ** rho for u in _ramp(n)]


def exponential(
    schedule: "NoiseSchedule", n: int, *, sigma_min: float | None = None, sigma_max: float | None = None
) -> list[float]:
    """Even in log sigma."""
    low, high = map(math.log, _range(schedule, sigma_min, sigma_max))
    return [math.exp(high + u * (low - high)) for u in _ramp(n)]


def linspace(schedule: "NoiseSchedule", n: int) -> list[float]:
    """Timesteps even from T − 1 to 0, both included; they may be fractional."""
    _fits(schedule, n)
    return schedule.sigma([(len(schedule) - 1) * (1 - u) for u in _ramp(n)]).tolist()


def leading(schedule: "NoiseSchedule", n: int, *, steps_offset: int = 0) -> list[float]:
    """Multiples of T // n, plus steps_offset: never reaches T − 1 (Lin et al. 2023, table 2)."""
    _fits(schedule, n)
    return schedule.sigma([len(schedule) // n * i + steps_offset for i in reversed(range(n))]).tolist()


def trailing(schedule: "NoiseSchedule", n: int) -> list[float]:
    """T − 1 down in strides of T / n, rounded (Lin et al. 2023, table 2)."""
    _fits(schedule, n)
    T = len(schedule)
    return schedule.sigma([round(T - i * (T / n)) - 1 for i in range(n)]).tolist()


SPACINGS: dict[str, Callable[..., list[float]]] = {
    f.__name__: f for f in (karras, exponential, linspace, leading, trailing)
}


def sigmas(schedule: "NoiseSchedule", steps: int, spacing: str = "karras", final: str = "zero", **options) -> "Tensor":
    """The noise levels of a run of `steps` steps, (steps + 1,) float64 on the CPU, strictly decreasing.

    final: what follows the `steps` levels of the spacing: "zero", or "first", the schedule's own smallest sigma (what
    diffusers' DDIM does with set_alpha_to_one=False); with "none" nothing does, the spacing itself has steps + 1
    levels. options: sigma_min, sigma_max (karras, exponential), rho (karras), steps_offset (leading).
    Raises UnknownName, and BadInput for steps or options that cannot be used.
    """
    import torch

    if spacing not in SPACINGS:
        raise UnknownName("spacing", spacing, SPACINGS)
    if final not in ("zero", "first", "none"):
        raise UnknownName("final", final, ("zero", "first", "none"))
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise BadInput(f"steps {steps} cannot be used", "give a whole number from 1 up; 20 is usual")
    known = [p.name for p in signature(SPACINGS[spacing]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if unknown := set(options) - set(known):
        raise BadInput(
            f"spacing {spacing!r} has no option {', '.join(sorted(unknown))}",
            f"its options: {', '.join(known) or 'none'}",
        )
    levels = SPACINGS[spacing](schedule, steps + (final == "none"), **options)
    if final != "none":
        levels.append(0.0 if final == "zero" else float(schedule.sigmas[0]))
    if len(levels) > 1 and levels[-1] >= levels[-2]:
        raise BadInput(
            f"final={final!r} ends the run where its last step begins (sigma {levels[-2]:.4g})",
            "use final='zero', or leave room for it: steps_offset=1 for leading, a higher sigma_min for karras",
        )
    return torch.tensor(levels, dtype=torch.float64)


def _ramp(n: int) -> list[float]:
    return [i / max(n - 1, 1) for i in range(n)]


def _range(schedule: "NoiseSchedule", low: float | None, high: float | None) -> tuple[float, float]:
    low = float(schedule.sigmas[0]) if low is None else low
    high = float(schedule.sigmas[-1]) if high is None else high
    if not 0 < low < high < math.inf:
        raise BadInput(
            f"sigma_min {low} and sigma_max {high} span no range", "give 0 < sigma_min < sigma_max, both finite"
        )
    return low, high


def _fits(schedule: "NoiseSchedule", n: int) -> None:
    if n > len(schedule):
        raise BadInput(
            f"{n} noise levels from a schedule of {len(schedule)} timesteps",
            f"ask for at most {len(schedule) - 1} steps, or use the karras or exponential spacing",
        )
