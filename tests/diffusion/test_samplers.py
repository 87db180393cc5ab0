"""Samplers on data whose denoiser and whose exact solution are known: orders, variances,
identities, bad input."""

import math
from functools import cache
from inspect import signature
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler  # pyright: ignore
from mixtures import GAUSS, MIXTURE, SD, START, grid, silent, unit_noise

from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.parameterization import compute_coefficients
from fromnoise.diffusion.samplers import SAMPLERS, find, load, parse
from fromnoise.diffusion.samplers.base import Answer, Past, Query
from fromnoise.diffusion.samplers.dpm_solver import dpm_adaptive
from fromnoise.diffusion.samplers.drive import drive
from fromnoise.diffusion.samplers.er_sde import compute_phi
from fromnoise.diffusion.samplers.integrals import (
    compute_adams_weights,
    compute_exponential_weights,
    compute_gauss_legendre,
    compute_moments,
)
from fromnoise.diffusion.samplers.restart import plan_restarts
from fromnoise.diffusion.samplers.stochastic import split_step
from fromnoise.diffusion.spacing import make_sigmas
from fromnoise.errors import BadInput, UnknownName

NAMES = list(SAMPLERS)
STEPS = (20, 40, 80, 160)


def has_option(name, option):
    """Whether the sampler's function has this argument, and no preset of it."""
    function = load(name)
    return option in signature(function).parameters and option not in getattr(
        function, "keywords", {}
    )


def find_quiet_options(name):
    """Options that turn its noise off, or None where nothing does."""
    for option in ("eta", "tau"):
        if option in signature(load(name)).parameters:
            return {option: 0.0}
    return None if SAMPLERS[name].stochastic else {}


def fit_slope(errors, steps=STEPS):
    """Of log RMS error against log steps, by least squares, as an order: error ∝ steps^(−order)."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def compute_rms(x):
    return float(x.square().mean().sqrt())


def make_history(data, steps, count=4):
    """Exact answers at the levels that the grid of so many steps would have above its first."""
    low, high = 0.05 ** (1 / 7), 20 ** (1 / 7)
    above = [(high + i / steps * (high - low)) ** 7 for i in range(count, 0, -1)]
    exact = [data.exact(START, 20.0, s) for s in above]
    return [Past(s, x, data.denoise(Query(x, s, 0)).x0) for s, x in zip(above, exact, strict=True)]


def measure_order(name, data, known, steps=STEPS, **options):
    """Measured; `known` gives multistep methods an exact history, else they start on their own."""
    exact = data.exact(START, 20.0, 0.05)
    if has_option(name, "lower_order_final"):
        options["lower_order_final"] = False
    errors = []
    for n in steps:
        past = {"past": make_history(data, n)} if known and has_option(name, "past") else {}
        errors.append(
            compute_rms(
                drive(load(name)(START, grid(n), silent, **past, **options), data.denoise) - exact
            )
        )
    return fit_slope(errors, steps)


LATE = (
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "deis",
    "dpm_solver_3",
)  # still bend at 20 … 160 steps


@pytest.mark.parametrize("data", [MIXTURE, GAUSS], ids=["mixture", "gauss"])
@pytest.mark.parametrize(
    "name", [n for n in NAMES if SAMPLERS[n].order and not SAMPLERS[n].stochastic]
)
def test_order_of_convergence(name, data):
    """The order that SAMPLERS claims, measured, with exact starting values. A slope over 20 … 160
    steps still holds some of the next order's term: 0.1 for first order and 0.15 for second and
    third are the project's bars; for fourth order 0.5 and no upper bound, since errors near 1e-7
    there run into what the mixture's bisection leaves."""
    order = SAMPLERS[name].order
    found = measure_order(name, data, True, (80, 160, 320, 640) if name in LATE else STEPS)
    if order == 4 or (order == 3 and data is GAUSS):  # a linear denoiser can flatter
        assert found > order - (0.5 if order == 4 else 0.15)
    else:
        assert found == pytest.approx(order, abs=0.1 if order == 1 else 0.15)


