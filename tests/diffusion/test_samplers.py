"""Samplers on data whose denoiser and whose exact solution are known: orders, variances, identities, bad input."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler  # pyright: ignore

from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.parameterization import coefficients
from fromnoise.diffusion.samplers import SAMPLERS, find, load
from fromnoise.diffusion.samplers.base import Answer, Query, ancestral, drive
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import sigmas
from fromnoise.errors import BadInput, UnknownName

SD = NoiseSchedule.scaled_linear()
NAMES = list(SAMPLERS)
STEPS = (20, 40, 80, 160)


def grid(steps, final="none", top=20.0):
    return sigmas(SD, steps, "karras", final, sigma_min=0.05, sigma_max=top)


def silent(sigma, sigma_next):
    return torch.zeros(())


class Mixture:
    """Data of one dimension: a mixture of Gaussians. Noise of deviation sigma widens each component."""

    def __init__(self, weights, means, deviations):
        self.w, self.m, self.c = (torch.tensor(v, dtype=torch.float64) for v in (weights, means, deviations))

    def parts(self, x, sigma):
        spread = torch.sqrt(self.c**2 + sigma**2)
        return (x[..., None] - self.m) / spread, spread

    def denoise(self, query):
        """E[x0 | x], each component's own Gaussian answer weighed by how likely it made x."""
        z, spread = self.parts(query.x, query.sigma)
        likely = torch.softmax(torch.log(self.w / spread) - z**2 / 2, -1)
        return Answer((likely * (self.m + z * self.c**2 / spread)).sum(-1))

    def quantile_of(self, x, sigma):
        return (self.w * torch.special.ndtr(self.parts(x, sigma)[0])).sum(-1)

    def exact(self, x, start, end):
        """The probability-flow ODE from start to end. It moves every point along with the density, and in one
        dimension that keeps its quantile: so the end is where that quantile is, found by bisection."""
        quantile = self.quantile_of(x, start)
        low, high = torch.full_like(x, -100.0), torch.full_like(x, 100.0)
        for _ in range(60):  # 200 / 2⁶⁰: all of float64
            middle = (low + high) / 2
            below = self.quantile_of(middle, end) < quantile
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


MIXTURE = Mixture([0.3, 0.45, 0.25], [-1.2, 0.4, 1.5], [0.4, 0.5, 0.3])
GAUSS = Mixture([1.0], [0.3], [0.6])
START = 20 * torch.special.ndtri(torch.linspace(0.05, 0.95, 37, dtype=torch.float64)).view(-1, 1, 1, 1)


def slope(errors):
    """Of log RMS error against log steps, by least squares, as an order: error ∝ steps^(−order)."""
    return -float(np.polyfit(np.log(STEPS), np.log(errors), 1)[0])


def rms(x):
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("data", [MIXTURE, GAUSS], ids=["mixture", "gauss"])
@pytest.mark.parametrize("name", [n for n in NAMES if not SAMPLERS[n].stochastic])
def test_order_of_convergence(name, data):
    """The order that SAMPLERS claims, measured. A slope over 20 … 160 steps still holds some of the next order's term:
    0.1 for first order and 0.15 for second are the project's bars."""
    exact = data.exact(START, 20.0, 0.05)
    errors = [rms(drive(load(name)(START, grid(n), silent), data.denoise) - exact) for n in STEPS]
    order = SAMPLERS[name].order
    assert slope(errors) == pytest.approx(order, abs=0.1 if order == 1 else 0.15)


DRIFTS = [  # 1 + the share of noise: eta² where eta scales its deviation, eta where it scales the rate of its variance
    ("euler_a", {}, lambda eta: 1 + eta**2),
    ("ddim", {}, lambda eta: 1 + eta**2),
    ("dpmpp_2m_sde", {"solver": "midpoint"}, lambda eta: 1 + eta),
    ("dpmpp_2m_sde", {"solver": "heun"}, lambda eta: 1 + eta),
]


