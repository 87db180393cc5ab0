"""Sigma spacings against diffusers' timesteps, published formulas, and bad input."""

import inspect
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler  # pyright: ignore
from diffusers.schedulers import AysSchedules, scheduling_euler_discrete  # pyright: ignore

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.schedules import (
    make_cosine,
    make_flow,
    make_linear,
    rescale_zero_terminal_snr,
)
from fromnoise.diffusion.spacing import SPACINGS, find, load, make_sigmas
from fromnoise.diffusion.spacings.beta import distribution, quantile
from fromnoise.errors import BadInput, UnknownName

# diffusers passes torch's tensors to NumPy functions, and they lack parts of NumPy 2's protocol.
# Both causes are in other packages.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context and return_scalar"),
]

SD = NoiseSchedule.scaled_linear()
SD_CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
TABLE = SD.sigmas.numpy()
# diffusers keeps ᾱ in float32: its rounding grows over 1000 products, and 1 − ᾱ loses digits at t =
# 0
FP32 = 2e-5
WAYS = [
    *((name, {}) for name in SPACINGS),
    ("beta", {"of": "timestep"}),
    ("align_your_steps", {"family": "sdxl"}),
]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50, 999])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("offset", [0, 1])
def test_timesteps_of_diffusers(spacing, offset, steps):
    theirs = DDIMScheduler(timestep_spacing=spacing, steps_offset=offset, **SD_CONFIG)
    theirs.set_timesteps(steps)
    ours = make_sigmas(
        SD, steps, spacing, **({"steps_offset": offset} if spacing == "leading" else {})
    )
    assert ours.shape == (steps + 1,)
    assert ours.dtype == torch.float64
    assert float(ours[-1]) == 0
    assert torch.allclose(
        SD.sigma_to_t(ours[:-1]), theirs.timesteps.double(), atol=1e-8
    )  # a log divided by its small step


@pytest.mark.parametrize(
    "steps", [2, 3, 7, 20, 50, 1000]
)  # at 1 diffusers starts at t = 0, we at T − 1
def test_linspace_of_diffusers(steps):
    theirs = EulerDiscreteScheduler(timestep_spacing="linspace", **SD_CONFIG)
    theirs.set_timesteps(steps)
    assert torch.allclose(
        SD.sigma_to_t(make_sigmas(SD, steps, "linspace")[:-1]), theirs.timesteps.double(), atol=1e-4
    )  # float32 t


@pytest.mark.parametrize("steps", [2, 3, 20, 50])
@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_sigmas_of_diffusers(spacing, steps):
    theirs = EulerDiscreteScheduler(**SD_CONFIG, **{f"use_{spacing}_sigmas": True})
    theirs.set_timesteps(steps)
    # diffusers takes the ends of the run from its linspace, which are the ends of the table
    assert torch.allclose(make_sigmas(SD, steps, spacing), theirs.sigmas.double(), rtol=FP32)


@pytest.mark.parametrize("steps", [1, 8, 20])
def test_final_sigma_of_diffusers(steps):
    theirs = EulerDiscreteScheduler(
        timestep_spacing="trailing", final_sigmas_type="sigma_min", **SD_CONFIG
    )
    theirs.set_timesteps(steps)
    assert torch.allclose(
        make_sigmas(SD, steps, "trailing", "first"), theirs.sigmas.double(), rtol=FP32
    )


@pytest.mark.parametrize("steps", [2, 3, 20, 50])
def test_beta_of_diffusers(steps, monkeypatch):
    ppf = SimpleNamespace(
        stats=SimpleNamespace(beta=SimpleNamespace(ppf=quantile))
    )  # instead of scipy
    monkeypatch.setattr(scheduling_euler_discrete, "scipy", ppf, raising=False)
    monkeypatch.setattr(scheduling_euler_discrete, "is_scipy_available", lambda: True)
    theirs = EulerDiscreteScheduler(use_beta_sigmas=True, **SD_CONFIG)
    theirs.set_timesteps(steps)
    assert torch.allclose(make_sigmas(SD, steps, "beta"), theirs.sigmas.double(), rtol=FP32)


