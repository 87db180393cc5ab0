"""What a request costs: estimated before the first step, refused above a limit, never for usual
work."""

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import fakes
import pytest
import torch
from PIL import Image

from fromnoise.api import Engine
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import TextEncoder
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig
from fromnoise.pipeline.conditioning.cost import LIMIT, estimate_cost
from fromnoise.pipeline.request import GenerationRequest


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=3.0, sampler="euler"))


@pytest.fixture(scope="module")
def sdxl(engine):
    """A model of SDXL's sizes: configurations alone, since nothing is drawn."""
    unet = UNetConfig(
        block_out_channels=(320, 640, 1280),
        attention=(False, True, True),
        heads=(5, 10, 20),
        context_dim=2048,
        transformer_depth=(6,),
        sample_size=128,
    )
    bigger = CLIPTextConfig(dim=1280, layers=32, heads=20, mlp_dim=5120, projection_dim=1280)
    configs = {"unet": unet, "vae": VAEConfig(sample_size=1024)}
    configs |= {"text_encoder": CLIPTextConfig(), "text_encoder_2": bigger}
    weights = [torch.zeros(1)]  # they say the device
    parts = {
        name: SimpleNamespace(config=config, parameters=lambda: iter(weights))
        for name, config in configs.items()
    }
    encoders = tuple(
        TextEncoder(parts.pop(name), engine.model.tokenizer, 2, False)  # pyright: ignore
        for name in ("text_encoder", "text_encoder_2")
    )
    return replace(engine.model, **parts, text_encoders=encoders, defaults={"steps": 30})  # pyright: ignore


def cost(model, prompt="a cat", **settings):
    return estimate_cost(
        model, GenerationRequest.of(prompt=prompt, seed=1, **settings).resolve(model)
    )


def count_calls(engine, draw) -> list[tuple[int, int]]:
    """(rows, tokens) of every call of the network."""
    calls = []
    hook = engine.model.unet.register_forward_pre_hook(
        lambda module, args: calls.append((len(args[0]), args[2].context.shape[1]))
    )
    try:
        draw()
    finally:
        hook.remove()
    return calls


def test_the_unit_is_a_default_picture(engine):
    assert cost(engine.model).pictures == pytest.approx(1)
    assert cost(engine.model, count=7).pictures == pytest.approx(7, rel=0.01)  # one prompt is read
    assert cost(engine.model, steps=8).pictures == pytest.approx(2, rel=0.2)  # decoded once
    assert cost(engine.model, cfg=1.0).pictures == pytest.approx(0.5, rel=0.2)
    assert cost(engine.model, "a cat AND a dog AND x").pictures == pytest.approx(2, rel=0.2)
    assert cost(engine.model, sampler="heun").pictures == pytest.approx(2, rel=0.2)
    assert cost(engine.model, width=128, height=128).pictures > 16  # attention is quadratic
    assert cost(engine.model, "neon cat " * 200).pictures > 1


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        ("a cat", {"count": 3}),
        ("a cat", {"sampler": "heun", "steps": 3}),
        ("a (cat) AND b :0.5 AND c", {"negative_prompt": "neon cat " * 20}),
        ("neon cat " * 20, {"cfg": 1.0}),
        ('("a", "b c").and()', {"dialect": "compel"}),
        ("(neon cat) " * 20, {"dialect": "comfy", "count": 2}),
        ("[a cat|neon cat neon cat neon cat neon cat]", {"steps": 5}),
    ],
)
def test_the_estimate_counts_the_calls_that_are_made(engine, prompt, settings):
    """Heun's last step asks once, which is not counted."""
    settings = {"steps": 4, "seed": 1} | settings
    calls = count_calls(engine, lambda: engine.generate(prompt, **settings))
    estimate = cost(engine.model, prompt, **{k: v for k, v in settings.items() if k != "seed"})
    rows = sum(rows for rows, _ in calls)
    spare = settings.get("sampler") == "heun"
    assert estimate.calls == rows + 2 * spare
    assert estimate.tokens == max(tokens for _, tokens in calls)


