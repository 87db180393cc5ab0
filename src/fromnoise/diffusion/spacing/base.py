"""What the spacings share: ranges, ramps and checks."""

import math
from typing import TYPE_CHECKING

from fromnoise.errors import BadInput

if TYPE_CHECKING:
    from fromnoise.diffusion.schedule import NoiseSchedule


def ramp(n: int) -> list[float]:
    """n numbers even from 0 to 1, both included; [0] for n = 1."""
    return [i / max(n - 1, 1) for i in range(n)]


def sigma_range(schedule: "NoiseSchedule", low: float | None, high: float | None) -> tuple[float, float]:
    """(sigma_min, sigma_max): the schedule's own where None. Raises BadInput unless 0 < low < high < ∞."""
    low = float(schedule.sigmas[0]) if low is None else low
    high = float(schedule.sigmas[-1]) if high is None else high
    if not 0 < low < high < math.inf:
        raise BadInput(
            f"sigma_min {low} and sigma_max {high} span no range", "give 0 < sigma_min < sigma_max, both finite"
        )
    return low, high


def within(name: str, value: float, low: float, high: float, usual: float) -> None:
    """Raises BadInput unless low < value ≤ high."""
    if not low < value <= high:
        raise BadInput(
            f"{name} {value} cannot be used", f"give a number above {low:g}, up to {high:g}; {usual} is usual"
        )


def fits(schedule: "NoiseSchedule", n: int) -> None:
    """Raises BadInput for more levels than the schedule has timesteps."""
    if n > len(schedule):
        raise BadInput(
            f"{n} noise levels from a schedule of {len(schedule)} timesteps",
            "ask for fewer steps, or use the karras or exponential spacing",
        )
