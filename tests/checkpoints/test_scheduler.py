"""Every class and option of a folder's scheduler: the picture of diffusers' own scheduler, or a
refusal by name."""

import importlib
import inspect
import itertools
import json
import logging
import math
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache

import diffusers
import fakes
import pytest
import torch

from fromnoise.checkpoints.configs import Fields, read_json
from fromnoise.checkpoints.formats import diffusers_configs, diffusers_scheduler
from fromnoise.checkpoints.formats.diffusers_scheduler import complete
from fromnoise.checkpoints.formats.scheduler_classes import CLASSES, MENDED, RULES, SHARED
from fromnoise.diffusion.brownian import BrownianNoise
from fromnoise.diffusion.noise import Noise
from fromnoise.errors import BadCheckpoint
from fromnoise.pipeline import generate
from fromnoise.pipeline.provenance import infotext
from fromnoise.pipeline.provenance.fields import to_request
from fromnoise.pipeline.provenance.write import write_infotext
from fromnoise.pipeline.request import GenerationRequest

logging.getLogger("diffusers").setLevel(logging.ERROR)
SHAPE = (4, 8, 8)
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
WEIGHTS = torch.randn(16, 256, generator=torch.Generator().manual_seed(3)).double()
# the root mean square of the difference, in that of the latents: diffusers computes its tables in
# fp32, whose rounding is a few 1e-6 where sigma is small
TOLERANCE = 2e-5


class Network:
    """What stands in the U-Net's place: the exact answer for a mixture of two Gaussians in each
    value of the latents, whose places the prompt says. It depends on the time that it is told, and
    on nothing of the scheduler."""

    batch, plan, digest = 1, "formula", ""
    device = torch.device("cpu")

    def __init__(self, schedule, prediction):
        self.logs = schedule.log_sigmas
        self.prediction = prediction

    def answer(self, context, x, t):
        """context (B, N, 16), x (B, 4, 8, 8) as the network is shown it."""
        t = float(t)
        low = min(max(int(t), 0), len(self.logs) - 2)
        share = min(max(t - low, 0.0), 1.0)
        sigma = math.exp(float(torch.lerp(self.logs[low], self.logs[low + 1], share)))
        root = math.hypot(1, sigma)
        mean = (context.double().mean(1) @ WEIGHTS).view(-1, *SHAPE)
        noisy = x.double() * root
        total, width = sigma**2 + 0.25, 0.4
        x0 = (noisy * 0.25 + mean * sigma**2) / total
        x0 = x0 + (width * sigma**2 / total) * torch.tanh(width * (noisy - mean) / total)
        eps = (noisy - x0) / sigma
        v = (eps - sigma * x0) / root
        return {"eps": eps, "v": v, "x0": x0}[self.prediction].to(x.dtype)

    def bind(self, conditioning):
        return lambda x, t, *record: self.answer(conditioning.context, x, t)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The rest of the model, whose text encoder runs once for each pair of texts."""
    model, encode, known = fakes.model(tmp_path_factory.mktemp("m"), "eps", vision=False), None, {}

    def look_up(_, texts):
        if tuple(texts) not in known:
            known[tuple(texts)] = encode(model, texts)
        return known[tuple(texts)]

    with pytest.MonkeyPatch.context() as patch:
        encode = generate.encode_texts
        patch.setattr(generate, "encode_texts", look_up)
        yield model


def read(parts, config):
    """The model of a folder with this scheduler."""
    fields = complete(Fields("scheduler_config.json", config))
    schedule, prediction = diffusers_configs.read_scheduler(fields)
    defaults = diffusers_scheduler.read_defaults(fields, schedule)
    changes = {"schedule": schedule, "prediction": prediction, "defaults": defaults}
    return replace(parts, **changes, configs={"scheduler": config})


def draw_here(model, steps, prompt, cfg, latents, noises, monkeypatch, **settings):
    drawn = iter(noises)
    for kind in (Noise, BrownianNoise):
        monkeypatch.setattr(kind, "__call__", lambda *args: next(drawn).unsqueeze(0))
    monkeypatch.setattr(BrownianNoise, "announce", lambda *args: None)
    network = Network(model.schedule, model.prediction)
    request = GenerationRequest.of(prompt=prompt, steps=steps, cfg=cfg, seed=1, **settings)
    request = request.model_copy(update={"width": 32, "height": 32})
    *_, last = generate.run_steps(model, network, request, latents)
    return last.x.double()


@lru_cache(1)  # two classes take seconds to be made
def make_scheduler(text):
    config = json.loads(text)
    return getattr(diffusers, config["_class_name"]).from_config(config)


def draw_there(model, config, steps, prompt, cfg, latents, noises, monkeypatch):
    """As a pipeline of diffusers drives its scheduler."""
    kind = getattr(diffusers, config["_class_name"])
    scheduler = deepcopy(make_scheduler(json.dumps(config)))  # some change themselves as they run
    where = importlib.import_module(kind.__module__)
    drawn = iter(noises)
    tau = getattr(scheduler, "tau_func", lambda t: 1)  # it draws where it has no use for it too

    def draw(*args, **kwargs):
        noise = next(drawn) if tau(t) else torch.zeros(SHAPE)
        return noise.unsqueeze(0).double()

    if hasattr(where, "randn_tensor"):
        monkeypatch.setattr(where, "randn_tensor", draw)
    if hasattr(where, "BrownianTreeNoiseSampler"):
        source = lambda *args: lambda *levels: next(drawn).unsqueeze(0)  # noqa: E731
        monkeypatch.setattr(where, "BrownianTreeNoiseSampler", source)
    network = Network(model.schedule, model.prediction)
    context = generate.encode_texts(model, [prompt, ""]).context
    eta = {"eta": 0.0} if "eta" in inspect.signature(scheduler.step).parameters else {}
    scheduler.set_timesteps(steps)
    x = latents.double().unsqueeze(0) * float(scheduler.init_noise_sigma)
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, t)
        shown, unlike = network.answer(context, shown.repeat(2, 1, 1, 1), t).chunk(2)
        x = scheduler.step(unlike + cfg * (shown - unlike), t, x, **eta).prev_sample
    return x.double()


def measure(found, expected):
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@pytest.fixture(scope="module")
def drawn():
    """(latents, the noises of a run), the same on both sides."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(SHAPE, generator=generator), torch.randn(99, *SHAPE, generator=generator)