@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("unipc", {"order": 2}, 2.8),
        ("unipc_bh2", {"order": 2}, 2.8),
        ("unipc", {"order": 3}, 3.2),
        ("ipndm_v", {"exact": True}, 3.5),
        ("dpmpp_3m_sde", {"exact": True, "eta": 0.0}, 2.9),
        ("dpm2_a", {"eta": 0.0}, 1.9),
        ("dpmpp_2s_a", {"eta": 0.0}, 1.9),
        ("dpmpp_sde", {"eta": 0.0}, 1.9),
        ("seeds_2", {"eta": 0.0}, 1.9),
        ("seeds_3", {"eta": 0.0}, 2.85),
        ("sa_solver", {"tau": 0.0}, 3.5),
        ("sa_solver", {"tau": 0.0, "corrector": 0}, 2.8),
        ("dpm_fast", {"eta": 0.0}, 1.9),
        ("restart", {}, 1.9),
        ("lms", {"order": 2}, 1.85),
        ("lms", {"order": 3}, 2.8),
        ("deis", {"order": 4, "variable": "log_sigma"}, 3.5),
    ],
)
def test_orders_of_options(name, options, least):
    assert measure_order(name, MIXTURE, True, **options) > least


@pytest.mark.parametrize("name", [n for n in NAMES if SAMPLERS[n].own_order])
def test_order_with_its_own_start(name):
    """A start of first order costs an error ∝ steps⁻² at the far end of the grid, where steps are
    long and the error is then damped: what is left of it shows only at many steps."""
    assert (
        measure_order(name, MIXTURE, False, (160, 320, 640, 1280), **find_quiet_options(name))
        > SAMPLERS[name].own_order - 0.1
    )


PHI = "φ"  # ER-SDE's drift, see there
# k: 1 + the share of noise, eta² where eta scales its deviation, eta where it scales its variance's
# rate
DRIFTS = [
    *(
        (name, {"eta": eta}, 1 + eta**2, None)
        for name in ("euler_a", "ddim", "euler_cfg_pp")
        for eta in (0.0, 0.5, 1.0)
    ),
    *(
        (name, {}, 2.0, None)
        for name in (
            "ddpm",
            "dpm2_a",
            "dpmpp_2s_a",
            "dpmpp_sde",
            "res_multistep_a",
            "euler_a_cfg_pp",
            "dpmpp_2s_a_cfg_pp",
            "res_multistep_a_cfg_pp",
        )
    ),
    *(
        ("dpmpp_2m_sde", {"solver": s, "eta": eta}, 1 + eta, None)
        for s in ("midpoint", "heun")
        for eta in (0.0, 0.5, 1.0)
    ),
    *(
        (name, {}, 2.0, None)
        for name in ("dpmpp_2m_sde_heun", "dpmpp_3m_sde", "seeds_2", "seeds_3", "exp_heun_2_x0_sde")
    ),
    ("seeds_3", {"eta": 0.5}, 1.5, None),
    ("seeds_2", {"exact": True}, 2.0, None),
    *(
        (
            name,
            {"tau": tau, "tau_min": 0.0, "tau_max": 100.0},
            1 + tau**2,
            3,
        )  # 4 from a known start
        for name in ("sa_solver", "sa_solver_pece")
        for tau in (0.5, 1.0)
    ),
    *(("er_sde", {"order": order}, PHI, min(order, 2)) for order in (1, 2, 3)),
    # with its own start; that its polynomial is of degree 2 is tested below
    ("er_sde", {"exact": True}, PHI, 2),
]


def test_every_stochastic_sampler_with_an_order_has_its_drift_measured():
    assert {n for n in NAMES if SAMPLERS[n].stochastic and SAMPLERS[n].order} <= {
        name for name, *_ in DRIFTS
    }


@cache
def measure_drift(k, steps=1000):
    """dx/dlog sigma = k·(x − x0) from 2 to 0.05 by the classical Runge-Kutta rule, good to (3.7 /
    1000)⁴ = 2e-10. For ER-SDE k is dlog φ/dlog sigma, by a central difference of 1e-5 good to
    1e-10."""
    x, log, h = START / 10, math.log(2.0), math.log(0.05 / 2.0) / steps

    def strength(sigma):
        if k != PHI:
            return k
        a, b = (
            float(compute_phi(torch.tensor(sigma * math.exp(d), dtype=torch.float64)).log())
            for d in (1e-5, -1e-5)
        )
        return (a - b) / 2e-5

    def f(x, log):
        return strength(math.exp(log)) * (x - MIXTURE.denoise(Query(x, math.exp(log), 0)).x0)

    for _ in range(steps):
        a = f(x, log)
        b = f(x + h / 2 * a, log + h / 2)
        c = f(x + h / 2 * b, log + h / 2)
        d = f(x + h * c, log + h)
        x, log = x + h / 6 * (a + 2 * b + 2 * c + d), log + h
    return x