@cache
def drift_on_mixture(k, steps=500):
    """dx/dlog sigma = k·(x − x0) from 2 to 0.05 by the classical Runge-Kutta rule, good to (3.7 / 500)⁴ = 3e-9."""
    x, log, h = START / 10, math.log(2.0), math.log(0.05 / 2.0) / steps

    def f(x, log):
        return k * (x - MIXTURE.denoise(Query(x, math.exp(log), 0)).x0)

    for _ in range(steps):
        a = f(x, log)
        b = f(x + h / 2 * a, log + h / 2)
        c = f(x + h / 2 * b, log + h / 2)
        d = f(x + h * c, log + h)
        x, log = x + h / 6 * (a + 2 * b + 2 * c + d), log + h
    return x


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("name", "options", "drift"), DRIFTS)
def test_order_of_the_drift_of_the_stochastic(name, options, drift, eta):
    """With the noise held at 0 a reverse SDE is an ODE, dx/dlog sigma = k·(x − x0). From 2 on: higher up it forgets its
    start so fast (as sigma^−k) that only the last few steps would be measured."""
    exact, order = drift_on_mixture(drift(eta)), SAMPLERS[name].order
    run = [drive(load(name)(START / 10, grid(n, top=2.0), silent, eta=eta, **options), MIXTURE.denoise) for n in STEPS]
    assert slope([rms(x - exact) for x in run]) == pytest.approx(order, abs=0.1 if order == 1 else 0.15)


@pytest.mark.parametrize(("name", "options", "drift"), DRIFTS)
def test_eta_1_has_the_mean_of_gaussian_data_in_any_number_of_steps(name, options, drift):
    """It is then the posterior of the forward process, whose mean x − m ∝ c² + sigma² on Gaussian data. For 2M SDE that
    also says that the slope of x0 is 0 along it."""
    exact = GAUSS.m + (START - GAUSS.m) * (GAUSS.c**2 + 0.05**2) / (GAUSS.c**2 + 20.0**2)
    for steps in (1, 2, 7):
        x = drive(load(name)(START, grid(steps), silent, eta=1.0, **options), GAUSS.denoise)
        assert (x - exact).abs().max() < 1e-12  # float64


def variance(name, steps, **options):
    """Exact variance of a run's outcome on Gaussian data of variance c² about 0. There a sampler is linear in its start
    and in each of its noises: image 0 gets the start 1, image j the j-th noise 1, and variances of independents add."""
    c, levels, calls = 0.6, grid(steps), iter(range(1, steps + 1))
    start = torch.zeros(steps + 1, 1, 1, 1, dtype=torch.float64)
    start[0] = math.sqrt(c**2 + 20.0**2)

    def noise(sigma, sigma_next):
        assert (sigma, sigma_next) in pairwise(levels.tolist())
        unit = torch.zeros_like(start)
        unit[next(calls)] = 1
        return unit

    def answer(query):
        return Answer(query.x * c**2 / (c**2 + query.sigma**2))

    return float(drive(load(name)(start, levels, noise, **options), answer).square().sum()) / (c**2 + 0.05**2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"eta": eta}) for name in ("euler_a", "ddim") for eta in (0.0, 0.5, 1.0)),
        *(("dpmpp_2m_sde", {"eta": e, "solver": s}) for e in (0.0, 0.5, 1.0) for s in ("midpoint", "heun")),
    ],
)
def test_variance_of_gaussian_data(name, options):
    """Whatever share of noise, the outcome nears the data's variance (plus what is left of the noise) and does so with
    the sampler's own order; noise of a wrong size would leave an error that no number of steps removes."""
    few, many = (abs(variance(name, n, **options) - 1) for n in (80, 320))
    order = SAMPLERS[name].order
    assert math.log(few / many, 4) == pytest.approx(order, abs=0.1 if order == 1 else 0.15)


@pytest.mark.parametrize("name", [n for n in NAMES if "s_noise" in SAMPLERS[n].options])
def test_s_noise_scales_the_noise_alone(name):
    def run(s_noise):
        noise = unit_noise(len(START))
        return drive(load(name)(START, grid(20), noise, s_noise=s_noise), GAUSS.denoise)  # affine in the noise

    assert torch.equal(run(0.0), drive(load(name)(START, grid(20), silent), GAUSS.denoise))
    assert torch.allclose(run(0.5) - run(0.0), (run(1.0) - run(0.0)) / 2, atol=1e-12)


def unit_noise(batch):
    """The same unit noises, in float64, at every run that is handed a new one."""
    source = Noise(list(range(batch)), (1, 1, 1))
    return lambda s, t: source(s, t).double()


