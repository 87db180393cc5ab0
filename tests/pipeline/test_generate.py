"""A request → steps → pictures: same bits in any batch, guidance, settings in the file, errors with
a remedy."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

import fakes
import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.api import Engine
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS
from fromnoise.errors import BadInput, NotFinite, UnknownName
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.images import to_picture
from fromnoise.pipeline.presets import PRESETS
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.saving import save_picture
from fromnoise.runtime.prepare import prepare


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=3.0))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_sampler_with_every_spacing(engine, sampler, spacing):
    """To a finite picture: the table of pairs has no hole."""
    *_, last = engine.steps("a cat", seed=1, steps=6, cfg=1.5, sampler=sampler, spacing=spacing)
    assert torch.isfinite(last.x).all()
    assert last.index == last.total - 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_has_the_same_bits_in_any_batch(engine, sampler):
    batch = engine.generate("a cat", seed=5, count=3, sampler=sampler)
    for i, picture in enumerate(batch):
        alone = engine.generate("a cat", seed=5 + i, sampler=sampler)
        assert picture.tobytes() == alone.tobytes()
        assert picture.info["parameters"] == alone.info["parameters"]
    assert batch[0].tobytes() != batch[1].tobytes()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sampler": "euler_a"},
        {"sampler": "dpm_adaptive"},
        {"sampler": "euler_cfg_pp"},
        {"cfg": 1.0},
        {"apg": True, "apg_momentum": -0.5},
        {"cfg_rescale": 0.7},
        {"skip_uncond_below": 5.0},
    ],
)
def test_the_batched_plan_draws_nearly_the_same(engine, settings):
    batched, rows = Engine(engine.model, batch=2), []
    hook = engine.model.unet.register_forward_hook(lambda module, given, out: rows.append(len(out)))
    *_, fast = batched.steps("a cat", seed=5, count=3, **settings)
    hook.remove()
    *_, exact = engine.steps("a cat", seed=5, count=3, **settings)
    if settings.get("sampler") != "dpm_adaptive":  # which takes every picture by itself
        assert max(rows) == (2 if settings.get("cfg") == 1 else 4)
    # fp32 sums in another order, 1e-6 a call, some 10 calls, a smooth network
    assert (fast.x - exact.x).abs().max() < 1e-4
    assert batched.unet.plan == "batch2-cpu-fp32"
    with pytest.raises(BadInput, match="batch"):
        prepare(engine.model.unet, batch=0)


def test_runs_side_by_side_draw_what_they_draw_alone(engine):
    """In threads, and taking turns in one: no run leaves anything behind that another would
    find."""
    asked = [
        {"seed": i, "sampler": s}
        for i, s in enumerate(("euler_a", "dpmpp_2m_sde", "unipc", "dpmpp_2m") * 2)
    ]
    serial = [engine.generate("a cat", **settings).tobytes() for settings in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda settings: engine.generate("a cat", **settings).tobytes(), asked)
        )
    assert together == serial
    turns = zip_longest(*(engine.steps("a cat", **settings) for settings in asked))
    *_, last = turns
    assert [engine.pictures(step.x)[0].tobytes() for step in last] == serial


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
    from fromnoise.diffusion.noise import Noise

    own = engine.generate("a cat", seed=3)
    given = engine.generate("a cat", latents=Noise([3], (4, 8, 8)).initial, seed=99)
    assert own.tobytes() == given.tobytes()
    with pytest.raises(BadInput, match="latents"):
        engine.generate("a cat", latents=torch.zeros(4, 4, 4))


def test_guidance(engine):
    """cfg 1 ignores the negative prompt, cfg 0 ignores the prompt, more of it changes the
    picture."""
    draw = lambda words, **settings: engine.generate(words, seed=1, **settings).tobytes()  # noqa: E731
    assert draw("a cat", cfg=1, negative_prompt="dog") == draw("a cat", cfg=1)
    assert draw("a cat", cfg=0, negative_prompt="dog") == draw(
        "space", cfg=0, negative_prompt="dog"
    )
    assert draw("a cat", cfg=2) != draw("a cat", cfg=8)
    assert draw("a cat", cfg=8, cfg_rescale=0.7) != draw("a cat", cfg=8)


def test_a_model_may_say_where_guidance_acts(engine, monkeypatch):
    draw = lambda **settings: engine.generate("a cat", seed=1, cfg=5, **settings)  # noqa: E731
    everywhere, below = draw(), draw(cfg_sigma_max=2)
    monkeypatch.setitem(engine.model.defaults, "cfg_sigma_max", 2.0)
    assert draw().tobytes() == below.tobytes()
    assert draw(cfg_sigma_max=math.inf).tobytes() == everywhere.tobytes()
    assert "CFG interval: 0 2," in draw().info["parameters"]
    assert (
        "CFG interval: 0 inf," in draw(cfg_sigma_max=math.inf).info["parameters"]
    )  # for whoever draws it again
    asked = GenerationRequest.of(cfg_sigma_max=math.inf)
    assert GenerationRequest.model_validate_json(asked.model_dump_json()) == asked  # inf, not null


def test_guidance_at_some_levels_only(engine):
    draw = lambda **settings: engine.generate("a cat", seed=1, **settings).tobytes()  # noqa: E731
    assert draw(cfg=5, cfg_sigma_min=99) == draw(cfg=1)  # above every level
    assert draw(cfg=5, cfg_sigma_min=0, cfg_sigma_max=99) == draw(cfg=5)
    assert draw(cfg=5, cfg_sigma_max=2.0) not in (draw(cfg=5), draw(cfg=1))
    assert draw(cfg=5, skip_uncond_below=99) not in (draw(cfg=5), draw(cfg=1))
    assert draw(cfg=5, skip_uncond_below=1e-9) == draw(cfg=5)
    assert draw(cfg=5, apg=True) != draw(cfg=5)
    batch = engine.generate("a cat", seed=1, cfg=5, apg=True, apg_momentum=-0.5, count=2)
    assert (
        batch[1].tobytes()
        == engine.generate("a cat", seed=2, cfg=5, apg=True, apg_momentum=-0.5).tobytes()
    )


def test_a_weaker_model_guides(engine, tmp_path):
    """Guided by itself, a network is not guided at all; the negative prompt has no say; another
    kind is refused."""
    model = engine.model
    own = Engine(fakes.model(tmp_path / "a", steps=4, cfg=3.0), guide=fakes.model(tmp_path / "b"))
    assert (
        own.generate("a cat", seed=1).tobytes() == engine.generate("a cat", seed=1, cfg=1).tobytes()
    )
    weaker = fakes.model(tmp_path / "c")
    fakes.randomize(weaker.unet, 99)
    guided = Engine(fakes.model(tmp_path / "d", steps=4, cfg=3.0), guide=weaker)
    picture = guided.generate("a cat", seed=1).tobytes()
    assert picture not in (
        own.generate("a cat", seed=1).tobytes(),
        engine.generate("a cat", seed=1).tobytes(),
    )
    assert guided.generate("a cat", seed=1, negative_prompt="dog").tobytes() == picture
    with pytest.raises(BadInput, match="another prediction"):
        Engine(model, guide=fakes.model(tmp_path / "e", prediction="eps"))


def test_states_of_unequal_length_are_repeated_not_padded(engine):
    """Attention over states that are there twice is attention over the states, to rounding."""
    context = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1))
    x, t = torch.ones(1, 4, 8, 8), torch.tensor(7.5)
    once, twice = (
        engine.unet.bind(Conditioning(c))(x, t) for c in (context, context.repeat(1, 2, 1))
    )
    padded = engine.unet.bind(Conditioning(torch.cat((context, context * 0), 1)))(x, t)
    assert (once - twice).abs().max() < 1e-5
    assert (once - padded).abs().max() > 1e-3


def spoil(network, value=math.nan):
    """Puts the value into one weight; gives what puts the old one back."""
    weight = list(network.parameters())[-1].data.view(-1)
    before = weight[0].clone()
    weight[0] = value
    return lambda: weight[0].copy_(before)


WAYS = {
    "generate": lambda e: e.generate("a cat", seed=1, count=2),
    "composed": lambda e: e.generate("a (cat:1.2) AND b", seed=1),
    "one by one": lambda e: e.generate("a cat", seed=1, sampler="dpm_adaptive"),
    "steps": lambda e: list(e.steps("a cat", seed=1)),
    "trace": lambda e: e.trace("a cat", seed=1),
    "edit": lambda e: e.edit(Image.new("RGB", (32, 32)), "a cat", seed=1),
    "hires": lambda e: e.hires("a cat", seed=1, hires_upscaler="lanczos"),
    "film": lambda e: e.film(["a cat", "a dog"], seed=1, frames=3),
    "blend": lambda e: e.blend(*[Image.new("RGB", (32, 32))] * 2, "a cat", seed=1),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("part", "said"),
    [("unet", "the network, at step 1,"), ("text_encoder", "the text encoder"), ("vae", "coder")],
)
def test_numbers_that_are_none_are_an_error_that_says_where(tmp_path, way, value, part, said):
    if way == "steps" and part == "vae":
        return  # nothing is decoded
    engine = Engine(fakes.model(tmp_path, steps=4, cfg=3.0))
    spoil(getattr(engine.model, part), value)
    with pytest.raises(NotFinite, match=said) as error:
        WAYS[way](engine)
    assert "train the model again" in error.value.remedy


def test_numbers_out_of_range_of_sound_weights_say_the_settings(engine, tmp_path):
    with pytest.raises(NotFinite, match="the network, at step 1,") as error:
        engine.generate("a (cat:" + "9" * 40 + ")", seed=1, dialect="comfy")
    assert "weights are sound" in error.value.remedy
    half = Engine(fakes.model(tmp_path, steps=4, cfg=1.0), dtype="fp16")
    spoil(half.model.unet, 6e4)
    half.model.unet.conv_out.weight.data.fill_(6e4)
    with pytest.raises(NotFinite, match="the network, at step 1,") as error:
        half.generate("a cat", seed=1)
    assert "--dtype bf16" in error.value.remedy


def test_a_step_in_the_middle_is_named(engine, monkeypatch):
    from fromnoise.models.unet import UNet

    forward, calls = UNet.forward, []

    def broken(self, *args):
        calls.append(1)
        return forward(self, *args) * (math.nan if len(calls) == 3 else 1)

    monkeypatch.setattr(UNet, "forward", broken)
    with pytest.raises(NotFinite, match="the network, at step 3,"):
        engine.generate("a cat", seed=1, sampler="euler")
    assert len(calls) == 3  # the run ends there


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_latents_that_are_no_numbers_are_refused(engine, value):
    latents = torch.zeros(4, 8, 8)
    latents[0, 0, 0] = value
    with pytest.raises(BadInput, match="latents hold NaN"):
        engine.generate("a cat", latents=latents)
    with pytest.raises(BadInput, match="of 2 pictures"):
        engine.generate("a cat", count=3, latents=torch.zeros(2, 4, 8, 8))


def test_randomness(engine):
    draw = lambda **settings: engine.generate("a cat", seed=1, **settings).tobytes()  # noqa: E731
    assert draw(rng="nv") != draw()
    assert draw(variation_seed=9, variation_strength=0) == draw()
    some = {"variation_strength": 0.3}
    assert draw(variation_seed=9, **some) not in (draw(), draw(variation_seed=8, **some))
    assert draw(eta_noise_seed_delta=31337) == draw()  # DPM++ 2M draws nothing in its steps
    assert draw(eta_noise_seed_delta=31337, sampler="euler_a") != draw(sampler="euler_a")
    assert draw(noise_scaling="sigma_max") != draw()
    varied = engine.generate("a cat", seed=1, variation_seed=9, variation_strength=0.5, count=2)
    assert varied[1].tobytes() == draw(variation_seed=10, variation_strength=0.5)
    assert "Seed: 1," in varied[1].info["parameters"]
    assert "Variation seed: 10, Variation seed strength: 0.5" in varied[1].info["parameters"]


def test_a_variation_can_be_that_of_a1111(engine):
    settings = {"seed": 1, "variation_seed": 2, "variation_strength": 0.3}
    ours = engine.generate("a cat", **settings)
    theirs = engine.generate("a cat", **settings, variation_blend="columns")
    assert ours.tobytes() != theirs.tobytes()
    assert "Variation blend: columns" in theirs.info["parameters"]
    assert "Variation blend" not in ours.info["parameters"]


def test_names_of_samplers_and_spacings(engine):
    def settled(**settings):
        request = GenerationRequest.of(prompt="a cat", **settings).resolve(engine.model)
        return request.sampler, request.spacing

    assert settled(sampler="DPM++ 2M SDE Exponential") == ("dpmpp_2m_sde", "exponential")
    assert settled(sampler="DPM++ 2M Karras", spacing="trailing") == ("dpmpp_2m", "trailing")
    assert settled(sampler="DPM++ 3M SDE", spacing="Automatic") == ("dpmpp_3m_sde", "exponential")
    assert settled(sampler="euler_ancestral", spacing="SGM Uniform") == ("euler_a", "sgm_uniform")
    label = engine.generate("a cat", seed=1, sampler="k_lms", spacing="sgm_uniform").info[
        "parameters"
    ]
    assert "Sampler: LMS, Schedule type: SGM Uniform" in label


def test_options_of_samplers_and_spacings(engine):
    draw = lambda **settings: engine.generate("a cat", seed=1, **settings).tobytes()  # noqa: E731
    assert draw(sampler="lms", sampler_options={"order": 1}) == draw(sampler="euler")
    assert draw(sampler="dpmpp_2m_sde", sampler_options={"solver": "heun"}) == draw(
        sampler="dpmpp_2m_sde_heun"
    )
    assert draw(sampler="euler_a", sampler_options={"eta": 0}) == draw(sampler="euler_a", eta=0)
    assert draw(spacing_options={"rho": 3.0}) != draw()
    assert draw(sampler="heun", s_churn=5.0) != draw(sampler="heun")
    assert draw(discard_penultimate=True) != draw()
    assert draw(sampler="dpm2") == draw(sampler="dpm2", discard_penultimate=True)  # as A1111


def test_size_and_clipping(engine):
    picture = engine.generate("a cat", seed=1, width=48, height=16)
    assert picture.size == (48, 16)
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).expand(3, 1, 5)
    assert np.asarray(to_picture(values))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


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


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"sampler": "eulr"}, UnknownName, "euler_a"),
        ({"spacing": "karas"}, UnknownName, "karras"),
        ({"width": 33}, BadInput, "multiple of 8"),
        ({"steps": 0}, BadInput, "steps"),
        ({"count": "many"}, BadInput, "count"),
        ({"seed": -1}, BadInput, "seed"),
        ({"eta": 1.0, "sampler": "euler"}, BadInput, "euler_a"),
        ({"stepz": 3}, UnknownName, "steps"),
        ({"s_churn": 1.0, "sampler": "dpmpp_2m"}, BadInput, "euler, heun"),
        ({"sampler": "lms", "sampler_options": {"order": "two"}}, BadInput, "order"),
        ({"sampler": "lms", "sampler_options": {"order": 9}}, BadInput, "1, 2, 3 or 4"),
        ({"sampler": "lms", "sampler_options": {"odrer": 2}}, BadInput, "its options: order"),
        ({"sampler": "euler_a", "eta": 1.0, "sampler_options": {"eta": 1.0}}, BadInput, "twice"),
        ({"spacing_options": {"rho": -1.0}}, BadInput, "rho"),
        ({"spacing_options": {"alpha": 1.0}}, BadInput, "its options"),
        ({"steps": 10**6}, BadInput, "1000"),
        ({"steps": float("nan")}, BadInput, "steps"),
        ({"cfg_sigma_min": 3.0, "cfg_sigma_max": 2.0}, BadInput, "interval"),
        ({"rng": "amd"}, BadInput, "rng"),
        ({"variation_strength": 1.5}, BadInput, "variation_strength"),
    ],
)
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
    request = GenerationRequest.of(prompt="a cat", sampler="DPM++ 2M").resolve(engine.model)
    assert (request.steps, request.cfg, request.width, request.height) == (4, 3.0, 32, 32)
    assert (request.sampler, request.spacing) == ("dpmpp_2m", "karras")
    assert request.seed is not None


def test_presets_decide_what_the_request_leaves_open(engine):
    request = GenerationRequest.of(prompt="a cat", preset="Lightning", steps=8).resolve(
        engine.model
    )
    assert (request.sampler, request.spacing, request.steps, request.cfg) == (
        "euler",
        "trailing",
        8,
        1.0,
    )
    for name in PRESETS:  # each names samplers and spacings that there are
        request = GenerationRequest.of(prompt="a cat", preset=name, seed=1).resolve(engine.model)
        assert request.model_dump().items() >= PRESETS[name].items()
    with pytest.raises(UnknownName, match="lcm_lora"):
        engine.generate("a cat", preset="fast lane")


def test_a_model_that_takes_its_scale_is_asked_once_a_step(tmp_path):
    parts = fakes.model(tmp_path, guidance_dim=12, sampler="lcm", steps=2)
    engine, rows = Engine(parts), []
    parts.unet.register_forward_hook(lambda module, given, out: rows.append(len(out)))
    one, other = (engine.generate("a cat", seed=1, cfg=scale).tobytes() for scale in (1.5, 8))
    assert rows == [1] * 4
    assert one != other
    for settings in ({"negative_prompt": "dog"}, {"sampler": "euler_cfg_pp"}):
        with pytest.raises(BadInput, match="distilled"):
            engine.generate("a cat", seed=1, **settings)


def test_the_file_carries_its_settings(engine, tmp_path):
    picture = engine.generate(
        "a cat, 你好", negative_prompt="dog", seed=7, sampler="euler_a", eta=0.5
    )
    save_picture(picture, tmp_path / "deep" / "a.png")
    with Image.open(tmp_path / "deep" / "a.png") as file:
        text = file.info["parameters"]
    first, second, third = text.split("\n")
    assert (first, second) == ("a cat, 你好", "Negative prompt: dog")
    found = dict(item.split(": ", 1) for item in third.split(", "))
    assert (
        found.items()
        >= {
            "Steps": "4",
            "Sampler": "Euler a",
            "Schedule type": "Karras",
            "CFG scale": "3",
            "Seed": "7",
            "Size": "32x32",
            "Eta": "0.5",
            "Plan": "exact-cpu-fp32",
        }.items()
    )
    assert found["Version"].startswith("fromnoise ")