GREAT = [
    ("a cat AND " * 1999, {"count": 4}),
    ("a AND " * 3000, {}),
    ("a cat", {"width": 8192, "height": 8192}),
    ("a cat", {"count": 1000, "steps": 1000}),
    ("a cat", {"count": 1000, "sampler": "heun"}),
    ("a cat MASK(0 0.5) AND " * 800, {"count": 5}),
    ("(" + '"a",' * 4000 + '"b").and()', {"dialect": "compel", "count": 100}),
    ("(a)", {"count": 1000, "steps": 5}),
    ("(a)", {"count": 1000, "sampler": "dpm_adaptive"}),
]


@pytest.mark.parametrize(("prompt", "settings"), GREAT)
def test_what_costs_too_much_is_refused_at_once_with_its_figure(engine, prompt, settings):
    begun = time.process_time()
    calls = []
    with pytest.raises(BadInput) as error:
        calls = count_calls(engine, lambda: engine.generate(prompt, seed=1, **settings))
    assert not calls
    assert time.process_time() - begun < 5  # 4,000 texts are read; a run takes minutes
    figure = cost(engine.model, prompt, **settings).pictures
    assert f"{figure:,.0f} default pictures" in error.value.message
    assert f"--max-cost {math.ceil(figure)}" in error.value.remedy


def test_a_limit_of_ones_own(engine):
    with pytest.raises(BadInput, match=r"limit is 0\.5"):
        engine.generate("a cat", max_cost=0.5)
    with pytest.raises(BadInput, match="limit is 3"):
        engine.generate("a (cat)", seed=1, count=4, max_cost=3)
    one = engine.generate("a (cat)", seed=1, steps=1, count=2, max_cost=math.inf)
    assert (
        one[0].info == engine.generate("a (cat)", seed=1, steps=1).info
    )  # no setting of a picture


@pytest.mark.parametrize(
    "draw",
    [
        lambda e: e.edit(Image.new("RGB", (32, 32)), "a cat", seed=1, max_cost=0.1),
        lambda e: e.hires("a cat", seed=1, max_cost=3, hires_scale=4),
        lambda e: e.hires("a cat", seed=1, hires_scale=8, hires_steps=100, count=16),
        lambda e: e.blend(*[Image.new("RGB", (32, 32))] * 2, "a cat", seed=1, max_cost=0.1),
        lambda e: e.film(["a cat", "a dog"], seed=1, frames=100_000),
        lambda e: e.film(["a cat", "neon cat " * 99], seed=1, frames=24, max_cost=10),
        lambda e: e.trace("a cat", seed=1, max_cost=0.1),
        lambda e: next(e.steps("a cat", seed=1, max_cost=0.1)),
    ],
)
def test_every_way_of_drawing_has_the_limit(engine, draw):
    with pytest.raises(BadInput, match=r"default pictures|GiB"):
        assert not count_calls(engine, lambda: draw(engine))


def test_memory_has_a_limit_too(sdxl, monkeypatch):
    from fromnoise.pipeline.conditioning import cost as costs

    request = GenerationRequest.of(prompt="a cat", width=8192, height=8192).resolve(sdxl)
    assert costs.estimate_cost(sdxl, request).memory > 50 * 2**30
    monkeypatch.setattr(costs, "find_memory", lambda device: 16 * 2**30)
    request = request.model_copy(update={"max_cost": 1e9})
    with pytest.raises(BadInput, match="GiB of memory"):
        costs.check_cost(sdxl, request, ["a cat"])
    costs.check_cost(sdxl, request.model_copy(update={"max_cost": math.inf}), ["a cat"])


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        ("a cat", {"steps": 50, "count": 16}),
        (" AND ".join(["a cat in space"] * 10), {"steps": 50, "count": 16}),
        (" AND ".join(["a cat in space"] * 10), {"width": 1536, "height": 1536, "count": 4}),
        ("a (cat:1.2) in space, " * 60, {"steps": 50, "count": 16, "sampler": "heun"}),
        ("[a|b|c] " * 50, {"steps": 150}),
        ('("a cat", "a dog").blend(1, 0.5)', {"dialect": "compel", "count": 16, "steps": 50}),
    ],
)
def test_usual_work_is_never_refused(sdxl, prompt, settings):
    estimate = cost(sdxl, prompt, **settings)
    assert estimate.pictures < LIMIT
    assert estimate.memory < 16 * 2**30