@pytest.mark.parametrize(
    ("options", "degree"), [({"order": 1}, 0), ({"order": 2}, 1), ({}, 2), ({"exact": True}, 2)]
)
def test_er_sde_is_its_polynomial_in_sigma(options, degree):
    """x/φ falls by ∫ x0·φ′/φ² dσ: by parts, by x0/φ at the ends and ∫ x0′/φ, here by Simpson's rule
    in 1,000 parts of a step (error below 1e-12). Steps of length 1 in sigma; what is published as
    order 3 takes x0 for more than it is, by the quadratic's factor times (σ − s), see there. One
    degree more is missed by far."""
    factors = [0.7, -0.3, 0.05, 0.02]

    def missed(degree, more):
        def x0(sigma):
            return sum(f * sigma**p for p, f in enumerate(factors[: degree + 1]))

        past = [Past(sigma, START, torch.full_like(START, x0(sigma))) for sigma in (12.0, 11.0)]
        levels = torch.arange(10.0, 1.5, -1.0, dtype=torch.float64)
        run = load("er_sde")(START, levels, silent, s_noise=0.0, past=past, **options)
        found = drive(run, lambda query: Answer(torch.full_like(query.x, x0(query.sigma))))
        x, simpson = (
            START,
            torch.tensor([1.0, *([4.0, 2.0] * 499), 4.0, 1.0], dtype=torch.float64) / 3000,
        )
        for s, t in pairwise(levels.tolist()):
            at = torch.linspace(t, s, 1001, dtype=torch.float64)
            size = compute_phi(at)
            slopes = (
                sum(p * f * at ** (p - 1) for p, f in enumerate(factors[: degree + 1]) if p)
                + more
                + 0 * at
            )
            ends = (x0(t) + more * (t - s)) / float(size[0]) - x0(s) / float(size[-1])
            x = float(size[0]) * (
                x / float(size[-1]) + ends + float((simpson * slopes / size).sum())
            )
        return compute_rms(found - x)

    published = factors[2] if options == {} else 0.0
    assert missed(degree, published) < 1e-10
    assert missed(degree, published + 1e-3) > 1e-4
    assert missed(degree + 1, published) > 1e-3


@pytest.mark.parametrize(("name", "options", "k", "order"), DRIFTS)
def test_order_of_the_drift_of_the_stochastic(name, options, k, order):
    """With the noise held at 0 a reverse SDE is an ODE, dx/dlog sigma = k·(x − x0). From 2 on:
    higher up it forgets its start so fast (as sigma^−k) that only the last few steps would be
    measured."""
    exact, order, steps = measure_drift(k), order or SAMPLERS[name].order, (40, 80, 160, 320)
    run = [
        drive(load(name)(START / 10, grid(n, top=2.0), silent, **options), MIXTURE.denoise)
        for n in steps
    ]
    found = fit_slope([compute_rms(x - exact) for x in run], steps)
    if name.startswith("sa_solver"):
        assert found > order - 0.15
    else:
        assert found == pytest.approx(order, abs=0.1 if order == 1 else 0.15)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("euler_a", {}),
        ("ddim", {"eta": 1.0}),
        ("ddpm", {}),
        ("dpmpp_2m_sde", {"solver": "midpoint"}),
        ("dpmpp_2m_sde_heun", {}),
        ("dpmpp_3m_sde", {}),
        ("euler_a_cfg_pp", {}),
    ],
)
def test_eta_1_has_the_mean_of_gaussian_data_in_any_number_of_steps(name, options):
    """It is then the posterior of the forward process, whose mean x − m ∝ c² + sigma² on Gaussian
    data. For the multi- step ones that also says that the slope of x0 is 0 along it."""
    exact = GAUSS.m + (START - GAUSS.m) * (GAUSS.c**2 + 0.05**2) / (GAUSS.c**2 + 20.0**2)
    for steps in (1, 2, 7):
        x = drive(load(name)(START, grid(steps), silent, **options), GAUSS.denoise)
        assert (x - exact).abs().max() < 1e-12  # float64