def vary(name, *more, **choices):
    """(class, options) of every combination of the choices, and of each of `more`."""
    for values in itertools.product(*choices.values()) if choices else ():
        yield name, dict(zip(choices, values, strict=True))
    for options in more:
        yield name, options


PLACES = ("leading", "linspace", "trailing")
ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
KARRAS, EXPONENTIAL, BETA = (
    {f"use_{kind}_sigmas": True} for kind in ("karras", "exponential", "beta")
)
V, SAMPLE = {"prediction_type": "v_prediction"}, {"prediction_type": "sample"}
LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
TRAINED = {"trained_betas": [0.001 + 0.00002 * i for i in range(500)], "num_train_timesteps": 500}
TRAILING, LEADING = {"timestep_spacing": "trailing"}, {"timestep_spacing": "leading"}
MIN = {"final_sigmas_type": "sigma_min"}
DPMPP, DPM = {"algorithm_type": "dpmsolver++"}, {"algorithm_type": "dpmsolver"} | MIN
SDEPP, SDE = {"algorithm_type": "sde-dpmsolver++"}, {"algorithm_type": "sde-dpmsolver"} | MIN


def cases():
    """Every class, and every option that it honours: in every combination where options meet, else
    alone."""
    alphas = {"set_alpha_to_one": (True, False)}
    yield from vary(
        "DDIM",
        V,
        SAMPLE,
        LINEAR,
        TRAINED,
        LEADING | {"steps_offset": 0},
        timestep_spacing=PLACES,
        **alphas,
    )
    yield from vary("DDIM", *({"timestep_spacing": place} | ZERO_SNR for place in PLACES))
    yield "DDIMParallel", V | TRAILING
    yield from vary("DDPM", V, ZERO_SNR | TRAILING, timestep_spacing=PLACES)
    yield "DDPMParallel", V | TRAILING
    yield from vary(
        "PNDM",
        {"steps_offset": 0},
        {"steps_offset": 0} | V,
        timestep_spacing=PLACES,
        skip_prk_steps=(True, False),
        prediction_type=("epsilon", "v_prediction"),
        **alphas,
    )
    yield from vary("LCM", {}, V, SAMPLE, ZERO_SNR, {"original_inference_steps": 40})
    yield from vary("TCD", {}, V, ZERO_SNR, {"original_inference_steps": 40})
    yield from vary("EulerAncestralDiscrete", V, ZERO_SNR | TRAILING, timestep_spacing=PLACES)
    ranged = KARRAS | {"sigma_min": 0.1, "sigma_max": 10.0}
    for name in ("EulerDiscrete", "HeunDiscrete", "LMSDiscrete", "DPMSolverSDE"):
        ramps = ({}, KARRAS, EXPONENTIAL, BETA)
        yield from vary(name, V, *({"timestep_spacing": p} | r for p in PLACES for r in ramps))
    yield from vary("EulerDiscrete", SAMPLE, TRAINED, ranged, BETA | {"sigma_min": 0.1} | TRAILING)
    yield from vary("EulerDiscrete", *(ZERO_SNR | r for r in ({}, TRAILING, KARRAS, EXPONENTIAL)))
    yield from vary("HeunDiscrete", SAMPLE, LEADING | {"steps_offset": 0} | KARRAS)
    for name in ("KDPM2Discrete", "KDPM2AncestralDiscrete"):
        yield from vary(name, V, EXPONENTIAL, BETA | TRAILING, timestep_spacing=PLACES)
    for name in ("DPMSolverMultistep", "DEISMultistep", "UniPCMultistep"):
        yield from vary(name, V, SAMPLE, LINEAR, TRAINED, timestep_spacing=PLACES)
        yield from vary(name, KARRAS, EXPONENTIAL, BETA, KARRAS | LEADING, ranged)
    finals = vary("", lower_order_final=(True, False), euler_at_final=(True, False))
    for (_, final), order in itertools.product(finals, (1, 2, 3)):
        yield "DPMSolverMultistep", MIN | final | {"solver_order": order}
    for order, solver in itertools.product((1, 2, 3), ("midpoint", "heun")):
        more = {"solver_order": order, "solver_type": solver}
        for name in ("DPMSolverMultistep", "DPMSolverSinglestep"):
            yield from vary(name, *(kind | more for kind in (DPMPP, SDEPP, SDEPP | MIN, DPM)))
        if order < 3:
            yield "DPMSolverMultistep", SDE | more
    yield from vary(
        "DPMSolverMultistep",
        KARRAS | MIN,
        {"use_lu_lambdas": True},
        DPMPP | KARRAS | MIN,
        ZERO_SNR | TRAILING,
        {"lambda_min_clipped": -math.inf},
        {"lambda_min_clipped": -5.1},
        {"solver_type": "bh2"},
        {"algorithm_type": "deis"} | MIN,
        ranged | MIN,
    )
    yield from vary("DPMSolverSinglestep", {}, V, KARRAS, EXPONENTIAL, BETA, TRAINED)
    for order, lower in itertools.product((1, 2, 3), (True, False)):
        more = {"solver_order": order, "lower_order_final": lower}
        yield from vary("DEISMultistep", more, more | KARRAS)
        yield "DPMSolverSinglestep", more | MIN
    yield from vary(
        "UniPCMultistep",
        ZERO_SNR | TRAILING,
        {"disable_corrector": [0, 1]},
        *({"solver_order": order} for order in (1, 2, 3)),
    )
    yield from vary("SASolver", V, SAMPLE, timestep_spacing=PLACES)
    for predictor, corrector in ((1, 1), (2, 3), (3, 4), (4, 2)):
        yield "SASolver", {"predictor_order": predictor, "corrector_order": corrector}
    yield "SASolver", {"corrector_order": 3, "lower_order_final": False}
    for order, kind, x0, lower in itertools.product(
        (1, 2, 3), ("bh1", "bh2"), (True, False), (True, False)
    ):
        more = {"solver_order": order, "solver_type": kind, "predict_x0": x0}
        yield "UniPCMultistep", MIN | more | {"lower_order_final": lower}