@pytest.mark.parametrize("final", ["zero", "none"])
@pytest.mark.parametrize(
    ("one", "options", "other", "others"),
    [
        ("ddim", {}, "euler", {}),
        ("ddim", {"eta": 1.0}, "euler_a", {}),
        ("ddim", {"eta": 0.4}, "euler_a", {"eta": 0.4}),
        ("euler_a", {"eta": 0.0}, "euler", {}),
        ("dpmpp_2m_sde", {"eta": 0.0}, "dpmpp_2m", {}),
    ],
)
def test_identities_on_one_grid(one, options, other, others, final):
    levels = grid(20, final)
    a = drive(load(one)(START, levels, unit_noise(len(START)), **options), MIXTURE.denoise)
    b = drive(load(other)(START, levels, unit_noise(len(START)), **others), MIXTURE.denoise)
    assert (a - b).abs().max() < 1e-6  # the project's bar; float64 gives about 1e-14


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ancestral_step_is_ddims_in_its_own_coordinates(eta):
    """Song et al. 2021, eq. 12 and 16, are written in ᾱ for x scaled by √ᾱ; 1/√ᾱ_next brings them here."""
    for s, t in ((14.6, 9.0), (2.0, 1.9), (0.3, 0.03)):
        a, a_next = 1 / (1 + s**2), 1 / (1 + t**2)
        up = eta * math.sqrt((1 - a_next) / (1 - a)) * math.sqrt(1 - a / a_next)
        down = math.sqrt(1 - a_next - up**2)
        ours = ancestral(s, t, eta)
        assert ours == pytest.approx((down / math.sqrt(a_next), up / math.sqrt(a_next)), rel=1e-12)
        assert math.hypot(*ours) == pytest.approx(t, rel=1e-14)
    assert ancestral(1.0, 0.5, 9.0) == (0, 0.5)  # never more noise than the next level has


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_is_that_of_diffusers(to_one, eta):
    theirs = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
        set_alpha_to_one=to_one, steps_offset=1, timestep_spacing="leading",
    )  # fmt: skip
    theirs.set_timesteps(20)
    levels = sigmas(SD, 20, "leading", "zero" if to_one else "first", steps_offset=1)

    def network(x, t):
        return torch.tanh(x + t / 1000)

    def answer(query):
        skip, out, scale = coefficients("eps", query.sigma)
        return Answer(skip * query.x + out * network(scale * query.x, SD.t(query.sigma)))

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
        return drive(load(name)(noise.initial * 20, grid(8, "zero"), noise), lambda q: Answer(torch.tanh(q.x)))

    batch = run([5, 6, 7])
    assert batch.dtype == torch.float32
    for i, seed in enumerate((5, 6, 7)):
        assert torch.equal(batch[i : i + 1], run([seed]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("final", ["zero", "none"])
def test_questions_asked(name, final):
    """As many as SAMPLERS says, in order, at the grid's own levels; noise is drawn only by the stochastic ones and
    never on the way to sigma 0; the last step to 0 is the last picture answered."""
    asked, drawn, levels, answers = [], [], grid(5, final), []

    def answer(query):
        asked.append((query.step, query.stage, query.sigma))
        answers.append(MIXTURE.denoise(query))
        return answers[-1]

    def noise(sigma, sigma_next):
        drawn.append((sigma, sigma_next))
        return torch.zeros_like(START)

    x = drive(load(name)(START, levels, noise), answer)
    stages = range(SAMPLERS[name].evaluations)
    expected = [(i, k, float(levels[i + k])) for i in range(5) for k in stages if levels[i + k] > 0]
    assert asked == expected
    steps = list(pairwise(levels.tolist()))
    assert drawn == ([(s, t) for s, t in steps if t > 0] if SAMPLERS[name].stochastic else [])
    if final == "zero":
        assert torch.allclose(x, answers[-1].x0, atol=1e-12)  # float64 rounding of x − x + x0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "levels",
    [[], [1.0], [0.0, 1.0], [2.0, 3.0, 1.0], [2.0, 2.0, 1.0], [1.0, 0.0, 0.0], [1.0, -1.0],
     [float("inf"), 1.0], [float("nan"), 1.0], [2.0, float("nan")], [2.0, float("nan"), 1.0]],
)  # fmt: skip
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


def test_registry():
    assert find("DPM++ 2m sde") is find("dpmpp_2m_sde") is SAMPLERS["dpmpp_2m_sde"]
    assert find(" Euler A ").name == "euler_a"
    with pytest.raises(UnknownName, match="choose one of: euler, euler_a, heun, ddim, dpmpp_2m, dpmpp_2m_sde"):
        find("plms")