def measure_variance(name, steps, final="none", **options):
    """Exact variance of a run's outcome on Gaussian data of variance c² about 0, over what it
    should be. There a sampler is linear in its start and in each of its noises: image 0 gets the
    start 1, image j the j-th noise 1, and variances of independents add."""
    c, levels, calls = 0.6, grid(steps, final), []

    def answer(query):
        x0 = query.x * c**2 / (c**2 + query.sigma**2)
        return Answer(x0, x0)

    def count(sigma, sigma_next, image=None):
        calls.append((sigma, sigma_next))
        return torch.zeros(())

    drive(load(name)(torch.ones(1, 1, 1, 1, dtype=torch.float64), levels, count, **options), answer)
    start = torch.zeros(len(calls) + 1, 1, 1, 1, dtype=torch.float64)
    start[0] = math.sqrt(c**2 + 20.0**2)
    number = iter(range(1, len(calls) + 1))

    def noise(sigma, sigma_next, image=None):
        unit = torch.zeros_like(start)
        unit[next(number)] = 1
        return unit

    x = drive(load(name)(start, levels, noise, **options), answer)
    return float(x.square().sum()) / (c**2 + float(levels[-1]) ** 2)


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        *(
            (name, {"eta": eta}, 1)
            for name in ("euler_a", "ddim", "euler_cfg_pp")
            for eta in (0.0, 0.5, 1.0)
        ),
        ("ddpm", {}, 1),
        ("euler_a_cfg_pp", {}, 1),
        *(
            ("dpmpp_2m_sde", {"eta": e, "solver": s}, 2)
            for e in (0.0, 0.5, 1.0)
            for s in ("midpoint", "heun")
        ),
        *((name, {}, 1) for name in ("dpm2_a", "dpmpp_2s_a", "dpmpp_2s_a_cfg_pp", "dpmpp_sde")),
        ("dpmpp_3m_sde", {}, 2),
        *(
            (name, {}, 2)
            for name in (
                "res_multistep_a",
                "res_multistep_a_cfg_pp",
                "seeds_2",
                "exp_heun_2_x0_sde",
            )
        ),
        ("seeds_3", {}, 2),
        ("er_sde", {}, 2),
        *(
            (name, {"tau_min": 0.0, "tau_max": 100.0}, 2)
            for name in ("sa_solver", "sa_solver_pece")
        ),
    ],
)
def test_variance_of_gaussian_data(name, options, order):
    """Whatever share of noise, the outcome nears the data's variance (plus what is left of the
    noise), with at least this order; noise of a wrong size would leave an error that no number of
    steps removes."""
    few, many = (abs(measure_variance(name, n, **options) - 1) for n in (80, 320))
    assert math.log(few / many, 4) > order - (0.1 if order == 1 else 0.15)
    assert many < 0.025


def test_variance_where_the_run_itself_goes_astray():
    """Restart's noise brings x from 0.1 to 2 with the right variance: Heun's own error at 80 steps,
    1e-3, is all that is left. LCM keeps no variance but that of x0 at its last level."""
    assert measure_variance("restart", 80, "zero") == pytest.approx(1, abs=5e-3)
    assert measure_variance("dpm_fast", 240) == pytest.approx(1, abs=0.03)
    found = 0.36 + 400  # of x
    for s, t in pairwise(grid(10, "zero").tolist()):
        found = found * (0.36 / (0.36 + s**2)) ** 2 + t**2
    assert measure_variance("lcm", 10, "zero") == pytest.approx(found / 0.36, rel=1e-12)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if "s_noise" in SAMPLERS[n].options and n != "dpm_adaptive"]
)
def test_s_noise_scales_the_noise_alone(name):
    """DPM adaptive aside, whose steps depend on what they find."""
    churn = {"s_churn": 5.0} if has_option(name, "s_churn") else {}

    def run(s_noise, noise=None):
        noise = noise or unit_noise(len(START))
        eta = {"eta": 1.0} if has_option(name, "eta") else {}
        levels = grid(20, "zero")
        return drive(
            load(name)(START, levels, noise, s_noise=s_noise, **churn, **eta), GAUSS.denoise
        )

    assert torch.equal(run(0.0), run(1.0, silent))
    assert torch.allclose(
        run(0.5) - run(0.0), (run(1.0) - run(0.0)) / 2, atol=1e-11
    )  # affine in the noise
    assert not torch.equal(run(0.5), run(0.0))


