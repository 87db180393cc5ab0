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

from fromnoise.checkpoints.configs import Fields
from fromnoise.checkpoints.formats import diffusers_configs, diffusers_scheduler
from fromnoise.checkpoints.formats.diffusers_scheduler import CLASSES, complete
from fromnoise.diffusion.brownian import BrownianNoise
from fromnoise.diffusion.noise import Noise
from fromnoise.pipeline import generate
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
    if hasattr(where, "randn_tensor"):
        monkeypatch.setattr(
            where, "randn_tensor", lambda *args, **kwargs: next(drawn).unsqueeze(0).double()
        )
    if hasattr(where, "BrownianTreeNoiseSampler"):
        source = lambda *args: lambda *levels: next(drawn).unsqueeze(0)  # noqa: E731
        monkeypatch.setattr(where, "BrownianTreeNoiseSampler", source)
    network = Network(model.schedule, model.prediction)
    context = generate.encode_texts(model, [prompt, ""])[0].context
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
