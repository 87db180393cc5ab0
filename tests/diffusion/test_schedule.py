"""The schedule tables against independent arithmetic, and the two ways between timestep and
sigma."""

import math
from decimal import Decimal, getcontext

import pytest
import torch

from fromnoise.diffusion.forward import add_noise, compute_scales
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.schedules import (
    make_cosine,
    make_flow,
    make_linear,
    rescale_zero_terminal_snr,
)
from fromnoise.errors import BadInput

FAMILIES = {
    "linear": make_linear(),
    "scaled_linear": NoiseSchedule.scaled_linear(),
    "cosine": make_cosine(),
    "flow": make_flow(),
    "flow shift 3": make_flow(shift=3.0),
    "zero terminal": rescale_zero_terminal_snr(NoiseSchedule.scaled_linear()),
}
families = pytest.mark.parametrize("schedule", FAMILIES.values(), ids=FAMILIES)


def test_stable_diffusion_schedule_to_10_digits():
    getcontext().prec = 40
    low, high = Decimal("0.00085").sqrt(), Decimal("0.012").sqrt()
    alpha_bar = Decimal(1)
    schedule = NoiseSchedule.scaled_linear()
    for t in range(1000):
        alpha_bar *= 1 - (low + (high - low) * t / 999) ** 2
        snr = alpha_bar / (1 - alpha_bar)
        # half a unit in the tenth digit; float64 itself reaches about 1e-13 after 1000 products
        for ours, exact in (
            (schedule.alpha_bar, alpha_bar),
            (schedule.snr, snr),
            (schedule.sigmas, 1 / snr.sqrt()),
        ):
            assert float(ours[t]) == pytest.approx(float(exact), rel=5e-11)
    assert float(schedule.sigmas[-1]) == pytest.approx(
        14.6146, abs=1e-4
    )  # the figure everyone quotes
    assert float(schedule.sigmas[0]) == pytest.approx(0.0292, abs=1e-4)


def test_cosine_is_the_cosine_where_beta_is_not_clipped():
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    exact = torch.tensor(f[1:999], dtype=torch.float64) / f[0]
    assert torch.allclose(make_cosine().alpha_bar[:998], exact, rtol=1e-10)
    assert 1e-9 < float(make_cosine().alpha_bar[-1]) < 1e-8  # the clip keeps it from 0


def test_flow_sigma_is_s_over_1_minus_s():
    s = torch.arange(1, 1000, dtype=torch.float64) / 1000
    assert torch.allclose(
        make_flow().sigmas[:-1], s / (1 - s), rtol=1e-9
    )  # 1 − ᾱ loses digits near s = 0
    # the shift multiplies sigma: s' / (1 − s') = shift · s / (1 − s)
    assert torch.allclose(make_flow(shift=3.0).sigmas[:-1], 3 * s / (1 - s), rtol=1e-9)


def test_zero_terminal_snr_keeps_the_first_and_empties_the_last():
    plain, zero = FAMILIES["scaled_linear"], FAMILIES["zero terminal"]
    assert zero.has_infinite_sigma
    assert not plain.has_infinite_sigma
    assert float(zero.alpha_bar[-1]) == 0 == float(zero.snr[-1])
    assert float(zero.alpha_bar[0]) == pytest.approx(float(plain.alpha_bar[0]), rel=1e-14)
    # algorithm 1 is linear in √ᾱ, so differences of it stay proportional
    ratio = zero.alpha_bar.sqrt().diff() / plain.alpha_bar.sqrt().diff()
    assert torch.allclose(ratio, ratio[:1], rtol=1e-9)  # differences of nearly equal numbers


@families
def test_tables_are_finite_increasing_float64(schedule):
    assert schedule.sigmas.dtype == schedule.alpha_bar.dtype == torch.float64
    assert bool(torch.isfinite(schedule.sigmas).all())
    assert bool((schedule.sigmas.diff() > 0).all())
    assert len(schedule) == len(schedule.sigmas) == 1000


@families
def test_t_and_sigma_are_inverse(schedule):
    t = torch.tensor([0.0, 0.25, 1.0, 17.5, 500.0, 998.0, 998.7, 999.0], dtype=torch.float64)
    assert torch.allclose(
        schedule.sigma_to_t(schedule.t_to_sigma(t)), t, atol=1e-8
    )  # a log divided by its small step
    assert torch.allclose(
        schedule.t_to_sigma(torch.arange(1000)), schedule.sigmas, rtol=1e-14
    )  # exp of log
    middle = (schedule.sigmas[3] * schedule.sigmas[4]).sqrt()  # linear in log sigma
    assert float(schedule.t_to_sigma(3.5)) == pytest.approx(float(middle), rel=1e-12)


@families
def test_the_time_that_a_network_is_told(schedule):
    """The timestep, and of a flow T·s, whatever its shift; fp32 in any case."""
    for i in (0, 1, 417, 998, 999):
        time = schedule.find_time(float(schedule.sigmas[i]))
        _, s = compute_scales(schedule, torch.tensor([i]))
        expected = float(1000 * s) if schedule.kind == "flow" else i
        assert time.dtype == torch.float32
        assert float(time) == pytest.approx(expected, rel=1e-6)  # fp32


def test_outside_the_table():
    schedule = FAMILIES["scaled_linear"]
    assert schedule.sigma_to_t([1e-6, 1e6]).tolist() == [0, 999]
    for t in (-0.1, 999.1, float("nan")):
        with pytest.raises(BadInput, match="outside"):
            schedule.t_to_sigma(t)


@families
def test_what_a_network_is_shown(schedule):
    """Unit-variance data keep unit variance (vp), or mix in straight line (flow)."""
    signal, noise = compute_scales(schedule, torch.arange(1000))
    total = signal + noise if schedule.kind == "flow" else signal**2 + noise**2
    assert torch.allclose(total, torch.ones_like(total), rtol=1e-14)
    assert torch.allclose((noise / signal)[:-1], schedule.sigmas[:-1], rtol=1e-12)
    x0, n = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    x = add_noise(schedule, x0, n, torch.tensor([0, 10, 500, 999]))
    assert x.dtype == torch.float32
    if schedule.has_infinite_sigma:
        assert torch.equal(
            x[3], n[3]
        )  # nothing floored in training: the last timestep is pure noise


@pytest.mark.parametrize(
    "betas", [[], [0.1], [0.1, -0.1], [0.1, 1.5], [0.1, float("nan")], [0.0, 0.1], [1.0, 0.5]]
)
def test_bad_betas(betas):
    with pytest.raises(BadInput, match="alpha_bar") as error:
        NoiseSchedule.from_betas(betas)
    assert error.value.remedy