@pytest.mark.parametrize("name", [n for n in NAMES if has_option(n, "s_churn")])
def test_churn_raises_the_level_where_it_may(name):
    asked, drawn = [], []

    def answer(query):
        if query.stage == 0:
            asked.append(query.sigma)
        return MIXTURE.denoise(query)

    def noise(s, t, image=None):
        drawn.append((s, t))
        return torch.zeros(())

    levels = grid(10).tolist()
    low, high, gamma = levels[7], levels[2], min(3.0 / 10, math.sqrt(2) - 1)
    drive(load(name)(START, grid(10), noise, s_churn=3.0, s_tmin=low, s_tmax=high), answer)
    expected = [s * (1 + gamma) if low <= s <= high else s for s in levels[:-1]]
    assert asked == pytest.approx(expected, rel=1e-14)
    assert drawn == [(s, t) for s, t in zip(levels, asked, strict=False) if s != t]
    assert len(drawn) == 6
    with pytest.raises(BadInput, match="s_churn"):
        drive(load(name)(START, grid(10), noise, s_churn=-1.0), answer)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("lcm", "dpm_adaptive", "dpm_fast")])
def test_a_single_point_is_found_exactly(name):
    """Data that is one point m: x − m ∝ sigma, whatever the steps; what noise adds is scaled away
    by any of the steps that follow, so only the deterministic part is looked at."""
    m = 0.7

    def answer(query):
        x0 = torch.full_like(query.x, m)
        return Answer(x0, x0)

    none = find_quiet_options(name)
    if none is not None:
        x = drive(load(name)(START, grid(13), silent, **none), answer)
        exact = m + (START - m) * 0.05 / 20
        if name == "ipndm_v":  # its published weights do not add up to 1
            assert (x - exact).abs().max() > 1e-4
            x = drive(load(name)(START, grid(13), silent, exact=True), answer)
        assert (x - exact).abs().max() < 1e-10  # the project's bar; float64 gives about 1e-14
    x = drive(load(name)(START, grid(13, "zero"), unit_noise(len(START))), answer)
    if name != "ipndm_v":
        assert (x - m).abs().max() < 1e-10


@pytest.mark.parametrize("final", ["zero", "none"])
@pytest.mark.parametrize(
    ("one", "options", "other", "others"),
    [
        ("ddim", {}, "euler", {}),
        ("ddim", {"eta": 1.0}, "euler_a", {}),
        ("ddim", {"eta": 0.4}, "euler_a", {"eta": 0.4}),
        ("euler_a", {"eta": 0.0}, "euler", {}),
        ("dpmpp_2m_sde", {"eta": 0.0}, "dpmpp_2m", {}),
        ("ddpm", {}, "euler_a", {}),
        ("dpm2_a", {"eta": 0.0}, "dpm2", {}),
        ("dpmpp_2m_sde_heun", {"eta": 0.0}, "res_multistep", {}),
        ("dpmpp_3m_sde", {"eta": 0.0, "exact": True}, "dpmpp_3m", {}),
        ("dpmpp_2s_a", {"eta": 0.0}, "dpmpp_sde", {"eta": 0.0}),
        ("dpmpp_sde", {"eta": 0.0}, "seeds_2", {"eta": 0.0}),
        ("exp_heun_2_x0_sde", {"eta": 0.0}, "exp_heun_2_x0", {}),
        ("ipndm_v", {"order": 1}, "lms", {"order": 1}),
        ("lms", {"order": 1}, "euler", {}),
        ("ipndm", {"order": 1}, "euler", {}),
        ("gradient_estimation", {"gamma": 1.0}, "euler", {}),
        ("deis", {"order": 1}, "euler", {}),
        (
            "sa_solver",
            {"tau": 0.0, "predictor": 2, "corrector": 0, "lower_order_final": False},
            "res_multistep",
            {},
        ),
        (
            "sa_solver",
            {"tau": 0.0, "predictor": 3, "corrector": 0, "lower_order_final": False},
            "dpmpp_3m",
            {},
        ),
        ("ddim_cfg_pp", {}, "euler", {}),
        ("ddim_cfg_pp", {}, "euler_cfg_pp", {}),
        ("euler_a_cfg_pp", {}, "euler_a", {}),
        ("dpmpp_2m_cfg_pp", {}, "dpmpp_2m", {}),
        ("dpmpp_2s_a_cfg_pp", {}, "dpmpp_2s_a", {}),
        ("res_multistep_cfg_pp", {}, "res_multistep", {}),
        ("res_multistep_a_cfg_pp", {}, "res_multistep_a", {}),
        ("gradient_estimation_cfg_pp", {}, "gradient_estimation", {}),
    ],
)
def test_identities_on_one_grid(one, options, other, others, final):
    levels = grid(20, final)
    a = drive(load(one)(START, levels, unit_noise(len(START)), **options), MIXTURE.denoise)
    b = drive(load(other)(START, levels, unit_noise(len(START)), **others), MIXTURE.denoise)
    assert (a - b).abs().max() < 1e-6  # the project's bar; float64 gives about 1e-14


