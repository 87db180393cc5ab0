"""The align_your_steps spacing: tables fitted to Stable Diffusion."""

import math

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import make_ramp
from fromnoise.errors import UnknownName

TABLES = {  # the published schedules of 10 steps, from sigma_max to sigma_min
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
}


def align_your_steps(schedule: NoiseSchedule, n: int, *, family: str = "sd15") -> list[float]:
    """A table optimised for few steps of one network (Sabour et al. 2024, "Align Your Steps"), read
    at n even places and log-linear between its entries (section 3.3). It uses nothing of the
    schedule and suits only Stable Diffusion's. family: "sd15" or "sdxl".

    The tables are for 10 steps that end at sigma_min: `make_sigmas(schedule, 10, ...,
    final="none")`. With final="zero" a step to 0 follows the n levels down to sigma_min, as in
    A1111. With discard_penultimate too, 0 takes the place of sigma_min, as in diffusers'
    AysSchedules and, except for the digits, ComfyUI's AlignYourStepsScheduler."""
    if family not in TABLES:
        raise UnknownName("family", str(family), TABLES)
    logs, levels = [math.log(s) for s in TABLES[family]], []
    for u in make_ramp(n):
        place = u * (len(logs) - 1)
        k = min(int(place), len(logs) - 2)
        levels.append(math.exp(logs[k] + (place - k) * (logs[k + 1] - logs[k])))
    return levels