def make_config(name, options):
    usual = {"clip_sample": False, "steps_offset": 1}
    known = CLASSES[f"{name}Scheduler"]
    stable = {} if "trained_betas" in options else SD
    config = {k: v for k, v in (usual | stable).items() if k in known} | options
    return {"_class_name": f"{name}Scheduler"} | config


def name_case(case):
    name, options = case
    short = {k: "…" if isinstance(v, list) and len(v) > 9 else v for k, v in options.items()}
    return f"{name} {', '.join(f'{k}={v}' for k, v in short.items())}"


# diffusers calls numpy's older way of making arrays, and tells that dpmsolver will go
@pytest.mark.filterwarnings("ignore:__array_", "ignore:.*algorithm_type")
@pytest.mark.parametrize("case", list(cases()), ids=name_case)
def test_the_folders_scheduler_draws_the_picture_of_diffusers(parts, drawn, case, monkeypatch):
    config = make_config(*case)
    model = read(parts, config)
    for steps in (8, 20, 27):
        found = draw_here(model, steps, "a cat", 5.0, *drawn, monkeypatch)
        expected = draw_there(model, config, steps, "a cat", 5.0, *drawn, monkeypatch)
        assert measure(found, expected) < TOLERANCE, steps
        if steps == 8:
            other = draw_there(model, config, steps, "neon space", 3.0, *drawn, monkeypatch)
            assert measure(other, expected) > 1e-2