def test_karras_is_equation_5():
    i = np.arange(10)
    exact = (80 ** (1 / 7) + i / 9 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    ours = make_sigmas(SD, 10, "karras", sigma_min=0.002, sigma_max=80)
    assert ours[:-1].numpy() == pytest.approx(exact, rel=1e-12)
    straight = make_sigmas(SD, 9, "karras", "none", sigma_min=1, sigma_max=10, rho=1)
    assert straight.tolist() == pytest.approx(list(range(10, 0, -1)), rel=1e-14)


def test_exponential_has_one_ratio():
    ours = make_sigmas(SD, 4, "exponential", "none", sigma_min=0.01, sigma_max=100)
    assert ours.tolist() == pytest.approx([100, 10, 1, 0.1, 0.01], rel=1e-13)


@pytest.mark.parametrize("rho", [0.5, 1, 3])
def test_polyexponential_of_k_diffusion(rho):
    ramp = np.linspace(1, 0, 12) ** rho
    exact = np.exp(ramp * (np.log(10) - np.log(0.1)) + np.log(0.1))
    ours = make_sigmas(SD, 12, "polyexponential", sigma_min=0.1, sigma_max=10, rho=rho)
    assert ours[:-1].numpy() == pytest.approx(exact, rel=1e-13)
    if rho == 1:
        even = make_sigmas(SD, 12, "exponential", sigma_min=0.1, sigma_max=10)
        assert torch.allclose(ours, even, rtol=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20, 1000])
def test_uniform_spacings_of_k_diffusion(steps):
    def at(times):
        return np.exp(np.interp(times, np.arange(1000), np.log(TABLE)))

    # the last digits of the interpolation weights and of exp
    assert make_sigmas(SD, steps, "uniform")[:-1].numpy() == pytest.approx(
        at(np.linspace(999, 0, steps)), rel=1e-12
    )
    exact = at(np.linspace(999, 0, steps + 1)[:-1])
    assert make_sigmas(SD, steps, "sgm_uniform")[:-1].numpy() == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 8, 10])
def test_kl_optimal_is_theorem_3_1(steps):
    i, low, high = np.arange(steps + 1), np.arctan(TABLE[0]), np.arctan(TABLE[-1])
    exact = np.tan(i / steps * low + (1 - i / steps) * high)
    # tan near π/2 loses the digits of sigma², 2e2 here
    assert make_sigmas(SD, steps, "kl_optimal", "none").numpy() == pytest.approx(exact, rel=1e-13)
    assert make_sigmas(SD, steps + 1, "kl_optimal")[:-1].numpy() == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("steps", [1, 3, 7, 20, 1000])
def test_simple_of_a1111(steps):
    stride = 1000 / steps
    assert make_sigmas(SD, steps, "simple")[:-1].tolist() == [
        TABLE[999 - int(i * stride)] for i in range(steps)
    ]


@pytest.mark.parametrize(
    ("steps", "times"),
    [
        (20, range(951, 0, -50)),
        (1, [1]),
        (3, [667, 334, 1]),
        (7, range(995, 0, -142)),  # 142 = 1000 // 7: an eighth level fits
        (600, range(999, 0, -1)),
        (1000, range(999, 0, -1)),
    ],
)
def test_ddim_of_a1111(steps, times):
    assert make_sigmas(SD, steps, "ddim")[:-1].tolist() == [TABLE[t] for t in times]


@pytest.mark.parametrize("steps", [2, 3, 8, 21])
def test_linear_quadratic_is_a_line_and_a_parabola(steps):
    line = steps // 2
    # a i² + b i + c is 0.1 at the end of the line, has its slope there, and is 1 at the end
    rows = [[line**2, line, 1], [2 * line, 1, 0], [steps**2, steps, 1]]
    parabola = np.linalg.solve(np.array(rows, float), [0.1, 0.1 / line, 1])
    i = np.arange(steps + 1)
    drop = np.where(i < line, i * 0.1 / line, np.polyval(parabola, i))
    ours = make_sigmas(SD, steps, "linear_quadratic", threshold_noise=0.1)
    assert ours.numpy() == pytest.approx(
        TABLE[-1] * (1 - drop), rel=1e-12, abs=1e-12
    )  # the linear solver's digits
    assert float(make_sigmas(SD, 20, "linear_quadratic")[10]) == pytest.approx(
        TABLE[-1] * 0.975, rel=1e-14
    )


