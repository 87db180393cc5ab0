"""SPACINGS: the registry of spacings (which sigmas a run visits), plain metadata that imports no
torch; `sigmas`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING

from fromnoise.errors import BadInput, UnknownName

if TYPE_CHECKING:  # so that listing the names imports no torch
    from torch import Tensor

    from fromnoise.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class Entry:
    """What is known of a spacing before it is loaded."""

    name: str
    label: str  # as A1111's web UI calls it ("schedule type"), where it has it
    module: str  # in fromnoise.diffusion
    function: str
    # whether it visits timesteps: then at most as many levels as the schedule has
    timesteps: bool = False
    options: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  # what other tools call it: ComfyUI, diffusers, k-diffusion


RANGE = ("sigma_min", "sigma_max")
SPACINGS = {
    entry.name: entry
    for entry in (
        Entry("karras", "Karras", "spacing", "karras", options=(*RANGE, "rho")),
        Entry("exponential", "Exponential", "spacings.ramps", "exponential", options=RANGE),
        Entry("polyexponential", "Polyexponential", "spacings.ramps", "polyexponential",
              options=(*RANGE, "rho")),
        Entry("kl_optimal", "KL Optimal", "spacings.ramps", "kl_optimal", options=RANGE),
        Entry("linear_quadratic", "Linear Quadratic", "spacings.ramps", "linear_quadratic",
              options=("threshold_noise",)),
        Entry("beta", "Beta", "spacings.beta", "beta", options=("alpha", "beta", "of")),
        Entry("align_your_steps", "Align Your Steps", "spacings.align_your_steps",
              "align_your_steps", options=("family",), aliases=("ays",)),
        Entry("linspace", "Uniform", "spacings.timesteps", "linspace", timesteps=True,
              aliases=("uniform", "normal")),
        Entry("sgm_uniform", "SGM Uniform", "spacings.timesteps", "sgm_uniform", timesteps=True),
        Entry("leading", "Leading", "spacings.timesteps", "leading", timesteps=True,
              options=("steps_offset",)),
        Entry("trailing", "Trailing", "spacings.timesteps", "trailing", timesteps=True),
        Entry("simple", "Simple", "spacings.timesteps", "simple", timesteps=True),
        Entry("ddim", "DDIM", "spacings.timesteps", "ddim", timesteps=True,
              aliases=("ddim_uniform",)),
    )
}  # fmt: skip
MOST = 10_000  # steps: no run has more


def find(name: str) -> Entry:
    """The entry of that name, label or alias, in any case and with or without spaces, underscores
    and hyphens.

    Raises UnknownName, which lists the names.
    """
    for entry in SPACINGS.values():
        if _normalize(name) in map(_normalize, (entry.name, entry.label, *entry.aliases)):
            return entry
    raise UnknownName("spacing", name, SPACINGS)


def load(name: str) -> "Callable[..., list[float]]":
    """The function `spacing(schedule, n, **options)` of that name, label or alias: the n positive
    levels that a run visits, highest first. Raises UnknownName."""
    entry = find(name)
    return getattr(import_module(f"fromnoise.diffusion.{entry.module}"), entry.function)


def make_sigmas(
    schedule: "NoiseSchedule",
    steps: int,
    spacing: str = "karras",
    final: str = "zero",
    *,
    discard_penultimate: bool = False,
    **options,
) -> "Tensor":
    """The noise levels of a run of `steps` steps, (steps + 1,) float64 on the CPU, strictly
    decreasing.

    Two spacings follow tools that do not always give the number asked for, ddim and beta
    of="timestep": the run's number of steps is len − 1.

    spacing: a name, label or alias, see `find`. final: what follows the `steps` levels of the
    spacing: "zero", or "first", the schedule's own smallest sigma (what diffusers calls
    final_sigmas_type="sigma_min", and what its DDIM does with set_alpha_to_one=False); with "none"
    nothing does, the spacing itself has steps + 1 levels. discard_penultimate: one level more is
    made, then the next-to-last is removed (with final="zero" the smallest positive one): A1111's
    "always discard next-to-last sigma", which it does in any case for its DPM2 samplers. options:
    those of the spacing, see its entry and its function. Raises UnknownName, and BadInput for steps
    or options that cannot be used, also where levels fall on each other."""
    import torch

    entry = find(spacing)
    if final not in ("zero", "first", "none"):
        raise UnknownName("final", final, ("zero", "first", "none"))
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise BadInput(
            f"steps {steps} cannot be used", "give a whole number from 1 up; 20 is usual"
        )
    if unknown := set(options) - set(entry.options):
        raise BadInput(
            f"spacing {entry.name!r} has no option {', '.join(sorted(unknown))}",
            f"its options: {', '.join(entry.options) or 'none'}",
        )
    n = steps + (final == "none") + bool(discard_penultimate)
    if entry.timesteps:
        check_level_count(schedule, n)
    elif steps > MOST:
        raise BadInput(
            f"{steps} steps are more than any run needs", f"ask for at most {MOST}; 20 is usual"
        )
    function = load(entry.name)
    if options:
        from fromnoise.diffusion.options import check_kinds

        check_kinds(function, options)
    try:
        levels = function(schedule, n, **options)
    except OverflowError:
        raise BadInput(
            f"options {options} lead the spacing {entry.name!r} to infinity", "leave them out"
        ) from None
    if not (math.inf > levels[0] and levels[-1] > 0 and all(s > t for s, t in pairwise(levels))):
        raise BadInput(
            f"the {n} noise levels of spacing {entry.name!r} are not strictly decreasing and above 0",
            f"ask for fewer steps{' or use its default options' if options else ''}",
        )
    if final != "none":
        levels.append(0.0 if final == "zero" else float(schedule.sigmas[0]))
    if discard_penultimate:
        del levels[-2:-1]
    if len(levels) < 2:
        raise BadInput(
            f"the spacing {entry.name!r} leaves no step to go", "ask for another number of steps"
        )
    if levels[-1] >= levels[-2]:
        raise BadInput(
            f"final={final!r} ends the run where its last step begins (sigma {levels[-2]:.4g})",
            "use final='zero', or leave room for it: steps_offset=1 for leading, a higher sigma_min for karras",
        )
    return torch.tensor(levels, dtype=torch.float64)


def _normalize(name: str) -> str:
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")


def make_ramp(n: int) -> list[float]:
    """n numbers even from 0 to 1, both included; [0] for n = 1."""
    return [i / max(n - 1, 1) for i in range(n)]


def resolve_sigma_range(
    schedule: "NoiseSchedule", low: float | None, high: float | None
) -> tuple[float, float]:
    """(sigma_min, sigma_max): the schedule's own where None. Raises BadInput unless 0 < low < high
    < ∞."""
    low = float(schedule.sigmas[0]) if low is None else low
    high = float(schedule.sigmas[-1]) if high is None else high
    if not 0 < low < high < math.inf:
        remedy = "give 0 < sigma_min < sigma_max, both finite"
        raise BadInput(f"sigma_min {low} and sigma_max {high} span no range", remedy)
    return low, high


def check_range(name: str, value: float, low: float, high: float, usual: float) -> None:
    """Raises BadInput unless low < value ≤ high."""
    if not low < value <= high:
        remedy = f"give a number above {low:g}, up to {high:g}; {usual} is usual"
        raise BadInput(f"{name} {value} cannot be used", remedy)


def check_level_count(schedule: "NoiseSchedule", n: int) -> None:
    """Raises BadInput for more levels than the schedule has timesteps."""
    if n > len(schedule):
        raise BadInput(
            f"{n} noise levels from a schedule of {len(schedule)} timesteps",
            "ask for fewer steps, or use the karras or exponential spacing",
        )


def karras(
    schedule: "NoiseSchedule",
    n: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7,
) -> list[float]:
    """Even in sigma^(1/rho), so denser where sigma is small (Karras et al. 2022, eq. 5). rho in (0,
    1000]; the larger, the nearer to exponential."""
    low, high = resolve_sigma_range(schedule, sigma_min, sigma_max)
    check_range("rho", rho, 0, 1000, usual=7)
    low, high = low ** (1 / rho), high ** (1 / rho)
    return [(high + u * (low - high)) ** rho for u in make_ramp(n)]
