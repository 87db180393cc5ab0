"""Predictions as one affine form, their training targets, loss weights, and guidance."""

import pytest
import torch

from fromnoise.diffusion.forward import add_noise, compute_target
from fromnoise.diffusion.guidance import Guidance, apply_cfg
from fromnoise.diffusion.losses import compute_min_snr_weight
from fromnoise.diffusion.parameterization import PREDICTIONS, check_prediction, compute_coefficients
from fromnoise.diffusion.projection import rescale
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.schedules import make_flow, make_linear, rescale_zero_terminal_snr
from fromnoise.errors import BadInput, UnknownName

T = torch.tensor([0, 3, 250, 700, 999])


def draw_pair():
    return torch.randn(
        2, len(T), 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def make_schedule(prediction):
    if prediction == "flow":
        return make_flow(shift=2.0)
    plain = NoiseSchedule.scaled_linear()
    return plain if prediction == "eps" else rescale_zero_terminal_snr(plain)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_gives_back_x0(prediction):
    schedule, (x0, n) = make_schedule(prediction), draw_pair()
    shown, answer = add_noise(schedule, x0, n, T), compute_target(prediction, schedule, x0, n, T)
    for i, t in enumerate(T):
        if schedule.has_infinite_sigma and t == 999:
            continue  # floored, see below
        sigma = float(schedule.sigmas[t])
        skip, out, scale = compute_coefficients(prediction, sigma)
        x = x0[i] + sigma * n[i]
        assert torch.allclose(
            scale * x, shown[i], atol=1e-10
        )  # the network sees what it was trained on
        assert torch.allclose(
            skip * x + out * answer[i], x0[i], atol=1e-10
        )  # float64, sums of terms up to sigma


@pytest.mark.parametrize("prediction", ["v", "x0", "flow"])
def test_the_floor_of_an_infinite_sigma_hides_the_picture(prediction):
    """At the floored sigma a network trained on pure noise sees pure noise, to half precision
    (2⁻¹¹), and x0 comes out as far."""
    schedule, (x0, n) = make_schedule(prediction), draw_pair()
    sigma = float(schedule.sigmas[-1])
    skip, out, scale = compute_coefficients(prediction, sigma)
    x = x0[-1] + sigma * n[-1]
    shown, answer = (
        add_noise(schedule, x0, n, T)[-1],
        compute_target(prediction, schedule, x0, n, T)[-1],
    )
    assert (scale * x - shown).abs().max() < 4 * 2**-11  # x0 and n up to 4 here
    assert (skip * x + out * answer - x0[-1]).abs().max() < 4 * 2**-11


def test_predictions_that_cannot_be():
    for sigma in (float("inf"), float("nan"), -1.0):
        with pytest.raises(BadInput, match="eps"):
            compute_coefficients("eps", sigma)
    zero, flow, plain = (
        rescale_zero_terminal_snr(make_linear()),
        make_flow(),
        make_linear(),
    )
    for prediction, schedule in (("eps", zero), ("eps", flow), ("v", flow), ("flow", plain)):
        with pytest.raises(BadInput) as error:
            compute_target(prediction, schedule, *draw_pair(), T)
        assert error.value.remedy
    for call in (
        lambda: compute_coefficients("epsilon", 1.0),
        lambda: check_prediction("epsilon", plain),
        lambda: compute_min_snr_weight(T, "epsilon"),
    ):
        with pytest.raises(UnknownName, match="choose one of: eps, v, x0, flow"):
            call()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_is_the_x0_weight_times_c_out_squared(prediction):
    snr = torch.tensor([0.001, 0.5, 4.999, 5.001, 300.0], dtype=torch.float64)
    exact = [min(s, 5.0) * compute_coefficients(prediction, s**-0.5)[1] ** 2 for s in snr.tolist()]
    assert compute_min_snr_weight(snr, prediction).tolist() == pytest.approx(exact, rel=1e-12)
    assert float(compute_min_snr_weight(torch.zeros(1), prediction)) == (
        1 if prediction == "eps" else 0
    )


def test_guidance_on_x0_is_guidance_on_eps():
    cond, uncond = draw_pair()
    x, sigma = draw_pair().sum(0), 3.0
    guided_eps = (x - uncond) / sigma + 7.5 * ((x - cond) / sigma - (x - uncond) / sigma)
    assert torch.allclose(apply_cfg(cond, uncond, 7.5), x - sigma * guided_eps, atol=1e-12)
    assert torch.equal(apply_cfg(cond, uncond, 1.0), cond)
    assert torch.equal(apply_cfg(cond, uncond, 0.0), uncond)


def test_rescale_restores_the_deviation_of_each_image():
    x0, other = draw_pair()
    guided = apply_cfg(x0, other, 7.5) * torch.arange(1, len(T) + 1).view(-1, 1, 1, 1)
    dims = (1, 2, 3)
    assert torch.allclose(rescale(guided, x0, 1.0).std(dims), x0.std(dims), rtol=1e-12)
    assert torch.allclose(rescale(guided, x0, 0.0), guided, rtol=1e-12)
    halfway = (guided.std(dims) + x0.std(dims)) / 2
    assert torch.allclose(rescale(guided, x0, 0.5).std(dims), halfway, rtol=1e-12)
    flat = torch.full((1, 3, 4, 4), 0.5)
    assert torch.equal(rescale(flat, flat, 0.7), flat)


def test_interval():
    assert [Guidance(2.0, low=0.3, high=5.0).acts(s, 0) for s in (0.3, 0.31, 5.0, 5.1)] == [
        False,
        True,
        True,
        False,
    ]
    assert Guidance(2.0).acts(1e-9, 0)
