"""SPACINGS: the registry of spacings (which sigmas a run visits). It imports no torch. Also
`make_sigmas`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING

from fromnoise.errors import BadInput, UnknownName

if TYPE_CHECKING:  # a list of the names needs no torch
    from torch import Tensor

    from fromnoise.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class Entry:
    """The metadata of a spacing, readable before its module loads."""

    name: str
    label: str  # the name in A1111's web UI ("schedule type"), where it has this spacing
    module: str  # in fromnoise.diffusion
    function: str
    # whether it visits timesteps: then a run has at most as many levels as the schedule
    timesteps: bool = False
    options: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  # the names in other tools: ComfyUI, diffusers, k-diffusion


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
MAX_STEPS = 10_000


def find(name: str) -> Entry:
    """The entry with that name, label or alias. Case, spaces, underscores and hyphens do not
    matter. Raises UnknownName, which lists the names."""
    for entry in SPACINGS.values():
        if _normalize(name) in map(_normalize, (entry.name, entry.label, *entry.aliases)):
            return entry
    raise UnknownName("spacing", name, SPACINGS)


def load(name: str) -> "Callable[..., list[float]]":
    """The function `spacing(schedule, n, **options)` of that name, label or alias: the n positive
    levels of a run, highest first. Raises UnknownName."""
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

    Two spacings follow tools that do not always give the asked number of levels: ddim, and beta
    with of="timestep". The run's number of steps is always len − 1.

    spacing: a name, label or alias, see `find`. final: the last level after the `steps` levels of
    the spacing: "zero", or "first" for the schedule's smallest sigma (diffusers'
    final_sigmas_type="sigma_min", and its DDIM with set_alpha_to_one=False). With "none" nothing
    follows; the spacing itself has steps + 1 levels. discard_penultimate: the spacing makes one
    more level, then the next-to-last is removed (with final="zero" that is the smallest positive
    one). This is A1111's "always discard next-to-last sigma", which A1111 always does for its DPM2
    samplers. options: those of the spacing, see its entry and its function. Raises UnknownName.
    Raises BadInput for unusable steps or options, also where two levels are equal."""
    import torch

    entry = find(spacing)
    whole = type(steps) is int and 1 <= steps <= MAX_STEPS
    n = steps + (final == "none") + bool(discard_penultimate) if whole else 0
    if (
        not whole
        or final not in ("zero", "first", "none")
        or options.keys() - {*entry.options}
        or (entry.timesteps and n > len(schedule))
    ):
        from fromnoise.diffusion.spacing_faults import refuse_run

        table = schedule if entry.timesteps else None
        refuse_run(entry.name, entry.options, table, steps, n, final, options)
    function = load(entry.name)
    if options:
        from fromnoise.diffusion.options import check_kinds

        check_kinds(function, options)
    try:
        levels = function(schedule, n, **options)
    except OverflowError:
        levels = [math.inf]
    sound = levels[0] < math.inf and levels[-1] > 0 and all(s > t for s, t in pairwise(levels))
    if final != "none":
        levels.append(0.0 if final == "zero" else float(schedule.sigmas[0]))
    if discard_penultimate:
        del levels[-2:-1]
    if not sound or len(levels) < 2 or levels[-1] >= levels[-2]:
        from fromnoise.diffusion.spacing_faults import refuse_levels

        refuse_levels(entry.name, levels, n, final, options, sound)
    return torch.tensor(levels, dtype=torch.float64)


def _normalize(name: str) -> str:
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")


def make_ramp(n: int) -> list[float]:
    """n numbers even from 0 to 1, both included; [0] for n = 1."""
    return [i / max(n - 1, 1) for i in range(n)]


def resolve_sigma_range(
    schedule: "NoiseSchedule", low: float | None, high: float | None
) -> tuple[float, float]:
    """(sigma_min, sigma_max); None stands for the schedule's own. Raises BadInput unless 0 < low <
    high < ∞."""
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