@pytest.mark.parametrize("options", [{"exact": True}, {"order": 2}])
def test_ipndm_v_is_lms_where_its_weights_are_right(options):
    """Up to order 2 the published ones are."""
    a = drive(load("ipndm_v")(START, grid(20), silent, **options), MIXTURE.denoise)
    order = {k: v for k, v in options.items() if k == "order"}
    assert (
        a - drive(load("lms")(START, grid(20), silent, **order), MIXTURE.denoise)
    ).abs().max() < 1e-10


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ancestral_step_is_ddims_in_its_own_coordinates(eta):
    """Song et al. 2021, eq. 12 and 16, are written in ᾱ for x scaled by √ᾱ; 1/√ᾱ_next brings them
    here."""
    for s, t in ((14.6, 9.0), (2.0, 1.9), (0.3, 0.03)):
        a, a_next = 1 / (1 + s**2), 1 / (1 + t**2)
        up = eta * math.sqrt((1 - a_next) / (1 - a)) * math.sqrt(1 - a / a_next)
        down = math.sqrt(1 - a_next - up**2)
        ours = split_step(s, t, eta)
        assert ours == pytest.approx((down / math.sqrt(a_next), up / math.sqrt(a_next)), rel=1e-12)
        assert math.hypot(*ours) == pytest.approx(t, rel=1e-14)
    assert split_step(1.0, 0.5, 9.0) == (0, 0.5)  # never more noise than the next level has


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_is_that_of_diffusers(to_one, eta):
    theirs = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=to_one,
        steps_offset=1,
        timestep_spacing="leading",
    )
    theirs.set_timesteps(20)
    levels = make_sigmas(SD, 20, "leading", "zero" if to_one else "first", steps_offset=1)

    def network(x, t):
        return torch.tanh(x + t / 1000)

    def answer(query):
        skip, out, scale = compute_coefficients("eps", query.sigma)
        return Answer(skip * query.x + out * network(scale * query.x, SD.sigma_to_t(query.sigma)))

    source = Noise([3, 4], (1, 4, 4))
    x = source.initial.double()
    ours = drive(load("ddim")(x * math.hypot(1, levels[0]), levels, source, eta=eta), answer)
    source = Noise([3, 4], (1, 4, 4))
    for t in theirs.timesteps:
        extra = {"eta": eta, "variance_noise": source(0, 0).double()} if eta else {}
        x = theirs.step(network(x, t), int(t), x, **extra).prev_sample  # pyright: ignore
    assert (ours / math.hypot(1, levels[-1]) - x).abs().max() < 1e-4  # diffusers' ᾱ is float32


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_its_batch(name):
    def run(seeds):
        noise = Noise(seeds, (4, 8, 8))
        levels = grid(22 if name == "restart" else 8, "zero")  # so that it does restart
        return drive(
            load(name)(noise.initial * 20, levels, noise),
            lambda q: Answer(torch.tanh(q.x), torch.tanh(q.x)),
        )

    batch = run([5, 6, 7])
    assert batch.dtype == torch.float32
    for i, seed in enumerate((5, 6, 7)):
        assert torch.equal(batch[i : i + 1], run([seed]))


