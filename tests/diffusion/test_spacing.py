"""Sigma spacings against diffusers' timesteps, published formulas, and bad input."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler  # pyright: ignore

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import SPACINGS, sigmas
from fromnoise.errors import BadInput, UnknownName

SD = NoiseSchedule.scaled_linear()
SD_CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
FP32 = 2e-5  # diffusers keeps ᾱ in float32: its rounding grows over 1000 products, and 1 − ᾱ loses digits at t = 0


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50, 999])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("offset", [0, 1])
def test_timesteps_of_diffusers(spacing, offset, steps):
    theirs = DDIMScheduler(timestep_spacing=spacing, steps_offset=offset, **SD_CONFIG)
    theirs.set_timesteps(steps)
    ours = sigmas(SD, steps, spacing, **({"steps_offset": offset} if spacing == "leading" else {}))
    assert ours.shape == (steps + 1,)
    assert ours.dtype == torch.float64
    assert float(ours[-1]) == 0
    assert torch.allclose(SD.t(ours[:-1]), theirs.timesteps.double(), atol=1e-8)  # a log divided by its small step


@pytest.mark.parametrize("steps", [2, 3, 7, 20, 50, 1000])  # at 1 diffusers starts at t = 0, we at T − 1
def test_linspace_of_diffusers(steps):
    theirs = EulerDiscreteScheduler(timestep_spacing="linspace", **SD_CONFIG)
    theirs.set_timesteps(steps)
    assert torch.allclose(SD.t(sigmas(SD, steps, "linspace")[:-1]), theirs.timesteps.double(), atol=1e-4)  # float32 t


@pytest.mark.parametrize("steps", [2, 3, 20, 50])
@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_sigmas_of_diffusers(spacing, steps):
    theirs = EulerDiscreteScheduler(**SD_CONFIG, **{f"use_{spacing}_sigmas": True})
    theirs.set_timesteps(steps)
    # diffusers takes the ends of the run from its linspace, which are the ends of the table
    assert torch.allclose(sigmas(SD, steps, spacing), theirs.sigmas.double(), rtol=FP32)


def test_karras_is_equation_5():
    i = np.arange(10)
    exact = (80 ** (1 / 7) + i / 9 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    ours = sigmas(SD, 10, "karras", sigma_min=0.002, sigma_max=80)
    assert ours[:-1].numpy() == pytest.approx(exact, rel=1e-12)
    straight = sigmas(SD, 9, "karras", "none", sigma_min=1, sigma_max=10, rho=1)
    assert straight.tolist() == pytest.approx(list(range(10, 0, -1)), rel=1e-14)


def test_exponential_has_one_ratio():
    ours = sigmas(SD, 4, "exponential", "none", sigma_min=0.01, sigma_max=100)
    assert ours.tolist() == pytest.approx([100, 10, 1, 0.1, 0.01], rel=1e-13)


def test_final():
    assert float(sigmas(SD, 20, "leading", "first", steps_offset=1)[-1]) == float(SD.sigmas[0])
    assert len(sigmas(SD, 20, "karras", "none")) == 21
    assert float(sigmas(SD, 20, "karras", "none")[-1]) == pytest.approx(float(SD.sigmas[0]), rel=1e-13)
    with pytest.raises(BadInput, match="ends the run where"):
        sigmas(SD, 20, "leading", "first")


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("schedule", [SD, SD.zero_terminal_snr(), NoiseSchedule.flow(), NoiseSchedule.cosine()])
@pytest.mark.parametrize("steps", [1, 2, 20, 500])
def test_every_spacing_on_every_schedule_decreases_to_zero(spacing, schedule, steps):
    ours = sigmas(schedule, steps, spacing)
    assert bool(torch.isfinite(ours).all() and (ours.diff() < 0).all())
    if spacing != "leading":
        assert float(ours[0]) == pytest.approx(float(schedule.sigmas[-1]), rel=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [0, -3, float("nan"), 2.5, "20", True, None])
def test_bad_steps(spacing, steps):
    with pytest.raises(BadInput, match="steps") as error:
        sigmas(SD, steps, spacing)
    assert error.value.remedy


@pytest.mark.parametrize(
    ("spacing", "steps", "options"),
    [
        ("karras", 5, {"rho": 0}),
        ("karras", 5, {"rho": float("nan")}),
        ("karras", 5, {"sigma_min": 0}),
        ("exponential", 5, {"sigma_min": 3, "sigma_max": 2}),
        ("exponential", 5, {"sigma_max": float("inf")}),
        ("linspace", 5, {"rho": 7}),
        ("trailing", 5, {"steps_offset": 1}),
        ("leading", 1000, {"steps_offset": 1}),
        ("leading", 1001, {}),
        ("trailing", 1001, {}),
        ("linspace", 1001, {}),
    ],
)
def test_bad_options(spacing, steps, options):
    with pytest.raises(BadInput) as error:
        sigmas(SD, steps, spacing, **options)
    assert error.value.remedy


def test_unknown_names():
    with pytest.raises(UnknownName, match="did you mean 'karras'"):
        sigmas(SD, 20, "karas")
    with pytest.raises(UnknownName, match="zero, first, none"):
        sigmas(SD, 20, "karras", "last")


def test_listing_names_imports_no_torch():
    code = "import sys, fromnoise.diffusion.spacing, fromnoise.diffusion.samplers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
