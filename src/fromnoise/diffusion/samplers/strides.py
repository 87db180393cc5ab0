"""Samplers that step by a stride of timesteps, as the first codes did, not to the next level of the
run: DDIM, and PNDM with either start. TCD steps to an earlier timestep and adds noise.

Where the stride misses the next level, x of one level is taken for x of the other: that is what
diffusers does with spacings whose timesteps are not T // n apart. `schedule`: whose timesteps; None
stands for Stable Diffusion's."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import FIXED
from fromnoise.diffusion.samplers.stochastic import check_nonnegative, split_step
from fromnoise.errors import BadInput, UnknownName

if TYPE_CHECKING:  # the schedule's tables need all of torch
    from fromnoise.diffusion.schedule import NoiseSchedule

STARTS = ("euler", "runge_kutta")
PREDICTS = ("noise", "v")


def ddim(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float,
    s_noise: float,
    stride: int,
    schedule: "NoiseSchedule | None",
) -> Sampling:
    """`ddim.ddim` in steps of `stride` timesteps, the last one to the run's end."""
    times = _Timesteps(schedule, stride)
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        reached = times.go_down(s, t)
        down, up = split_step(s, reached, eta)
        x = x0 + down * ((x - x0) / s)
        if up:
            x = x + noise(s, reached).to(x) * (up * s_noise)
        x = _take_for(x, reached, t)
    return x


def pndm(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    start: str,
    predict: str,
    stride: int,
    schedule: "NoiseSchedule | None",
) -> Sampling:
    """`adams.plms` with either start (Liu et al. 2022 "PNDM", eq. 11 to 13), in steps of `stride`
    timesteps (0: to the next level)."""
    if start not in STARTS:
        raise UnknownName("start", start, STARTS)
    if predict not in PREDICTS:
        raise UnknownName("predict", predict, PREDICTS)
    grid, times, known = check_levels(sigmas), _Timesteps(schedule, stride), []
    last = len(grid) - 2

    def answer(x: Tensor, s: float, x0: Tensor) -> Tensor:
        eps = (x - x0) / s
        return eps if predict == "noise" else (eps - s * x0) / math.hypot(1, s)

    def move(x: Tensor, s: float, t: float, output: Tensor) -> Tensor:
        """x at s → x at t along an output of the network."""
        if predict == "v":
            output = (output + x * (s / math.hypot(1, s))) / math.hypot(1, s)
        return x + output * (t - s)

    for i, (s, t) in enumerate(pairwise(grid)):
        known = [*known, answer(x, s, (yield Query(x, s, i)).x0)][-4:]
        reached = times.go_down(s, t)
        if start == "runge_kutta" and i < 3 and i != last:
            # the middle is half a stride below s, and is asked for half a stride above t
            middle, asked = times.find_middle(s, t)
            first = known[-1]
            x2 = _take_for(move(x, s, middle, first), middle, asked)
            second = answer(x2, asked, (yield Query(x2, asked, i, stage=1)).x0)
            x3 = move(x, s, asked, second)
            third = answer(x3, asked, (yield Query(x3, asked, i, stage=2)).x0)
            x4 = move(x, s, t, third)
            fourth = answer(x4, t, (yield Query(x4, t, i, stage=3)).x0)
            x = move(x, s, t, (first + 2 * second + 2 * third + fourth) / 6)
        elif start == "euler" and i == 0 and t > 0 and i != last:
            x2 = _take_for(move(x, s, reached, known[0]), reached, t)
            other = answer(x2, t, (yield Query(x2, t, i, stage=1)).x0)
            above = times.go_up(s, t)
            x = move(_take_for(x, s, above), above, t, (known[0] + other) / 2)
        else:
            output = torch.zeros_like(x)
            for w, value in zip(FIXED[len(known) - 1], reversed(known), strict=True):
                output = output + w * value
            x = _take_for(move(x, s, reached, output), reached, t)
    return x


def tcd(
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    eta: float = 0.3,
    s_noise: float = 1.0,
    schedule: "NoiseSchedule | None" = None,
) -> Sampling:
    """Strategic stochastic sampling (Zheng et al. 2024 "Trajectory consistency distillation",
    algorithm 2; eta is its γ): down to timestep (1 − eta)·t, then new noise up to t. For networks
    that were distilled so. eta 0 is `ddim`; at 1 each step forgets all but x0. The last step adds
    no noise."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    if eta > 1:
        raise BadInput(f"eta {eta} cannot be used", "give a number from 0 to 1; 0.3 is usual")
    times = _Timesteps(schedule, 0)
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        end = i == len(sigmas) - 2
        down = t if end or not eta else min(times.scale(t, 1 - eta), t)
        x = x0 + down * ((x - x0) / s)
        if down < t:
            x = x + noise(s, t).to(x) * (math.sqrt(t**2 - down**2) * s_noise)
    return x


class _Timesteps:
    """Levels by the timesteps of a schedule."""

    def __init__(self, schedule: "NoiseSchedule | None", stride: int):
        if schedule is None:
            from fromnoise.diffusion.schedule import NoiseSchedule

            schedule = NoiseSchedule.scaled_linear()
        self.schedule = schedule
        self.stride = stride
        if not 0 <= stride <= len(self.schedule):
            raise BadInput(
                f"stride {stride} cannot be used",
                f"give a number of timesteps from 0 (to the next level) to {len(self.schedule)}",
            )

    def find(self, sigma: float) -> int:
        return round(float(self.schedule.sigma_to_t(sigma)))

    def level(self, t: int) -> float:
        return float(self.schedule.sigmas[min(t, len(self.schedule) - 1)])

    def go_down(self, s: float, t: float) -> float:
        """The level a stride below s; t where there is no stride, or no timestep so low."""
        below = self.find(s) - self.stride if self.stride else -1
        return t if below < 0 else self.level(below)

    def go_up(self, s: float, t: float) -> float:
        """The level a stride above t; s where there is no stride."""
        return self.level(self.find(t) + self.stride) if self.stride else s

    def find_middle(self, s: float, t: float) -> tuple[float, float]:
        """(half a stride below s, half a stride above t); without a stride both are halfway in
        timesteps."""
        high, low = self.find(s), self.find(t)
        half = (self.stride or high - low) // 2
        return self.level(high - half), self.level(low + half)

    def scale(self, sigma: float, share: float) -> float:
        return self.level(int(self.find(sigma) * share)) if sigma else 0.0


def _take_for(x: Tensor, at: float, other: float) -> Tensor:
    """x of one level, taken for x of another: what the network is shown, √ᾱ·x, stays."""
    return x if at == other else x * (math.hypot(1, other) / math.hypot(1, at))