OWN_LEVELS = ("dpm_fast", "dpm_adaptive", "restart")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("final", ["zero", "none"])
def test_questions_asked(name, final):
    """As many as SAMPLERS says, at most, in order; a step's first at the grid's own level, the
    others down to its end (Heun++ looks one step further). Noise is drawn only by the stochastic
    ones, inside the step, and never on the way to sigma 0; the last step to 0 is the last picture
    answered."""
    asked, order, drawn, levels, answers = [], [], [], grid(5, final), []

    def answer(query):
        asked.append((query.step, query.stage, query.sigma))
        order.append((query.image or 0, query.step))
        answers.append(MIXTURE.denoise(query))
        return answers[-1]

    def noise(sigma, sigma_next, image=None):
        drawn.append((asked[-1][0], sigma, sigma_next))
        return torch.zeros(())

    x = drive(load(name)(START, levels, noise), answer)
    assert (
        bool(drawn) == SAMPLERS[name].stochastic or name == "restart"
    )  # no restart in so short a run
    assert order == sorted(order)  # steps never fall, for an image
    assert asked[0][0] == 0
    assert asked[-1][0] <= 4
    if name not in OWN_LEVELS:
        values = levels.tolist()
        assert [(i, s) for i, stage, s in asked if stage == 0] == list(enumerate(values[:-1]))
        for i, stage, sigma in asked:
            assert stage < SAMPLERS[name].evaluations or (name == "plms" and i == 0)
            end = values[min(i + (2 if name == "heunpp2" else 1), 5)]
            assert values[i] >= sigma >= min(end, values[i + 1] ** 2 / values[i])
        most = max(stage for _, stage, _ in asked) + 1
        assert most == (2 if name == "plms" else SAMPLERS[name].evaluations)
        for i, sigma, sigma_next in drawn:
            assert values[i] >= sigma > sigma_next >= values[i + 1] > 0
        if final == "zero" and name not in ("plms", "lms"):  # those extrapolate there too
            assert torch.allclose(x, answers[-1].x0, atol=1e-12)  # float64 rounding of x − x + x0
    else:
        assert all(sigma > 0 for _, sigma, _ in drawn)


def test_dpm_fast_asks_as_often_as_the_run_has_steps():
    for n in (2, 3, 4, 5, 6, 7, 20):
        asked = []

        def answer(query, asked=asked):
            asked.append(query)
            return MIXTURE.denoise(query)

        drive(load("dpm_fast")(START, grid(n, "zero"), silent), answer)
        assert len(asked) == n
        orders = [3] * (n // 3 - 1) + [2, 1] if n % 3 == 0 else [3] * (n // 3) + [n % 3]
        assert [q.step for q in asked if q.stage == 0] == [
            sum(orders[:i]) for i in range(len(orders))
        ]


def test_dpm_adaptive_takes_more_steps_for_less_error_and_each_image_its_own():
    exact, errors, counts = MIXTURE.exact(START, 20.0, 0.05), [1.0], [0]
    for rtol in (0.1, 0.01, 0.001, 0.0001):
        asked = []
        run = dpm_adaptive(START, grid(5), silent, eta=0.0, rtol=rtol, atol=rtol / 6)
        errors.append(
            compute_rms(
                drive(run, lambda q, asked=asked: (asked.append(q), MIXTURE.denoise(q))[1]) - exact
            )
        )
        counts.append(len(asked))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3
    assert counts == sorted(set(counts))
    asked = {}

    def answer(query):
        assert len(query.x) == 1
        asked[query.image] = asked.get(query.image, 0) + 1
        return MIXTURE.denoise(query)

    drive(dpm_adaptive(START, grid(5), silent, eta=0.0), answer)
    assert sorted(asked) == list(range(len(START)))
    assert len(set(asked.values())) > 1

    def broken(query):
        return Answer(torch.full_like(query.x, float("nan")))

    with pytest.raises(BadInput, match="not finite"):
        drive(dpm_adaptive(START, grid(5), silent), broken)


def test_restart_goes_back_as_often_as_a1111_does():
    for n, times in ((19, 0), (20, 1), (35, 1), (36, 2), (60, 2)):
        ways = plan_restarts(grid(n, "zero").tolist())
        ups = [(a, b) for (_, a), (b, _) in pairwise(ways) if b > a]
        assert len(ways) == n
        assert len(ups) == times
        for a, b in ups:
            assert a == pytest.approx(0.1, rel=0.5)  # the nearest level there is
            assert b == pytest.approx(2.0, rel=0.5)
        assert ways[-1][1] == 0


def test_integrals():
    nodes, weights = compute_gauss_legendre(5)
    for degree in range(10):  # exact to degree 2·5 − 1
        exact = (1 - (-1) ** (degree + 1)) / (degree + 1)
        found = sum(weight * node**degree for node, weight in zip(nodes, weights, strict=True))
        assert found == pytest.approx(exact, abs=1e-14)
    # Adams-Bashforth's own weights for even steps
    assert compute_adams_weights([3.0, 2.0, 1.0, 0.0], 3.0, 4.0) == pytest.approx(
        [55 / 24, -59 / 24, 37 / 24, -9 / 24], abs=1e-12
    )
    u = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    for h in (1e-3, 0.3, 0.999, 1.001, 4.0):
        for p, moment in enumerate(compute_moments(h, 4)):
            rule = torch.trapezoid(h * (-h * (1 - u)).exp() * u**p, u)
            assert moment == pytest.approx(float(rule), rel=1e-9)  # the trapezoid's (1/200,000)²·h²
        places = [0.0, -0.7, 1.0]
        found = compute_exponential_weights(places, h)
        for coefficients_ in ((1.0, 0, 0), (0, 1.0, 0), (2.0, -1.0, 3.0)):
            exact = sum(c * m for c, m in zip(coefficients_, compute_moments(h, 3), strict=True))
            values = [sum(c * place**p for p, c in enumerate(coefficients_)) for place in places]
            assert sum(w * v for w, v in zip(found, values, strict=True)) == pytest.approx(
                exact, abs=1e-12
            )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "levels",
    [
        [],
        [1.0],
        [0.0, 1.0],
        [2.0, 3.0, 1.0],
        [2.0, 2.0, 1.0],
        [1.0, 0.0, 0.0],
        [1.0, -1.0],
        [float("inf"), 1.0],
        [float("nan"), 1.0],
        [2.0, float("nan")],
        [2.0, float("nan"), 1.0],
    ],
)
def test_bad_sigmas(name, levels):
    with pytest.raises(BadInput, match="strictly decreasing") as error:
        drive(load(name)(START, torch.tensor(levels), silent), MIXTURE.denoise)
    assert error.value.remedy


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_bad_options(name, bad):
    for option in {"eta", "s_noise"} & set(SAMPLERS[name].options):
        with pytest.raises(BadInput, match=option):
            drive(load(name)(START, grid(5), silent, **{option: bad}), MIXTURE.denoise)
    if "solver" in SAMPLERS[name].options:
        with pytest.raises(UnknownName, match="midpoint, heun"):
            drive(load(name)(START, grid(5), silent, solver="rk4"), MIXTURE.denoise)