# what a run would be without one thing that a class asks for, and a case that shows it
FAULTS = [
    ("DPMSolverMultistep", {}, {"discard_penultimate": False}),
    ("DPMSolverMultistep", KARRAS, {"timesteps": "exact"}),
    ("DPMSolverMultistep", EXPONENTIAL, {"timesteps": "rounded"}),
    ("EulerDiscrete", {}, {"noise_scaling": "unit"}),
    ("EulerDiscrete", KARRAS | LEADING, {"ends": None}),
    ("KDPM2Discrete", {}, {"discard_penultimate": True}),
    ("DDIM", TRAILING, {"stride": False}),
    ("DDIM", ZERO_SNR | TRAILING, {"spacing_options": {}}),
    ("DDIM", {"set_alpha_to_one": False}, {"final_sigma": "zero"}),
    ("PNDM", V, {"sampler_options": {"start": "runge_kutta"}}),
    ("PNDM", {}, {"sampler_options": {}}),
    ("SASolver", {}, {"sampler_options": {"predictor": 2, "corrector": 2}}),
    ("LCM", {}, {"spacing": "trailing", "spacing_options": {}}),
    ("DEISMultistep", {}, {"sampler_options": {"order": 2}}),
    ("DEISMultistep", {"solver_order": 3}, {"few": {}}),
    ("UniPCMultistep", {}, {"sampler_options": {"order": 3}}),
    ("UniPCMultistep", {"disable_corrector": [0, 1]}, {"sampler_options": {"variant": "bh2"}}),
]


@pytest.mark.filterwarnings("ignore:__array_")
@pytest.mark.parametrize(("name", "options", "fault"), FAULTS)
def test_a_run_without_one_of_the_settings_is_another_picture(
    parts, drawn, name, options, fault, monkeypatch
):
    config = make_config(name, options)
    model = read(parts, config)
    model.defaults["scheduler"] |= fault
    steps = 27 if "stride" in fault else 8  # 8 divides 1000: no stride misses
    found = draw_here(model, steps, "a cat", 5.0, *drawn, monkeypatch)
    expected = draw_there(model, config, steps, "a cat", 5.0, *drawn, monkeypatch)
    assert measure(found, expected) > 2 * TOLERANCE


@pytest.mark.parametrize("name", CLASSES)
def test_the_fields_of_a_class_are_those_of_diffusers(name):
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    theirs = {key: value.default for key, value in parameters.items() if key != "self"}
    # no class without a ramp reads these, though diffusers keeps them from another's file
    extra = {"sigma_min": None, "sigma_max": None} if "use_karras_sigmas" in theirs else {}
    if "PNDM" not in name and "steps_offset" in theirs:
        extra |= {"steps_offset": 0}
    assert CLASSES[name] == extra | theirs
    for field, value in CLASSES[name].items():
        unread = ("_range", "_ratio", "_value", "_shift", "_type", "_seed")
        if field in SHARED or (field.endswith(unread) and field not in RULES):
            continue  # read elsewhere, or only with an option that is refused
        assert field in RULES or field in (
            "disable_corrector",
            "solver_p",
            "shift_terminal",
            "tau_func",
        )
        if value is not None and field in RULES:
            assert RULES[field].admits(value), field