@pytest.mark.parametrize(
    ("p", "a", "b", "x"),  # 40 digits of mpmath's betainc, inverted by bisection
    [
        (0.001, 0.6, 0.6, 1.8558738517452004e-05),
        (0.05, 0.6, 0.6, 0.012554456873611407),
        (0.25, 0.6, 0.6, 0.175680378652695),
        (0.5, 0.6, 0.6, 0.5),
        (0.9, 0.6, 0.6, 0.9604155944112192),
        (0.999, 0.6, 0.6, 0.9999814412614826),
        (0.001, 2.0, 5.0, 0.008255492787746678),
        (0.5, 2.0, 5.0, 0.26444998329565994),
        (0.999, 2.0, 5.0, 0.818613866919134),
        (0.001, 0.3, 4.5, 1.676508534903546e-11),
        (0.9, 0.3, 4.5, 0.19138230630663766),
        (0.05, 30.0, 20.0, 0.48476661000264243),
        (0.999, 30.0, 20.0, 0.7942598290955106),
    ],
)
def test_quantiles_of_the_beta_distribution(p, a, b, x):
    # 1e-13: 1 − I_x(b, a) keeps 1e-16 of 1, divided by a density as low as 1e-2
    assert quantile(p, a, b) == pytest.approx(x, rel=1e-13)
    assert distribution(x, a, b) == pytest.approx(p, rel=1e-12)  # the lgammas of 50 cost 3 digits
    assert quantile(1 - p, b, a) == pytest.approx(1 - x, abs=1e-13)


@pytest.mark.parametrize("p", [0, 1e-4, 0.05, 1 / 3, 0.5, 0.7, 0.99, 1])
def test_quantiles_known_in_closed_form(p):
    assert quantile(p, 0.5, 0.5) == pytest.approx(
        np.sin(np.pi * p / 2) ** 2, rel=1e-13
    )  # arcsine distribution
    for k in (0.2, 1, 3):
        assert quantile(p, k, 1) == pytest.approx(p ** (1 / k), rel=1e-13)
        assert quantile(p, 1, k) == pytest.approx(
            1 - (1 - p) ** (1 / k), rel=1e-11, abs=1e-16
        )  # 1 − … cancels


@pytest.mark.parametrize("steps", [1, 2, 20, 300])
def test_beta_of_sigmas_and_of_timesteps(steps):
    ours = make_sigmas(SD, steps, "beta", alpha=0.5, beta=0.5)[:-1]
    p = 1 - np.linspace(0, 1, steps)
    exact = TABLE[0] + np.sin(np.pi * p / 2) ** 2 * (TABLE[-1] - TABLE[0])
    assert ours.numpy() == pytest.approx(exact, rel=1e-12)
    p = 1 - np.linspace(0, 1, steps, endpoint=False)
    exact = np.round(
        np.sin(np.pi * p / 2) ** 2 * 999, 9
    )  # so that the tie at p = 1/2, 499.5, is one here too
    times = np.unique(np.rint(exact).astype(int))[::-1]
    assert (
        len(times) < steps if steps == 300 else len(times) == steps
    )  # 300 leave equal neighbours, which are skipped
    ours = make_sigmas(SD, steps, "beta", alpha=0.5, beta=0.5, of="timestep")
    assert ours.tolist() == [*TABLE[times], 0]


@pytest.mark.parametrize(
    ("family", "theirs"), [("sd15", "StableDiffusionSigmas"), ("sdxl", "StableDiffusionXLSigmas")]
)
def test_align_your_steps(family, theirs):
    published = [*AysSchedules[theirs][:-1], 0.029]  # diffusers has the 0 in the place of sigma_min
    ours = make_sigmas(SD, 10, "align_your_steps", "none", family=family)
    assert ours.tolist() == pytest.approx(published, rel=1e-14)  # exp of log
    assert make_sigmas(SD, 11, "align_your_steps", family=family).tolist() == pytest.approx(
        [*published, 0], rel=1e-14
    )
    ours = make_sigmas(SD, 10, "align_your_steps", family=family, discard_penultimate=True)
    assert ours.tolist() == pytest.approx(AysSchedules[theirs], rel=1e-14)
    for steps in (1, 4, 7, 40):
        even = np.interp(np.linspace(0, 10, steps), np.arange(11), np.log(published))
        ours = make_sigmas(SD, steps, "align_your_steps", family=family)
        assert ours[:-1].numpy() == pytest.approx(np.exp(even), rel=1e-13)


