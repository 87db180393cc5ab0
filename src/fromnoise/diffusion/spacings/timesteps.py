"""Spacings that visit timesteps of the schedule: linspace, sgm_uniform, leading, trailing, simple,
ddim.

T is the number of timesteps; `make_sigmas` makes sure that n is at most T. The sigma of a
fractional timestep is log-linear between its neighbours, as in k-diffusion and A1111 (in diffusers'
EulerDiscreteScheduler it is linear)."""

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import make_ramp


def linspace(schedule: NoiseSchedule, n: int) -> list[float]:
    """Timesteps even from T − 1 to 0, both included; they may be fractions. It equals A1111's
    Uniform (k-diffusion's get_sigmas) and, on a schedule's own range, A1111's Normal (ComfyUI's
    normal)."""
    return schedule.t_to_sigma([(len(schedule) - 1) * (1 - u) for u in make_ramp(n)]).tolist()


def sgm_uniform(schedule: NoiseSchedule, n: int) -> list[float]:
    """linspace of n + 1 timesteps without its last, 0. It is even from T − 1 in strides of (T − 1)
    / n, so the step to sigma 0 is as long as the others (Stability AI's generative-models)."""
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
