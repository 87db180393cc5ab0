"""A request → steps → pictures: same bits in any batch, guidance, settings in the file, errors with a remedy."""

import fakes
import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.api import Engine
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.errors import BadInput, UnknownName
from fromnoise.models.unet import Conditioning
from fromnoise.pipeline import images
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import prepare


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=3.0))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_has_the_same_bits_in_any_batch(engine, sampler):
    batch = engine.generate("a cat", seed=5, count=3, sampler=sampler)
    for i, picture in enumerate(batch):
        alone = engine.generate("a cat", seed=5 + i, sampler=sampler)
        assert picture.tobytes() == alone.tobytes()
        assert picture.info["parameters"] == alone.info["parameters"]
    assert batch[0].tobytes() != batch[1].tobytes()


def test_latents_are_equal_bit_for_bit_too(engine):
    *_, batch = engine.steps("a cat", seed=5, count=2)
    *_, alone = engine.steps("a cat", seed=6)
    assert torch.equal(batch.x[1:], alone.x)


def test_steps_tell_where_the_run_is(engine):
    run = list(engine.steps("a cat", seed=1, steps=5, sampler="heun"))
    assert [s.index for s in run] == list(range(5))
    assert {s.total for s in run} == {5}
    assert [s.sigma for s in run] == sorted((s.sigma for s in run), reverse=True)
    assert run[-1].sigma == 0
    assert torch.equal(run[-1].x, run[-1].x0)  # the last step of Heun lands on x0
    assert run[0].x.shape == (1, 4, 8, 8)


def test_given_latents_take_the_place_of_the_seeds(engine):
    from fromnoise.diffusion.noise import initial

    own = engine.generate("a cat", seed=3)
    given = engine.generate("a cat", latents=initial([3], (4, 8, 8)), seed=99)
    assert own.tobytes() == given.tobytes()
    with pytest.raises(BadInput, match="latents"):
        engine.generate("a cat", latents=torch.zeros(4, 4, 4))


def test_guidance(engine):
    """cfg 1 ignores the negative prompt, cfg 0 ignores the prompt, more of it changes the picture."""
    draw = lambda words, **settings: engine.generate(words, seed=1, **settings).tobytes()  # noqa: E731
    assert draw("a cat", cfg=1, negative_prompt="dog") == draw("a cat", cfg=1)
    assert draw("a cat", cfg=0, negative_prompt="dog") == draw("space", cfg=0, negative_prompt="dog")
    assert draw("a cat", cfg=2) != draw("a cat", cfg=8)
    assert draw("a cat", cfg=8, cfg_rescale=0.7) != draw("a cat", cfg=8)


def test_size_and_clipping(engine):
    picture = engine.generate("a cat", seed=1, width=48, height=16)
    assert picture.size == (48, 16)
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).expand(3, 1, 5)
    assert np.asarray(images.picture(values))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_binding_projects_the_text_once_and_changes_no_bit(engine):
    conditioning = Conditioning(torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(1)))
    x, t = torch.ones(2, 4, 8, 8), torch.tensor(7.5)
    step, maps = engine.unet.bind(conditioning), {}
    plain = step(x, t)
    assert torch.equal(plain, step(x, t, maps))  # looking never changes the picture
    assert maps
    with torch.inference_mode():
        direct = engine.model.unet(x.contiguous(memory_format=torch.channels_last), t, conditioning)
    assert torch.equal(plain, direct)


def test_bf16_is_near_fp32_and_named_in_the_plan(tmp_path):
    fast = Engine(fakes.model(tmp_path, steps=4, cfg=1.0), dtype="bf16")
    exact = Engine(fakes.model(tmp_path, steps=4, cfg=1.0))
    assert (fast.unet.plan, exact.unet.plan) == ("exact-cpu-bf16", "exact-cpu-fp32")
    *_, a = fast.steps("a cat", seed=1)
    *_, b = exact.steps("a cat", seed=1)
    # bf16 keeps 8 bits; some tens of layers in a row lose about two more
    assert (a.x - b.x).square().mean().sqrt() < 0.05 * b.x.std()


@pytest.mark.parametrize(("settings", "error", "said"), [
    ({"sampler": "eulr"}, UnknownName, "euler_a"),
    ({"spacing": "karas"}, UnknownName, "karras"),
    ({"width": 33}, BadInput, "multiple of 8"),
    ({"steps": 0}, BadInput, "steps"),
    ({"count": "many"}, BadInput, "count"),
    ({"seed": -1}, BadInput, "seed"),
    ({"eta": 1.0, "sampler": "euler"}, BadInput, "euler_a"),
    ({"stepz": 3}, UnknownName, "steps"),
])  # fmt: skip
def test_bad_settings_are_refused_with_a_remedy(engine, settings, error, said):
    with pytest.raises(error) as caught:
        engine.generate("a cat", **settings)
    assert said in str(caught.value)
    assert caught.value.remedy


def test_devices_and_dtypes_that_are_not_there_are_refused(engine):
    for device in ("abacus", "cuda:99"):
        with pytest.raises(BadInput):
            prepare(engine.model.unet, device)
    with pytest.raises(UnknownName, match="fp12"):
        prepare(engine.model.unet, dtype="fp12")


def test_what_is_left_open_the_model_decides(engine):
    request = GenerationRequest.of(prompt="a cat", sampler="DPM++ 2M").resolved(engine.model)
    assert (request.steps, request.cfg, request.width, request.height) == (4, 3.0, 32, 32)
    assert (request.sampler, request.spacing) == ("dpmpp_2m", "karras")
    assert request.seed is not None


def test_the_file_carries_its_settings(engine, tmp_path):
    picture = engine.generate("a cat, 你好", negative_prompt="dog", seed=7, sampler="euler_a", eta=0.5)
    images.save(picture, tmp_path / "deep" / "a.png")
    text = Image.open(tmp_path / "deep" / "a.png").info["parameters"]
    first, second, third = text.split("\n")
    assert (first, second) == ("a cat, 你好", "Negative prompt: dog")
    found = dict(item.split(": ", 1) for item in third.split(", "))
    assert found.items() >= {
        "Steps": "4", "Sampler": "Euler a", "Schedule type": "Karras", "CFG scale": "3", "Seed": "7",
        "Size": "32x32", "Eta": "0.5", "Plan": "exact-cpu-fp32",
    }.items()  # fmt: skip
    assert found["Version"].startswith("fromnoise ")


def test_words_that_do_not_fit_are_reported(engine):
    step = next(engine.steps("neon cat " * 20, steps=1))
    assert step.dropped[0].endswith("neon cat")
    assert step.dropped[1] == ""