SAID = [  # what cannot be honoured, and the field that is named
    ("DDIM", {"clip_sample": True}, "clip_sample"),
    ("DDIM", {"thresholding": True}, "thresholding"),
    ("DDPM", {"variance_type": "learned_range"}, "variance_type"),
    ("DDPM", {"variance_type": "fixed_large"}, "variance_type"),
    ("EulerDiscrete", {"interpolation_type": "log_linear"}, "interpolation_type"),
    ("EulerDiscrete", {"timestep_type": "continuous"} | V, "timestep_type"),
    ("EulerDiscrete", MIN, "final_sigmas_type"),
    ("EulerDiscrete", KARRAS | BETA, "use_beta_sigmas"),
    ("EulerAncestralDiscrete", SAMPLE, "prediction_type"),
    ("KDPM2Discrete", KARRAS, "use_karras_sigmas"),
    ("LCM", {"timestep_scaling": 0.1}, "timestep_scaling"),
    ("LCM", {"original_inference_steps": 2000}, "original_inference_steps"),
    ("DPMSolverMultistep", {"algorithm_type": "dpmsolver"}, "algorithm_type"),
    ("DPMSolverMultistep", SDE | {"solver_order": 3}, "algorithm_type"),
    ("DPMSolverMultistep", {"lambda_min_clipped": -1.0}, "lambda_min_clipped"),
    ("DPMSolverMultistep", {"use_flow_sigmas": True}, "use_flow_sigmas"),
    ("DPMSolverMultistep", {"use_dynamic_shifting": True}, "use_dynamic_shifting"),
    ("DPMSolverMultistep", {"variance_type": "learned"}, "variance_type"),
    ("DPMSolverMultistep", KARRAS | MIN | {"solver_order": 3}, "final_sigmas_type"),
    ("DPMSolverSinglestep", KARRAS | MIN, "final_sigmas_type"),
    ("UniPCMultistep", {"predict_x0": False}, "predict_x0"),
    ("UniPCMultistep", {"lower_order_final": False}, "lower_order_final"),
    ("UniPCMultistep", {"solver_p": {"a": 1}}, "solver_p"),
    ("UniPCMultistep", {"disable_corrector": ["x"]}, "disable_corrector"),
    ("UniPCMultistep", {"shift_terminal": 0.1}, "shift_terminal"),
    ("UniPCMultistep", KARRAS | MIN, "final_sigmas_type"),
    ("SASolver", KARRAS, "use_karras_sigmas"),
    ("SASolver", {"tau_func": "t"}, "tau_func"),
    ("SASolver", {"algorithm_type": "noise_prediction"}, "algorithm_type"),
    ("SASolver", TRAINED, "num_train_timesteps"),
]


@pytest.mark.parametrize(("name", "options", "field"), SAID)
def test_a_field_that_is_not_honoured_is_refused_by_name_once_it_matters(
    parts, name, options, field
):
    model = read(parts, make_config(name, options))  # no refusal: only the defaults need the field
    for settings in ({}, {"spacing": "karras"}, {"steps": 5, "eta": 0.5}):
        with pytest.raises(BadCheckpoint) as error:
            GenerationRequest.of(prompt="a cat", **settings).resolve(model)
        assert error.value.message.startswith(f"scheduler_config.json, {field} = ")
        assert "--sampler" in error.value.remedy
    for settings in ({"sampler": "dpmpp_2m"}, {"preset": "fast"}):
        request = GenerationRequest.of(prompt="a cat", **settings).resolve(model)
        assert request.sampler == "dpmpp_2m"


def test_an_unknown_class_waits_for_a_sampler(parts):
    model = read(parts, SD | {"_class_name": "NextYearScheduler"})
    with pytest.raises(BadCheckpoint, match="_class_name = NextYearScheduler") as error:
        GenerationRequest.of(prompt="a cat").resolve(model)
    assert "--sampler" in error.value.remedy
    request = GenerationRequest.of(prompt="a cat", sampler="Euler a").resolve(model)
    assert (request.sampler, request.spacing) == ("euler_a", "linspace")


@pytest.mark.parametrize(
    "name",
    [
        "EDMEuler",
        "EDMDPMSolverMultistep",
        "FlowMatchHeunDiscrete",
        "IPNDM",
    ],
)
def test_a_class_with_a_noise_of_its_own_kind_is_refused_at_once(name):
    own = dict(getattr(diffusers, f"{name}Scheduler")().config)
    config = {"_class_name": f"{name}Scheduler"} | own
    with pytest.raises(BadCheckpoint, match=f"no noise schedule .* {name}Scheduler"):
        diffusers_scheduler.read(Fields("scheduler_config.json", config))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_value_of_another_type_is_refused_at_once(rule):
    name = next(name for name in CLASSES if rule.key in CLASSES[name])
    low = () if rule.low < 0 else (-7,)
    for value in ([], {}, "no such word", *low):
        config = {"_class_name": name, rule.key: value}
        with pytest.raises(BadCheckpoint, match=rule.key):
            diffusers_scheduler.read(Fields("scheduler_config.json", config))


