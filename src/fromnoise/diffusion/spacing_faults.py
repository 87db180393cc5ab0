"""What is wrong with a run's noise levels, in words: only a fault needs it."""

import math
from typing import TYPE_CHECKING, Any, NoReturn

from fromnoise.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from fromnoise.diffusion.schedule import NoiseSchedule


def refuse_run(
    name: str,
    known: tuple[str, ...],
    table: "NoiseSchedule | None",
    steps: int,
    n: int,
    final: str,
    options: dict[str, Any],
) -> NoReturn:
    """Raises BadInput or UnknownName for arguments of `make_sigmas` that cannot be used.

    name, known: of the spacing, and its options. table: the schedule, if the spacing visits its
    timesteps. n: the levels that the spacing is asked for."""
    if final not in ("zero", "first", "none", "last"):
        raise UnknownName("final", final, ("zero", "first", "none", "last"))
    if type(steps) is not int or steps < 1:
        raise BadInput(f"steps {steps} cannot be used", "give a whole number from 1; 20 is usual")
    if unknown := options.keys() - {*known}:
        raise BadInput(
            f"spacing {name!r} has no option {', '.join(sorted(unknown))}",
            f"its options: {', '.join(known) or 'none'}",
        )
    if table is not None:
        check_level_count(table, max(n, steps))
    raise BadInput(f"{steps} steps are more than any run needs", "use fewer; 20 is usual")


def refuse_levels(
    name: str, levels: list[float], n: int, final: str, options: dict[str, Any], sound: bool
) -> NoReturn:
    """Raises BadInput for levels that make no run; sound: whether those of the spacing itself are
    strictly decreasing and above 0."""
    if levels[0] == math.inf:
        raise BadInput(
            f"options {options} give the spacing {name!r} an infinite level",
            "leave them out",
        )
    if not sound:
        raise BadInput(
            f"the {n} levels of spacing {name!r} are not strictly decreasing and above 0",
            f"use fewer steps{' or the default options' if options else ''}",
        )
    if len(levels) < 2:
        raise BadInput(
            f"the spacing {name!r} gives a run without steps", "use another number of steps"
        )
    raise BadInput(
        f"final={final!r} is not below the run's last level (sigma {levels[-2]:.4g})",
        "use final='zero', steps_offset=1 for leading or a higher sigma_min for karras",
    )


def check_level_count(schedule: "NoiseSchedule", n: int) -> None:
    """Raises BadInput for more levels than the schedule has timesteps."""
    if n > len(schedule):
        raise BadInput(
            f"{n} noise levels are more than the {len(schedule)} timesteps of the schedule",
            "use fewer steps, or the karras or exponential spacing",
        )


def refuse_range(low: float, high: float) -> NoReturn:
    """Raises BadInput for ends that are not 0 < low < high < ∞."""
    remedy = "give 0 < sigma_min < sigma_max, both finite"
    raise BadInput(f"sigma_min {low} and sigma_max {high} span no range", remedy)


def check_range(name: str, value: float, low: float, high: float, usual: float) -> None:
    """Raises BadInput unless low < value ≤ high."""
    if not low < value <= high:
        remedy = f"give a number above {low:g}, up to {high:g}; {usual} is usual"
        raise BadInput(f"{name} {value} cannot be used", remedy)
