"""SPACINGS: the registry of spacings (which sigmas a run visits), without torch; make_sigmas."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING

from fromnoise.errors import UnknownName

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
    timesteps: bool = False  # whether it visits timesteps: at most as many levels as there are
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
        Entry("beta", "Beta", "spacings.beta", "beta", options=(*RANGE, "alpha", "beta", "of")),
        Entry("align_your_steps", "Align Your Steps", "spacings.align_your_steps",
              "align_your_steps", options=("family",), aliases=("ays",)),
        Entry("linspace", "Uniform", "spacings.timesteps", "linspace", timesteps=True,
              options=("between", "ceiling"), aliases=("uniform", "normal")),
        Entry("sgm_uniform", "SGM Uniform", "spacings.timesteps", "sgm_uniform", timesteps=True),
        Entry("leading", "Leading", "spacings.timesteps", "leading", True,
              ("steps_offset", "ceiling")),
        Entry("trailing", "Trailing", "spacings.timesteps", "trailing", True, ("ceiling",)),
        Entry("distilled", "Distilled", "spacings.timesteps", "distilled", timesteps=True,
              options=("original_steps", "ceiling")),
        Entry("simple", "Simple", "spacings.timesteps", "simple", timesteps=True),
        Entry("ddim", "DDIM", "spacings.timesteps", "ddim", timesteps=True,
              aliases=("ddim_uniform",)),
    )
}  # fmt: skip
MAX_STEPS = 10_000


def find(name: str) -> Entry:
    """The entry with that name, label or alias, in any case and spelling. Raises UnknownName."""
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
    decreasing. (ddim, and beta with of="timestep", may give another number, as their tools do.)

    spacing: a name, label or alias. final: what follows the `steps` levels of the spacing: "zero",
    or "first", the schedule's smallest sigma. With "none" and "last" nothing does: the spacing has
    one level more, or the run one step less. discard_penultimate: the spacing makes one level more,
    then the next-to-last of the run is removed (A1111's "always discard next-to-last sigma").
    options: those of the spacing, see its function. Raises UnknownName, and BadInput for unusable
    steps or options, also where two levels are equal."""
    import torch

    entry = find(spacing)
    whole = type(steps) is int and 1 <= steps <= MAX_STEPS
    n = steps + (final == "none") + bool(discard_penultimate) if whole else 0
    if (
        not whole
        or final not in ("zero", "first", "none", "last")
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
    if final in ("zero", "first"):
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
    """(sigma_min, sigma_max); None: the schedule's own. Raises BadInput for what is no range."""
    low = float(schedule.sigmas[0]) if low is None else low
    high = float(schedule.sigmas[-1]) if high is None else high
    if not 0 < low < high < math.inf:
        from fromnoise.diffusion.spacing_faults import refuse_range

        refuse_range(low, high)
    return low, high


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
    if not 0 < rho <= 1000:
        from fromnoise.diffusion.spacing_faults import check_range

        check_range("rho", rho, 0, 1000, usual=7)
    low, high = low ** (1 / rho), high ** (1 / rho)
    return [(high + u * (low - high)) ** rho for u in make_ramp(n)]
