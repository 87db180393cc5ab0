"""Our samplers against k-diffusion's and diffusers': the same levels, the same noise, the same
denoiser."""

import importlib.util
import math
import sys
import types
from inspect import signature

import diffusers
import pytest
import torch
from mixtures import MIXTURE, SD, START, grid, silent, unit_noise

from fromnoise.diffusion.samplers import load
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.samplers.drive import drive

# diffusers passes torch's tensors to NumPy functions, and they lack parts of NumPy 2's protocol.
# Both causes are in other packages.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context and return_scalar"),
]


@pytest.fixture
def k_diffusion(sampling):
    """Its tolerances and ends are tensors of the default type."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield sampling
    torch.set_default_dtype(default)


@pytest.fixture(scope="module")
def sampling():
    """k_diffusion.sampling alone: the package's own import would load networks, and torchvision."""
    spec = importlib.util.find_spec("k_diffusion")
    assert spec, "run `make test`, or pip install --no-deps k-diffusion"
    assert spec.submodule_search_locations
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    stubs = {"k_diffusion": package, "torchdiffeq": types.ModuleType("torchdiffeq")}
    stubs["torchdiffeq"].odeint = None  # pyright: ignore
    utils = types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # pyright: ignore
    before = {name: sys.modules.get(name) for name in (*stubs, "k_diffusion.utils")}
    sys.modules.update(stubs | {"k_diffusion.utils": utils})
    package.utils = utils  # pyright: ignore
    try:
        yield importlib.import_module("k_diffusion.sampling")
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module:
                sys.modules[name] = module


def network(x, sigma, **_):
    """As k-diffusion calls a model: sigma (B,)."""
    return MIXTURE.denoise(Query(x, float(sigma[0]), 0)).x0


CHURN = {"s_churn": 4.0, "s_tmin": 0.3, "s_tmax": 9.0, "s_noise": 1.01}
K_DIFFUSION = [
    ("euler", "sample_euler", {}, {}),
    ("euler", "sample_euler", CHURN, CHURN),
    ("heun", "sample_heun", {}, {}),
    ("heun", "sample_heun", CHURN, CHURN),
    ("dpm2", "sample_dpm_2", {}, {}),
    ("dpm2", "sample_dpm_2", CHURN, CHURN),
    *(
        (ours, theirs, o := {"eta": eta, "s_noise": s}, o)
        for eta, s in ((1.0, 1.0), (0.6, 0.9), (0.0, 1.0))
        for ours, theirs in (
            ("euler_a", "sample_euler_ancestral"),
            ("dpm2_a", "sample_dpm_2_ancestral"),
            ("dpmpp_2s_a", "sample_dpmpp_2s_ancestral"),
            ("dpmpp_sde", "sample_dpmpp_sde"),
            ("dpmpp_3m_sde", "sample_dpmpp_3m_sde"),
        )
    ),
    ("dpmpp_sde", "sample_dpmpp_sde", {"r": 0.4}, {"r": 0.4}),
    *(
        (
            "dpmpp_2m_sde",
            "sample_dpmpp_2m_sde",
            {"eta": eta, "solver": solver},
            {"eta": eta, "solver_type": solver},
        )
        for eta in (1.0, 0.5)
        for solver in ("midpoint", "heun")
    ),
    ("lms", "sample_lms", {}, {}),
    ("lms", "sample_lms", {"order": 2}, {"order": 2}),
    ("dpmpp_2m", "sample_dpmpp_2m", {}, {}),
]