def test_the_index_says_the_class_and_its_pipeline_mends_the_file():
    config = SD | {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "clip_sample": True}
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DDIMScheduler"]}
    *_, defaults = diffusers_scheduler.read(Fields("x", config), Fields("y", index))
    assert defaults["scheduler"]["sampler"] == "ddim"
    assert defaults["scheduler"]["spacing_options"] == {"steps_offset": 1}
    index["_class_name"] = "StableDiffusionXLPipeline"  # it takes the file at its word
    *_, defaults = diffusers_scheduler.read(Fields("x", config), Fields("y", index))
    assert "clip_sample = True" in defaults["scheduler"]["refused"][0]


def test_what_the_pipelines_of_diffusers_mend_is_mended_here():
    for name, changes in MENDED.items():
        pipeline = getattr(diffusers, name)
        source = inspect.getsource(pipeline.__init__)
        assert {
            key
            for key in ("steps_offset", "clip_sample", "skip_prk_steps")
            if f'new_config["{key}"]' in source
        } == changes.keys()


def test_fields_of_other_classes_change_nothing():
    config = SD | {"_class_name": "LMSDiscreteScheduler"}
    others = {"clip_sample": True, "solver_order": 3, "rescale_betas_zero_snr": True, "new": [1]}
    one, other = (diffusers_scheduler.read(Fields("x", c)) for c in (config, config | others))
    assert one[1:] == other[1:]
    assert torch.equal(one[0].alpha_bar, other[0].alpha_bar)


def test_minus_infinity_is_a_number_as_diffusers_writes_it(tmp_path):
    scheduler = diffusers.DPMSolverMultistepScheduler(**SD)
    scheduler.save_pretrained(tmp_path)
    fields = read_json(tmp_path / "scheduler_config.json")
    assert fields.values["lambda_min_clipped"] == -math.inf
    assert diffusers_scheduler.read(fields)[2]["scheduler"]["sampler"] == "dpmpp_2m"


def test_what_a_request_says_itself_wins(parts):
    model = read(parts, make_config("DPMSolverMultistep", KARRAS | SDEPP))
    request = GenerationRequest.of(prompt="", eta=0.3).resolve(model)
    assert (request.sampler, request.options) == ("dpmpp_2m_sde", {"eta": 0.3})
    assert (request.spacing, request.timesteps) == ("karras", "rounded")
    own = GenerationRequest.of(prompt="", spacing="trailing").resolve(model)
    assert (own.sampler, own.spacing, own.timesteps) == ("dpmpp_2m_sde", "trailing", "exact")
    ranged = GenerationRequest.of(prompt="", spacing_options={"rho": 5.0}).resolve(model)
    assert (ranged.spacing, ranged.spacing_options) == ("karras", {"rho": 5.0})
    other = GenerationRequest.of(prompt="", sampler="euler").resolve(model)
    assert (other.spacing, other.timesteps, other.sampler_options) == ("linspace", "exact", {})
    assert request.resolve(model) == request
    # the command line gives every field that has a default
    usual = {name: field.default for name, field in GenerationRequest.model_fields.items()}
    whole = GenerationRequest.of(**{k: v for k, v in usual.items() if v is not None}, eta=0.3)
    update = {"seed": 1, "variation_seed": None}
    assert whole.resolve(model).model_copy(update=update) == request.model_copy(update=update)


@pytest.mark.parametrize(
    "case",
    [
        ("DDIM", TRAILING | {"set_alpha_to_one": False}),
        ("EulerDiscrete", KARRAS | LEADING),
        ("DPMSolverMultistep", KARRAS),
        ("UniPCMultistep", {"disable_corrector": [0, 1]}),
        ("PNDM", V),
        ("LCM", {}),
        ("DEISMultistep", KARRAS),
    ],
)
def test_the_infotext_draws_the_same_on_any_model(parts, case):
    model = read(parts, make_config(*case))
    request = GenerationRequest.of(prompt="a cat", seed=1, width=32, height=32).resolve(model)
    text = write_infotext(model, request, 0, "exact")
    given, _ = to_request(infotext.parse(text))
    plain = replace(model, defaults={})
    assert GenerationRequest.of(**given).resolve(plain) == request
