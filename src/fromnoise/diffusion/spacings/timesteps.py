"""Spacings that visit timesteps of the schedule: linspace, sgm_uniform, leading, trailing, simple,
ddim.

T is the number of timesteps; n is at most T, which `sigmas` sees to. A fractional timestep's sigma
is log-linear between its neighbours, as in k-diffusion and in A1111 (diffusers'
EulerDiscreteScheduler takes it linear)."""

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import make_ramp


def linspace(schedule: NoiseSchedule, n: int) -> list[float]:
    """Timesteps even from T − 1 to 0, both included; they may be fractional. A1111's Uniform
    (k-diffusion's get_sigmas) and, on a schedule's own range, its Normal (ComfyUI's normal) are the
    same."""
    return schedule.t_to_sigma([(len(schedule) - 1) * (1 - u) for u in make_ramp(n)]).tolist()


def sgm_uniform(schedule: NoiseSchedule, n: int) -> list[float]:
    """linspace of n + 1 timesteps without its last, 0: even from T − 1 in strides of (T − 1) / n,
    so that the step to sigma 0 is as long as the others (Stability AI's generative-models)."""
    return schedule.t_to_sigma([(len(schedule) - 1) * (1 - i / n) for i in range(n)]).tolist()


def leading(schedule: NoiseSchedule, n: int, *, steps_offset: int = 0) -> list[float]:
    """Multiples of T // n, plus steps_offset: never reaches T − 1 (Lin et al. 2023, table 2)."""
    return schedule.t_to_sigma(
        [len(schedule) // n * i + steps_offset for i in reversed(range(n))]
    ).tolist()


def trailing(schedule: NoiseSchedule, n: int) -> list[float]:
    """T − 1 down in strides of T / n, rounded (Lin et al. 2023, table 2)."""
    T = len(schedule)
    return schedule.t_to_sigma([round(T - i * (T / n)) - 1 for i in range(n)]).tolist()


def simple(schedule: NoiseSchedule, n: int) -> list[float]:
    """T − 1 down in strides of T / n, each cut to a whole number (A1111, ComfyUI): trailing but for
    the rounding, which is theirs to the bit (T / n is rounded to a float before it is
    multiplied)."""
    return [float(schedule.sigmas[-(1 + int(i * (len(schedule) / n)))]) for i in range(n)]


def ddim(schedule: NoiseSchedule, n: int) -> list[float]:
    """Timesteps 1, 1 + s, 1 + 2s, … below T with s = T // n (A1111's DDIM, ComfyUI's ddim_uniform):
    never reaches T − 1 unless s divides T − 2. Not to be confused with the sampler ddim.

    There are n of them where n divides T and is below it. Otherwise, as in these tools, there may
    be more, up to nearly twice as many (600 asked of T = 1000 give 999), and for n = T there is one
    fewer."""
    return schedule.sigmas[1 :: len(schedule) // n].flip(0).tolist()