@pytest.mark.parametrize("steps", [1, 2, 3, 12])
@pytest.mark.parametrize(("ours", "theirs", "options", "others"), K_DIFFUSION)
def test_k_diffusion(k_diffusion, monkeypatch, ours, theirs, options, others, steps):
    """float64, so rounding alone is left; 1e-9 is the project's bar."""
    levels, function = grid(steps, "zero"), getattr(k_diffusion, theirs)
    if steps == 1 and theirs in ("sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde"):
        levels = grid(
            2, "none"
        )  # theirs cannot do a run of one step to 0: it reads an h that it never set
    x = drive(load(ours)(START, levels, unit_noise(len(START)), **options), MIXTURE.denoise)
    noise = unit_noise(len(START))
    if "noise_sampler" in signature(function).parameters:
        others = others | {"noise_sampler": noise}
    else:  # churn draws with randn_like, in some versions also where it then adds none
        drawn = iter([noise(0, 0) for _ in range(steps)])
        gamma = [
            "s_tmin" in others and others["s_tmin"] <= s <= others["s_tmax"]
            for s in levels.tolist()[:-1]
        ]
        every = iter([next(drawn) if g else None for g in gamma])
        monkeypatch.setattr(
            torch,
            "randn_like",
            lambda x: n if (n := next(every)) is not None else torch.zeros_like(x),
        )
    assert (x - function(network, START, levels, disable=True, **others)).abs().max() < 1e-9


