"""Flow models in folders and files: the shift of their levels, and the time that the network is
told, against diffusers."""

import json
import shutil

import diffusers
import fakes
import pytest
import torch

from fromnoise.checkpoints.convert import convert
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.checkpoints.hub import load_parts
from fromnoise.checkpoints.inspection import inspect
from fromnoise.diffusion.samplers import load as load_sampler
from fromnoise.diffusion.samplers.drive import drive
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.schedules import make_flow
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.denoiser import make_denoiser
from fromnoise.pipeline.generate import generate
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import prepare

SCHEDULER = "scheduler/scheduler_config.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A flow model of ours, its levels shifted by 3."""
    home = tmp_path_factory.mktemp("flow")
    schedule = make_flow(shift=3.0)
    own = {"sampler": "euler", "spacing": "simple"}
    model = fakes.model(home / "words", "flow", schedule, vision=False, **own)
    diffusers_folder_save.save(model, home / "model", torch.float32)
    return home / "model"


@pytest.fixture
def foreign(folder, tmp_path):
    """The same, as diffusers would write it: no fromnoise.json."""
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "fromnoise.json").unlink()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.save_pretrained(tmp_path / "m" / "scheduler")
    return tmp_path / "m"


def test_a_flow_model_is_saved_and_read_as_it_is(folder):
    model = load_parts(str(folder))
    assert model.prediction == "flow"
    assert torch.equal(model.schedule.alpha_bar, make_flow(shift=3.0).alpha_bar)
    request = GenerationRequest(prompt="a cat", seed=1, steps=3)
    assert generate(model, prepare(model.unet), request)[0].size == (32, 32)


def test_each_step_is_that_of_diffusers(foreign, monkeypatch):
    """Its Euler steps with our network told what it tells, against our sampler at its levels."""
    model = load_parts(str(foreign))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(foreign / "scheduler")
    scheduler.set_timesteps(8)
    unet, context = prepare(model.unet), torch.randn(1, 16, 16, generator=torch.manual_seed(0))
    step = unet.bind(Conditioning(context))
    noise = torch.randn(1, 4, 8, 8, generator=torch.manual_seed(1))
    # both start below s = 1, whose sigma is infinite: ours begins at 4096 there
    x = noise * float(scheduler.sigmas[1])
    scheduler.set_begin_index(1)
    for t in scheduler.timesteps[1:]:
        x = scheduler.step(step(x, t), t, x).prev_sample
    s = scheduler.sigmas[1:].double()
    answer = make_denoiser(unet, model.schedule, model.prediction, Conditioning(context))
    levels = s / (1 - s)
    ours = drive(load_sampler("euler")(noise * float(levels[0]), levels, None), answer)
    rms = float(x.square().mean().sqrt())
    assert float((ours - x).abs().max()) < 1e-4 * rms  # 7 steps of fp32
    # a planted fault: the network is told the timestep of the table
    monkeypatch.setattr(NoiseSchedule, "find_time", lambda own, s: own.sigma_to_t(s).float())
    answer = make_denoiser(unet, model.schedule, model.prediction, Conditioning(context))
    wrong = drive(load_sampler("euler")(noise * float(levels[0]), levels, None), answer)
    assert float((wrong - x).abs().max()) > 1e-3 * rms


def test_its_own_steps_are_refused_until_a_sampler_is_named(foreign):
    model = load_parts(str(foreign))
    with pytest.raises(BadCheckpoint, match="FlowMatchEulerDiscreteScheduler") as error:
        GenerationRequest.of(prompt="a cat").resolve(model)
    assert "--sampler" in error.value.remedy
    assert GenerationRequest.of(prompt="a cat", sampler="euler").resolve(model).sampler == "euler"


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_a_flow_model_predicts_nothing_else(foreign, prediction):
    with pytest.raises(BadCheckpoint, match=f"cannot predict {prediction}"):
        load_parts(str(foreign), prediction=prediction)
    with pytest.raises(BadInput, match=f"cannot predict {prediction}"):
        convert(foreign, foreign.with_suffix(".safetensors"), "single-file", prediction=prediction)


def test_a_model_can_be_told_to_be_one(tmp_path):
    model = fakes.model(tmp_path / "words", "eps", vision=False)
    diffusers_folder_save.save(model, tmp_path / "m", torch.float32)
    told = load_parts(str(tmp_path / "m"), prediction="flow")
    assert (told.prediction, told.schedule.kind) == ("flow", "flow")
    with pytest.raises(BadCheckpoint, match="flow models"):
        GenerationRequest.of(prompt="a cat").resolve(told)


def test_inspect_says_it(folder, foreign):
    for path in (folder, foreign):
        assert inspect(path).family.prediction == "flow"


def test_other_classes_are_flow_models_where_they_say_so(foreign):
    index = json.loads((foreign / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "UniPCMultistepScheduler"]
    (foreign / "model_index.json").write_text(json.dumps(index))
    kind = diffusers.UniPCMultistepScheduler
    told = kind(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0)
    told.save_pretrained(foreign / "scheduler")
    model = load_parts(str(foreign))
    assert torch.equal(model.schedule.alpha_bar, make_flow(shift=2.0).alpha_bar)
    kind(prediction_type="flow_prediction").save_pretrained(foreign / "scheduler")
    with pytest.raises(BadCheckpoint, match="prediction_type"):
        load_parts(str(foreign))
