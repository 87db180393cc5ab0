"""Spacings that visit timesteps of the schedule: linspace, sgm_uniform, leading, trailing, simple,
ddim, distilled.

T is the number of timesteps; `make_sigmas` makes sure that n is at most T. The sigma of a
fractional timestep is log-linear between its neighbours, as in k-diffusion and A1111.

ceiling, an option of those that diffusers' schedulers use: the level of the last timestep where
that is infinite (0: the schedule's, 4096). Samplers that are exact at any level, such as ddim, may
have a higher one."""

import math

import torch

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import make_ramp
from fromnoise.diffusion.spacing_faults import check_level_count, check_range
from fromnoise.errors import BadInput, UnknownName

BETWEEN = ("log_sigma", "sigma", "nothing")


def linspace(
    schedule: NoiseSchedule, n: int, *, between: str = "log_sigma", ceiling: float = 0
) -> list[float]:
    """Timesteps even from T − 1 to 0, both included; they may be fractions. It equals A1111's
    Uniform (k-diffusion's get_sigmas) and, on a schedule's own range, A1111's Normal (ComfyUI's
    normal).

    between: what is linear between two timesteps, "log_sigma", or "sigma" as in diffusers'
    EulerDiscreteScheduler; with "nothing" the timesteps are rounded, as in its DDIMScheduler."""
    if between == "log_sigma":
        times = [(len(schedule) - 1) * (1 - u) for u in make_ramp(n)]
        return _raise_last(schedule, schedule.t_to_sigma(times).tolist(), ceiling)
    if between not in BETWEEN:
        raise UnknownName("between", str(between), BETWEEN)
    stride, last = (len(schedule) - 1) / max(n - 1, 1), len(schedule) - 1
    times = [i * stride if i < n - 1 else float(last) for i in reversed(range(n))]
    if between == "nothing":
        times = [float(round(t)) for t in times]
    low = [min(int(t), last - 1) for t in times]
    shares = torch.tensor([t - i for t, i in zip(times, low, strict=True)], dtype=torch.float64)
    table = schedule.sigmas
    levels = torch.lerp(table[low], table[[i + 1 for i in low]], shares)
    return _raise_last(schedule, levels.tolist(), ceiling)


def sgm_uniform(schedule: NoiseSchedule, n: int) -> list[float]:
    """linspace of n + 1 timesteps without its last, 0. It is even from T − 1 in strides of (T − 1)
    / n, so the step to sigma 0 is as long as the others (Stability AI's generative-models)."""
    return schedule.t_to_sigma([(len(schedule) - 1) * (1 - i / n) for i in range(n)]).tolist()


def leading(
    schedule: NoiseSchedule, n: int, *, steps_offset: int = 0, ceiling: float = 0
) -> list[float]:
    """Multiples of T // n, plus steps_offset: never reaches T − 1 (Lin et al. 2023, table 2)."""
    levels = schedule.t_to_sigma(
        [len(schedule) // n * i + steps_offset for i in reversed(range(n))]
    ).tolist()
    return _raise_last(schedule, levels, ceiling)


def trailing(schedule: NoiseSchedule, n: int, *, ceiling: float = 0) -> list[float]:
    """T − 1 down in strides of T / n, rounded (Lin et al. 2023, table 2)."""
    T = len(schedule)
    levels = schedule.t_to_sigma([round(T - i * (T / n)) - 1 for i in range(n)]).tolist()
    return _raise_last(schedule, levels, ceiling)


def distilled(
    schedule: NoiseSchedule, n: int, *, original_steps: int = 50, ceiling: float = 0
) -> list[float]:
    """n of the `original_steps` trailing timesteps that a consistency model was distilled at, the
    highest first (Luo et al. 2023, "Latent consistency models", section 4.3; diffusers'
    LCMScheduler and TCDScheduler)."""
    check_range("original_steps", original_steps, 0, len(schedule), usual=50)
    if n > original_steps:
        check_level_count(schedule, n)
        raise BadInput(
            f"{n} steps are more than the {original_steps} that the model was distilled at",
            "use fewer; 4 is usual",
        )
    stride, count = len(schedule) // int(original_steps), int(original_steps)
    times = [stride * (count - int(i * (count / n))) - 1 for i in range(n)]
    return _raise_last(schedule, schedule.t_to_sigma(times).tolist(), ceiling)


def _raise_last(schedule: NoiseSchedule, levels: list[float], ceiling: float) -> list[float]:
    highest = float(schedule.sigmas[-1])
    if ceiling and schedule.has_infinite_sigma and math.isclose(levels[0], highest):
        levels[0] = max(highest, float(ceiling))
    return levels


def simple(schedule: NoiseSchedule, n: int) -> list[float]:
    """T − 1 down in strides of T / n, each cut to a whole number (A1111, ComfyUI). It is trailing
    except for the rounding, which has the bits of these tools (T / n is rounded to a float before
    the product)."""
    return [float(schedule.sigmas[-(1 + int(i * (len(schedule) / n)))]) for i in range(n)]


def ddim(schedule: NoiseSchedule, n: int) -> list[float]:
    """Timesteps 1, 1 + s, 1 + 2s, … below T with s = T // n (A1111's DDIM, ComfyUI's ddim_uniform):
    never reaches T − 1 unless s divides T − 2. Not to be confused with the sampler ddim.

    Where n divides T and is below it, there are n of them. Otherwise, as in these tools, there may
    be more, up to nearly twice as many (n = 600 of T = 1000 gives 999), and for n = T there is one
    less."""
    return schedule.sigmas[1 :: len(schedule) // n].flip(0).tolist()
