"""Destruction: noise added to a clean x0, and what a network is trained to answer."""

import torch
from torch import Tensor

from fromnoise.diffusion.parameterization import check_prediction
from fromnoise.diffusion.schedule import NoiseSchedule


def compute_scales(schedule: NoiseSchedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """(signal, noise) scales of what a network is shown at integer timesteps t, float64, shape of
    t: "vp" √ᾱ and √(1 − ᾱ), "flow" 1 − s and s. Exact at the last timestep, nothing floored."""
    a = schedule.alpha_bar[t.to("cpu")]
    signal, noise = a.sqrt(), (1 - a).sqrt()
    total = signal + noise if schedule.kind == "flow" else torch.ones_like(a)
    return signal / total, noise / total


def add_noise(schedule: NoiseSchedule, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What the network is shown at integer timesteps t (B,): √ᾱ·x0 + √(1 − ᾱ)·noise (Ho et al.
    2020, eq. 4), or (1 − s)·x0 + s·noise on a flow schedule. x0, noise and the result (B, …); keep
    t on the CPU to spare a device wait."""
    signal, sigma = (s.to(x0).view(-1, *[1] * (x0.ndim - 1)) for s in compute_scales(schedule, t))
    return signal * x0 + sigma * noise


def compute_target(
    prediction: str, schedule: NoiseSchedule, x0: Tensor, noise: Tensor, t: Tensor
) -> Tensor:
    """What the network should answer to `add_noise` of the same arguments: noise (eps), √ᾱ·noise −
    √(1 − ᾱ)·x0 (v, Salimans & Ho 2022, section 4), x0, or noise − x0 (flow). Raises as
    `parameterization.check` does."""
    check_prediction(prediction, schedule)
    if prediction == "eps":
        return noise
    if prediction == "v":
        return add_noise(schedule, noise, -x0, t)
    return x0 if prediction == "x0" else noise - x0