OPTIONS = {  # option → values that cannot be used
    "order": (0, 5, -1),
    "variable": ("rho",),
    "gamma": (0.5, float("nan"), 9.0),
    "solver": ("rk4",),
    "r": (0.0, 1.5),
    "rtol": (-1.0, float("nan")),
    "h_init": (0.0, float("inf")),
    "accept_safety": (0.0, 1.0),
    "variant": ("bh3",),
    "tau": (-1.0, float("nan")),
    "predictor": (0, 5),
    "corrector": (-1, 5),
    "r1": (0.0, 0.9),
    "r2": (0.1, 1.1),
}


@pytest.mark.parametrize(
    ("name", "option"), [(n, o) for n in NAMES for o in OPTIONS if has_option(n, o)]
)
def test_bad_values_of_options(name, option):
    for value in OPTIONS[option]:
        with pytest.raises((BadInput, UnknownName)) as error:
            drive(load(name)(START, grid(5), silent, **{option: value}), MIXTURE.denoise)
        assert error.value.remedy


def test_entries_say_what_is_true():
    for name, entry in SAMPLERS.items():
        assert set(entry.options) <= set(signature(load(name)).parameters)
        assert (entry.order is None) == bool(entry.why)
        if entry.uncond:
            with pytest.raises(BadInput, match="CFG"):
                drive(load(name)(START, grid(5), silent), lambda q: Answer(q.x * 0))


def test_registry():
    assert find("DPM++ 2m sde") is find("dpmpp_2m_sde") is SAMPLERS["dpmpp_2m_sde"]
    assert find(" Euler A ").name == "euler_a"
    for entry in SAMPLERS.values():
        assert all(
            find(name) is entry
            for name in (entry.name, entry.label, entry.label.upper(), *entry.aliases)
        )
    assert parse("DPM++ 2M Karras") == (SAMPLERS["dpmpp_2m"], "karras")
    assert parse("DPM++ 2M SDE Exponential") == (SAMPLERS["dpmpp_2m_sde"], "exponential")
    assert parse("k_dpmpp_2m_ka") == (SAMPLERS["dpmpp_2m"], "karras")
    assert parse("Euler a") == (SAMPLERS["euler_a"], None)
    with pytest.raises(UnknownName, match="did you mean 'euler_a'"):
        find("eulera")
    with pytest.raises(UnknownName, match=r"choose one of: euler, euler_a, heun, .*lcm"):
        find("plms_fast")