def test_usual_work_on_a_small_model(engine):
    """Each alone, on a model of 32 pixels: 16 times its side, 50 steps, 100 pictures, 10 parts."""
    for prompt, settings in (
        ("a cat", {"width": 256, "height": 256}),
        ("a cat", {"steps": 50, "count": 16}),
        ("a cat", {"count": 1000}),
        (" AND ".join(["a cat"] * 10), {"count": 16, "steps": 50}),
    ):
        assert cost(engine.model, prompt, **settings).pictures <= LIMIT * 1.001


@pytest.mark.parametrize("dialect", ["a1111", "comfy", "compel"])
def test_a_negative_prompt_of_another_length_costs_no_more(engine, dialect):
    """The longest prompt beside a shorter negative one: not more rows × tokens, in all calls and in
    the largest, than two of the longest. (1.5 × the memory and 2 × the time are the bars.)"""
    long = "neon " * 3999 + "cat"
    settings = {"seed": 1, "steps": 1, "dialect": dialect, "max_cost": math.inf}
    equal = count_calls(engine, lambda: engine.generate(long, negative_prompt=long, **settings))
    for negative in ("cat", long[:-90]):
        calls = count_calls(
            engine, lambda text=negative: engine.generate(long, negative_prompt=text, **settings)
        )
        assert sum(r * t for r, t in calls) <= sum(r * t for r, t in equal)
        assert max(r * t for r, t in calls) <= max(r * t for r, t in equal)


def test_unequal_lengths_are_attended_to_exactly(engine):
    """Three blocks and two: shown apart, as repeated to six (the bits of before, to rounding)."""
    from fromnoise.diffusion.samplers.base import Query
    from fromnoise.models.conditioning import Conditioning
    from fromnoise.pipeline.conditioning.weights import encode_weighted, repeat_to_equal_length
    from fromnoise.pipeline.denoiser import make_denoiser
    from fromnoise.prompt.tree import Chunk

    model = engine.model
    long, short = (encode_weighted(model, (Chunk("neon cat " * n),)).context for n in (20, 12))
    assert (long.shape[1], short.shape[1]) == (3 * 16, 2 * 16)
    query = Query(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), 2.0, 0)

    def ask(prompt, negative):
        parts = (model.schedule, model.prediction, Conditioning(prompt), Conditioning(negative))
        return make_denoiser(engine.unet, *parts, always=True)(query)

    apart, together = ask(long, short), ask(*repeat_to_equal_length([long, short]).split(1))
    assert torch.allclose(apart.x0, together.x0, atol=1e-5)  # fp32 sums in another order
    assert torch.allclose(apart.x0_uncond, together.x0_uncond, atol=1e-5)
    assert not torch.allclose(apart.x0, apart.x0_uncond, atol=1e-2)


def test_a_prompt_that_changes_every_step_keeps_few_states(engine):
    prompt = "[" + "|".join(f"neon {i}" for i in range(1800)) + "]"
    calls = count_calls(engine, lambda: engine.generate(prompt, seed=1, steps=40))
    assert len(calls) == 40


def test_contexts_of_coprime_length_stay_short():
    from fromnoise.pipeline.conditioning.weights import repeat_to_equal_length

    a, b = torch.arange(2.0)[None, :, None], torch.arange(3.0)[None, :, None]
    assert repeat_to_equal_length([a, b])[..., 0].tolist() == [[0, 1] * 3, [0, 1, 2] * 2]
    long, short = torch.zeros(1, 97, 1), torch.zeros(1, 89, 1)
    assert repeat_to_equal_length([long, short]).shape == (2, 97, 1)