@pytest.mark.parametrize(("spacing", "options"), WAYS)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_discard_penultimate(spacing, options, steps):
    longer, ours = (
        make_sigmas(SD, n, spacing, discard_penultimate=n == steps, **options).tolist()
        for n in (steps + 1, steps)
    )
    assert ours == [*longer[:-2], 0]
    if spacing != "ddim":
        assert len(ours) == steps + 1


def test_discard_penultimate_with_other_ends():
    longer = make_sigmas(SD, 9, "kl_optimal", "none").tolist()
    assert make_sigmas(SD, 8, "kl_optimal", "none", discard_penultimate=True).tolist() == [
        *longer[:-2],
        longer[-1],
    ]
    # linspace's own last level is where "first" ends: with it gone, there is a step to go
    assert make_sigmas(SD, 8, "linspace", "first", discard_penultimate=True).tolist() == [
        *make_sigmas(SD, 9, "linspace")[:-2].tolist(),
        TABLE[0],
    ]
    with pytest.raises(BadInput, match="without steps"):
        make_sigmas(make_linear(T=2), 1, "ddim", discard_penultimate=True)


def test_final():
    assert float(make_sigmas(SD, 20, "leading", "first", steps_offset=1)[-1]) == float(SD.sigmas[0])
    assert len(make_sigmas(SD, 20, "karras", "none")) == 21
    assert float(make_sigmas(SD, 20, "karras", "none")[-1]) == pytest.approx(
        float(SD.sigmas[0]), rel=1e-13
    )
    with pytest.raises(BadInput, match="is not below the run"):
        make_sigmas(SD, 20, "leading", "first")
    assert torch.equal(
        make_sigmas(SD, 20, "karras", "last"), make_sigmas(SD, 20, "karras", "zero")[:-1]
    )


def test_distilled_visits_timesteps_of_the_distillation_alone():
    times = SD.sigma_to_t(make_sigmas(SD, 4, "distilled")[:-1]).round().tolist()
    assert times == [999, 759, 499, 259]  # as diffusers' LCMScheduler with 4 steps
    with pytest.raises(BadInput, match="51 steps are more than the 50"):
        make_sigmas(SD, 51, "distilled")


