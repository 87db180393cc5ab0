"""The forward process, which adds noise to a clean x0, and the training targets."""

import torch
from torch import Tensor

from fromnoise.diffusion.parameterization import check_prediction
from fromnoise.diffusion.schedule import NoiseSchedule


def compute_scales(schedule: NoiseSchedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """(signal, noise) scales of a network's input at integer timesteps t, float64, with the shape
    of t: "vp" √ᾱ and √(1 − ᾱ), "flow" 1 − s and s. They are exact at the last timestep too, without
    a floor."""
    a = schedule.alpha_bar[t.to("cpu")]
    signal, noise = a.sqrt(), (1 - a).sqrt()
    total = signal + noise if schedule.kind == "flow" else torch.ones_like(a)
    return signal / total, noise / total


def add_noise(schedule: NoiseSchedule, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The network's input at integer timesteps t (B,): √ᾱ·x0 + √(1 − ᾱ)·noise (Ho et al. 2020, eq.
    4), or (1 − s)·x0 + s·noise on a flow schedule. x0, noise and the result are (B, …). With t on
    the CPU there is no wait for the device."""
    signal, sigma = (s.to(x0).view(-1, *[1] * (x0.ndim - 1)) for s in compute_scales(schedule, t))
    return signal * x0 + sigma * noise


def compute_target(
    prediction: str, schedule: NoiseSchedule, x0: Tensor, noise: Tensor, t: Tensor
) -> Tensor:
    """The network's target answer to `add_noise` of the same arguments: noise (eps), √ᾱ·noise − √(1
    − ᾱ)·x0 (v, Salimans & Ho 2022, section 4), x0, or noise − x0 (flow). Raises the errors of
    `parameterization.check_prediction`."""
    check_prediction(prediction, schedule)
    if prediction == "eps":
        return noise
    if prediction == "v":
        return add_noise(schedule, noise, -x0, t)
    return x0 if prediction == "x0" else noise - x0