@pytest.mark.parametrize("eta", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("steps", [3, 4, 5, 6, 12, 20])
def test_dpm_fast_is_that_of_k_diffusion(k_diffusion, steps, eta):
    levels = grid(steps, "zero")
    x = drive(load("dpm_fast")(START, levels, unit_noise(len(START)), eta=eta), MIXTURE.denoise)
    noise, silent_last = unit_noise(len(START)), []

    def sampler(s, t):  # theirs asks for noise also where its share is 0; ours does not
        silent_last.append(t)
        up = eta > 0 and float(t) > float(levels[-2]) * (1 + 1e-9)
        return noise(s, t) if up else torch.zeros_like(START)

    ends = float(levels[-2]), float(levels[0])
    theirs = k_diffusion.sample_dpm_fast(
        network, START, *ends, steps, disable=True, eta=eta, noise_sampler=sampler
    )
    assert (x - theirs).abs().max() < 1e-9


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_dpm_adaptive_is_that_of_k_diffusion(k_diffusion, order, eta):
    """For one image: over a batch k-diffusion's steps are not an image's own."""
    levels, start = grid(9, "zero"), START[3:4]
    x = drive(
        load("dpm_adaptive")(start, levels, unit_noise(1), eta=eta, order=order), MIXTURE.denoise
    )
    noise = unit_noise(1)

    def sampler(s, t):
        up = eta > 0 and float(t) > float(levels[-2]) * (1 + 1e-9)
        return noise(s, t) if up else torch.zeros_like(start)

    ends = float(levels[-2]), float(levels[0])
    options = {"order": order, "eta": eta, "noise_sampler": sampler, "disable": True}
    assert (
        x - k_diffusion.sample_dpm_adaptive(network, start, *ends, **options)
    ).abs().max() < 1e-9


STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
TRAILING = {"timestep_spacing": "trailing"}
ALWAYS = TRAILING | {"lower_order_final": False}
MULTI = {"timestep_spacing": "linspace", "final_sigmas_type": "zero"}
# ours, options, scheduler, its options, whether its x is variance exploding, where its noise is
# drawn
DIFFUSERS = [
    ("euler", {}, "EulerDiscreteScheduler", {}, True, None),
    (
        "euler_a",
        {},
        "EulerAncestralDiscreteScheduler",
        {},
        True,
        "scheduling_euler_ancestral_discrete",
    ),
    ("heun", {}, "HeunDiscreteScheduler", {}, True, None),
    ("lms", {}, "LMSDiscreteScheduler", {}, True, None),
    ("dpm2", {}, "KDPM2DiscreteScheduler", {}, True, None),
    (
        "dpm2_a",
        {},
        "KDPM2AncestralDiscreteScheduler",
        {},
        True,
        "scheduling_k_dpm_2_ancestral_discrete",
    ),
    ("dpmpp_2m", {}, "DPMSolverMultistepScheduler", MULTI, False, None),
    (
        "dpmpp_2m_sde_heun",
        {"eta": 0.0},
        "DPMSolverMultistepScheduler",
        MULTI | {"solver_type": "heun"},
        False,
        None,
    ),
    *(
        (
            "dpmpp_2m_sde",
            {"solver": solver},
            "DPMSolverMultistepScheduler",
            MULTI | {"algorithm_type": "sde-dpmsolver++", "solver_type": solver},
            False,
            "scheduling_dpmsolver_multistep",
        )
        for solver in ("midpoint", "heun")
    ),
    *(
        (
            "unipc",
            {"order": order, "variant": variant},
            "UniPCMultistepScheduler",
            TRAILING
            | {"solver_order": order, "solver_type": variant, "final_sigmas_type": "sigma_min"},
            False,
            None,
        )
        for order in (1, 2, 3)
        for variant in ("bh1", "bh2")
    ),
    *(
        (
            "deis",
            {"order": order, "variable": "log_sigma"},
            "DEISMultistepScheduler",
            ALWAYS | {"solver_order": order},
            False,
            None,
        )
        for order in (2, 3)
    ),
]


@pytest.mark.parametrize("steps", [2, 7, 20])
@pytest.mark.parametrize(("ours", "options", "name", "config", "exploding", "drawn_in"), DIFFUSERS)
def test_diffusers(monkeypatch, ours, options, name, config, exploding, drawn_in, steps):
    """Its own fp32 table of levels is given to ours; 1e-5 of the start's size is the project's
    bar."""
    theirs = getattr(diffusers, name)(**STABLE, **config)
    theirs.set_timesteps(steps)
    table = theirs.sigmas.double()
    levels = torch.unique_consecutive(table)  # some list a level twice, for its two questions
    if drawn_in:
        noise = unit_noise(len(START))
        where = importlib.import_module(f"diffusers.schedulers.{drawn_in}")
        monkeypatch.setattr(where, "randn_tensor", lambda *args, **kwargs: noise(0, 0))

    def scale(sigma):
        return 1.0 if exploding else math.hypot(1, sigma)

    first = float(levels[0])
    x = START / 20 * first / scale(first)
    for t in theirs.timesteps:
        shown = theirs.scale_model_input(x, t)
        if theirs.step_index is None:
            theirs._init_step_index(t)
        sigma = float(table[theirs.step_index])
        if hasattr(theirs, "sigmas_interpol") and not theirs.state_in_first_order:
            sigma = float(theirs.sigmas_interpol[theirs.step_index - ("Ancestral" in name)])
        exact = shown * math.hypot(1, sigma)
        eps = (exact - MIXTURE.denoise(Query(exact, sigma, 0)).x0) / sigma
        x = theirs.step(eps, t, x).prev_sample
    run = load(ours)(START / 20 * first, levels, unit_noise(len(START)), **options)
    found = drive(run, MIXTURE.denoise) / scale(float(levels[-1]))
    # the ancestral step from 14.6 to 0.03 goes down to 6e-5, which their fp32 has to 10 % only
    assert (found - x).abs().max() < (5e-3 if ours == "dpm2_a" and steps == 2 else 1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_third_order_of_diffusers(monkeypatch, eta):
    """Its ODE form halves the quadratic term as k-diffusion does: the published `dpmpp_3m_sde`
    without noise. Its SDE form has (1 − e^−2h − 2h)/(2h)² − ½, near −1 for short steps, where the
    derivation gives −((e^−2h − 1 + 2h)/(2h)² − ½), near h/3: a sign is wrong, and we differ from it
    by far more than any rounding."""
    kind = "sde-dpmsolver++" if eta else "dpmsolver++"
    config = STABLE | MULTI | {"solver_order": 3, "solver_type": "heun", "algorithm_type": kind}
    theirs = diffusers.DPMSolverMultistepScheduler(**config)
    theirs.set_timesteps(20)
    noise = unit_noise(len(START))
    where = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_multistep")
    monkeypatch.setattr(where, "randn_tensor", lambda *args, **kwargs: noise(0, 0))
    levels = theirs.sigmas.double()
    first = float(levels[0])
    x = START / 20 * first / math.hypot(1, first)
    for t in theirs.timesteps:
        if theirs.step_index is None:
            theirs._init_step_index(t)
        sigma = float(levels[theirs.step_index])
        exact = x * math.hypot(1, sigma)
        x = theirs.step(
            (exact - MIXTURE.denoise(Query(exact, sigma, 0)).x0) / sigma, t, x
        ).prev_sample
    run = load("dpmpp_3m_sde")(START / 20 * first, levels, unit_noise(len(START)), eta=eta)
    apart = (drive(run, MIXTURE.denoise) - x).abs().max()
    assert apart > 0.05 if eta else apart < 1e-5


def test_plms_is_that_of_diffusers():
    """PNDMScheduler without its Runge-Kutta start: the same pseudo steps, in ᾱ."""
    theirs = diffusers.PNDMScheduler(
        **STABLE, skip_prk_steps=True, set_alpha_to_one=True, steps_offset=1
    )
    theirs.set_timesteps(10)
    times = [int(t) for t in theirs.timesteps]
    own = [
        times[0],
        *times[2:],
    ]  # theirs lists the second level twice: the first step's second question is there
    table = ((1 - theirs.alphas_cumprod.double()) / theirs.alphas_cumprod.double()).sqrt()
    levels = torch.cat((table[own], torch.zeros(1, dtype=torch.float64)))
    first = float(levels[0])
    found = drive(load("plms")(START / 20 * first, levels, silent), MIXTURE.denoise)
    x = START / 20 * first / math.hypot(1, first)
    for t in theirs.timesteps:
        sigma = float(table[int(t)])
        exact = x * math.hypot(1, sigma)
        x = theirs.step(
            (exact - MIXTURE.denoise(Query(exact, sigma, 0)).x0) / sigma, int(t), x
        ).prev_sample
    assert (found - x).abs().max() < 1e-5


def test_lcm_is_that_of_diffusers(monkeypatch):
    """With the boundary condition's c_skip 0 and c_out 1, which is what its timestep_scaling of 10
    leaves at these levels to 1e-4 of x."""
    theirs = diffusers.LCMScheduler(**STABLE, timestep_scaling=1e6)
    theirs.set_timesteps(4)
    table = ((1 - theirs.alphas_cumprod.double()) / theirs.alphas_cumprod.double()).sqrt()
    levels = torch.cat((table[theirs.timesteps], torch.zeros(1, dtype=torch.float64)))
    noise = unit_noise(len(START))
    where = importlib.import_module("diffusers.schedulers.scheduling_lcm")
    monkeypatch.setattr(where, "randn_tensor", lambda *args, **kwargs: noise(0, 0))
    first = float(levels[0])
    x = START / 20 * first / math.hypot(1, first)
    for t in theirs.timesteps:
        sigma = float(table[int(t)])
        exact = x * math.hypot(1, sigma)
        x = theirs.step(
            (exact - MIXTURE.denoise(Query(exact, sigma, 0)).x0) / sigma, t, x
        ).prev_sample
    found = drive(load("lcm")(START / 20 * first, levels, unit_noise(len(START))), MIXTURE.denoise)
    assert (found - x).abs().max() < 1e-5


def test_schedules_agree():
    """What makes the tables above the same thing."""
    assert torch.allclose(
        SD.alpha_bar, diffusers.DDIMScheduler(**STABLE).alphas_cumprod.double(), rtol=1e-5
    )


def test_a_fault_is_seen(k_diffusion):
    """A wrong sign, index or shared noise exceeds the tolerance by far: three of them, planted."""
    levels = grid(12, "zero")
    right = k_diffusion.sample_dpmpp_2m(network, START, levels, disable=True)

    def wrong_sign(query):
        x0 = MIXTURE.denoise(query).x0
        return Answer(2 * query.x / (1 + query.sigma) - x0)

    assert (drive(load("dpmpp_2m")(START, levels, silent), wrong_sign) - right).abs().max() > 1e-3
    shifted = torch.cat((levels[:1] * 1.001, levels[1:]))
    assert (
        drive(load("dpmpp_2m")(START, shifted, silent), MIXTURE.denoise) - right
    ).abs().max() > 1e-7
    noise, shared = unit_noise(len(START)), unit_noise(1)
    right = k_diffusion.sample_euler_ancestral(
        network, START, levels, disable=True, noise_sampler=noise
    )
    assert (
        drive(load("euler_a")(START, levels, shared), MIXTURE.denoise) - right
    ).abs().max() > 1e-3