@pytest.mark.parametrize(("spacing", "options"), WAYS)
@pytest.mark.parametrize(
    "schedule", [SD, rescale_zero_terminal_snr(SD), make_flow(), make_cosine()]
)
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20, 50, 500, 1000])
def test_every_spacing_on_every_schedule_decreases_to_zero(spacing, options, schedule, steps):
    if spacing == "distilled":  # never more steps than it was distilled at
        options = {"original_steps": max(steps, 50)}
    ours = make_sigmas(schedule, steps, spacing, **options)
    assert bool(torch.isfinite(ours).all() and (ours.diff() < 0).all())
    assert float(ours[-1]) == 0
    if spacing not in (
        "leading",
        "ddim",
        "align_your_steps",
    ):  # these start below the schedule's end, as documented
        assert float(ours[0]) == pytest.approx(float(schedule.sigmas[-1]), rel=1e-12)
    if options.get("of") == "timestep":
        assert len(ours) <= steps + 1
    elif spacing != "ddim":
        assert len(ours) == steps + 1


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [0, -3, float("nan"), 2.5, "20", True, None])
def test_bad_steps(spacing, steps):
    with pytest.raises(BadInput, match="steps") as error:
        make_sigmas(SD, steps, spacing)
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
        *(("karras", 5, {"rho": rho}) for rho in (-1, float("inf"), 1001)),
        ("karras", 5, {"rho": 1e-3}),  # 14.6 to the power 1000 overflows
        ("karras", 5, {"rho": 1e-3, "sigma_min": 1e-3, "sigma_max": 1}),  # and 0.001 to it is 0
        (
            "karras",
            5,
            {"sigma_min": 1, "sigma_max": 1 + 1e-15},
        ),  # no room for five levels in float64
        *(("polyexponential", 5, {"rho": rho}) for rho in (0, -1, float("nan"), float("inf"), 1e4)),
        (
            "polyexponential",
            5,
            {"rho": 1000},
        ),  # 0.75 to the power 1000 is lost beside log sigma_min
        *(("kl_optimal", 5, {"sigma_min": low}) for low in (0, -1, float("nan"), float("inf"), 15)),
        *(
            ("beta", 5, {k: v})
            for k in ("alpha", "beta")
            for v in (0, -1, float("nan"), float("inf"), 1e3)
        ),
        ("beta", 5, {"alpha": 0.011}),  # 0.25 to the power 1 / 0.011 is lost beside sigma_min
        ("beta", 1001, {"of": "timestep"}),
        *(
            ("linear_quadratic", 5, {"threshold_noise": v})
            for v in (0, -1, float("nan"), float("inf"), 1, 0.9)
        ),
        ("simple", 1001, {}),
        ("ddim", 1001, {}),
        ("sgm_uniform", 1001, {}),
        ("align_your_steps", 10_001, {}),
        ("karras", 10_001, {}),
        ("leading", 5, {"steps_offset": -1}),
        ("leading", 5, {"steps_offset": float("nan")}),
    ],
)
def test_bad_options(spacing, steps, options):
    with pytest.raises(BadInput) as error:
        make_sigmas(SD, steps, spacing, **options)
    assert error.value.remedy


@pytest.mark.parametrize(("spacing", "options"), WAYS)
def test_a_million_steps_are_refused(spacing, options):
    with pytest.raises(BadInput, match=r"1000000 (steps|noise levels)"):
        make_sigmas(SD, 10**6, spacing, **options)


@pytest.mark.parametrize(
    "spacing", ["karras", "kl_optimal", "align_your_steps", "linear_quadratic"]
)
def test_ten_thousand_steps_are_not(spacing):
    ours = make_sigmas(SD, 10_000, spacing)
    assert len(ours) == 10_001
    assert bool((ours.diff() < 0).all())


@pytest.mark.parametrize("entry", SPACINGS.values(), ids=SPACINGS)
def test_entries_say_what_the_functions_are(entry):
    parameters = inspect.signature(load(entry.name)).parameters.values()
    assert entry.options == tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    for name in (entry.name, entry.label, *entry.aliases):
        assert find(name) is entry
        assert find(name.upper().replace(" ", "-").replace("_", " ")) is entry


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Karras", "karras"),
        ("SGM Uniform", "sgm_uniform"),
        ("SGMUniform", "sgm_uniform"),
        ("kl-optimal", "kl_optimal"),
        ("ddim_uniform", "ddim"),
        ("Uniform", "linspace"),
        ("Normal", "linspace"),
        ("AYS", "align_your_steps"),
    ],
)
def test_find(name, found):
    assert find(name).name == found
    assert torch.equal(make_sigmas(SD, 5, name), make_sigmas(SD, 5, found))


def test_unknown_names():
    with pytest.raises(UnknownName, match="did you mean 'karras'"):
        make_sigmas(SD, 20, "karas")
    with pytest.raises(UnknownName, match="zero, first, none, last"):
        make_sigmas(SD, 20, "karras", "end")
    with pytest.raises(UnknownName, match="karras, exponential") as error:
        find("automatic")
    assert all(name in error.value.remedy for name in SPACINGS)
    with pytest.raises(UnknownName, match="sd15, sdxl"):
        make_sigmas(SD, 20, "align_your_steps", family="sd3")
    with pytest.raises(UnknownName, match="sigma, timestep"):
        make_sigmas(SD, 20, "beta", of="snr")


def test_listing_names_imports_no_torch():
    code = (
        "import sys; from fromnoise.diffusion import samplers, spacing; "
        "spacing.find('Uniform'); samplers.find('Heun');"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
