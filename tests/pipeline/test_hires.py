"""Two passes, enlarging finished pictures, and drawing both again from what the files say."""

import random

import fakes
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from fromnoise.api import Engine
from fromnoise.checkpoints.formats import upscaler as formats
from fromnoise.diffusion import samplers
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.samplers.drive import drive
from fromnoise.errors import BadInput, NotFound, UnknownName
from fromnoise.models.rrdb import RRDBNet
from fromnoise.pipeline import decoding, pictures
from fromnoise.pipeline.encoding import encode_picture
from fromnoise.pipeline.enlarging import hires as two
from fromnoise.pipeline.enlarging import upscale
from fromnoise.pipeline.enlarging.request import HiresRequest
from fromnoise.pipeline.generate import build_denoiser, prepare_noise
from fromnoise.pipeline.generate import run_steps as one_pass
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.provenance import infotext
from fromnoise.pipeline.provenance.read import read_settings
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.saving import save_picture

SAID = {"Model", "Model hash", "Plan", "Version", "Torch", "Threads"}  # what no request takes


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(
        fakes.model(
            tmp_path_factory.mktemp("words"), steps=5, cfg=2.0, sampler="euler", spacing="karras"
        )
    )


def network_file(path, seed=0, doublings=1):
    network = RRDBNet(4, 1, 4, doublings)
    fakes.randomize(network, seed)
    save_file(network.state_dict(), path)
    return path


def noisy(width=32, height=32, seed=0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    )


def test_the_second_pass_takes_all_its_steps_at_the_end_of_a_longer_run(engine):
    """A1111: hires_steps steps, the last ones of int(hires_steps / strength) of them; counted
    through for who looks."""
    seen = []
    picture = engine.hires("a cat", seed=1, hires_steps=3, hires_strength=0.4, watch=seen.append)
    assert picture.size == (64, 64)
    assert [(s.index, s.total) for s in seen] == [(i, 8) for i in range(8)]
    assert [s.x.shape[-1] for s in seen] == [8] * 5 + [16] * 3
    request = GenerationRequest.of(seed=1, steps=7).resolve(engine.model)
    ends = [float(s) for s in prepare_noise(engine.model, request, [1])[0]]
    assert [s.sigma for s in seen[5:]] == ends[-3:]
    assert len([s for s in _seen(engine, hires_strength=1.0) if s.x.shape[-1] == 16]) == 5
    assert (
        len([s for s in _seen(engine, hires_strength=0.01, hires_steps=2) if s.x.shape[-1] == 16])
        == 2
    )


def _seen(engine, **settings):
    seen = []
    engine.hires("a cat", seed=1, watch=seen.append, **settings)
    return seen


@torch.inference_mode()
@pytest.mark.parametrize("method", ["latent", "lanczos"])
def test_it_is_a_run_an_enlargement_and_a_run(engine, method):
    """The same written out by hand: first pass, bilinear latents or resized pixels, noise of the
    seed, euler."""
    model, strength = engine.model, 0.6
    drawn = engine.hires(
        "a cat", seed=3, hires_steps=4, hires_strength=strength, hires_upscaler=method
    )
    first = GenerationRequest.of(prompt="a cat", seed=3).resolve(model)
    x = list(one_pass(model, engine.unet, first))[-1].x
    if method == "latent":
        x = F.interpolate(x, (16, 16), mode="bilinear")
    else:
        x = encode_picture(
            model, decode_latents(model.vae, x)[0].resize((64, 64), Image.Resampling.LANCZOS)
        )
    second = first.model_copy(update={"width": 64, "height": 64, "steps": int(4 / strength)})
    sigmas = prepare_noise(model, second, [3])[0][-5:]
    noise = Noise([3], (4, 16, 16))
    answer, _ = build_denoiser(model, engine.unet, second, ["a cat"], None)
    x = x + noise.initial * float(sigmas[0])
    expected = decode_latents(model.vae, drive(samplers.load("euler")(x, sigmas, noise), answer))[0]
    assert drawn.tobytes() == expected.tobytes()


@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_sde", "dpmpp_2m"])
@pytest.mark.parametrize("method", ["latent (bicubic)", "bicubic", "file"])
def test_a_picture_has_its_bits_in_any_batch(engine, tmp_path, sampler, method):
    if method == "file":
        method = str(network_file(tmp_path / "2x.safetensors"))
    settings = {"sampler": sampler, "hires_upscaler": method, "hires_steps": 3}
    batch = engine.hires("a [cat:dog:1.5]", seed=5, count=3, **settings)
    for i, picture in enumerate(batch):
        assert (
            picture.tobytes() == engine.hires("a [cat:dog:1.5]", seed=5 + i, **settings).tobytes()
        )


def test_edits_in_prompts_go_on_from_the_first_pass(engine):
    """[a:b:0.5] has happened by the second pass, [a:b:1.5] does in its middle, and counts of steps
    go on."""

    def xs(prompt, **more):
        return [step.x for step in _seen_of(engine, prompt, hires_steps=4, **more)]

    cat, dog, late = xs("a cat"), xs("a dog"), xs("a [cat:dog:1.5]")
    assert [torch.equal(a, b) for a, b in zip(cat, late, strict=True)] == [True] * 7 + [False] * 2
    assert [torch.equal(a, b) for a, b in zip(xs("a [cat:dog:7]"), late, strict=True)] == [True] * 9
    both = xs("a cat", hires_prompt="a [dog:fish:0.5]")  # long since "fish"
    assert [
        torch.equal(a, b) for a, b in zip(both, xs("a cat", hires_prompt="a fish"), strict=True)
    ] == [True] * 9
    assert not torch.equal(cat[5], dog[5])
    once = xs("a [cat:dog:0.5]", hires_negative_prompt="[x:y:0.5]")
    assert torch.equal(once[-1], xs("a [cat:dog:0.5]", hires_negative_prompt="y")[-1])


def _seen_of(engine, prompt, **settings):
    seen = []
    engine.hires(prompt, seed=1, watch=seen.append, **settings)
    return seen


def test_the_second_pass_has_its_own_settings(engine):
    draw = lambda **more: engine.hires("a cat", seed=1, **more).tobytes()  # noqa: E731
    kinds = [
        {},
        {"hires_sampler": "heun"},
        {"hires_cfg": 5},
        {"hires_prompt": "a dog"},
        {"hires_spacing": "linspace"},
        {"hires_negative_prompt": "a dog"},
        {"hires_strength": 0.3},
        {"hires_steps": 9},
        *(
            {"hires_upscaler": name}
            for name in (
                "nearest",
                "bilinear",
                "bicubic",
                "lanczos",
                "latent (bicubic)",
                "latent (bicubic antialiased)",
                "latent (nearest)",
            )
        ),
    ]
    assert len({draw(**more) for more in kinds}) == len(kinds)
    # the antialiased one differs only where pictures become smaller
    same = {
        "hires_sampler": "euler",
        "hires_cfg": 2.0,
        "hires_prompt": "a cat",
        "hires_steps": 5,
        "hires_width": 64,
        "hires_upscaler": "latent (antialiased)",
    }
    assert {draw(**{name: value}) for name, value in same.items()} == {draw()}
    assert draw(hires_sampler="DPM++ 2M Exponential") == draw(
        hires_sampler="dpmpp_2m", hires_spacing="exponential"
    )
    assert draw(hires_sampler="dpm2", spacing="automatic", steps=4) == draw(
        hires_sampler="dpm2", spacing="linspace", hires_spacing="karras", steps=4
    )


def test_what_the_second_sampler_does_not_take_is_told(engine):
    seen = _seen(engine, eta=0.5, sampler="euler_a", hires_sampler="dpmpp_2m")
    notes = {note for step in seen for note in step.notes}
    assert notes == {"the second pass does without eta: dpmpp_2m or its spacing takes none"}
    assert not _seen(engine, eta=0.5, sampler="euler_a", hires_sampler="dpm2_a")[0].notes


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"hires_scale": 1.5}, (48, 48)),
        ({"hires_scale": 1.4}, (40, 40)),
        ({"hires_scale": 1}, (32, 32)),
        ({"width": 48, "hires_width": 96}, (96, 64)),
        ({"width": 48, "hires_height": 48}, (72, 48)),
        ({"width": 48, "hires_width": 64, "hires_height": 64}, (64, 64)),
        ({"hires_width": 88, "hires_height": 40}, (88, 40)),
    ],
)
def test_sizes(engine, given, size):
    for upscaler in ("latent", "nearest"):
        seen = []
        picture = engine.hires(
            "a cat", seed=1, steps=2, hires_upscaler=upscaler, watch=seen.append, **given
        )
        assert picture.size == size
        assert [s.notes for s in seen] == [seen[0].notes] * 4
        assert ("44x44" in "".join(seen[0].notes)) == (given == {"hires_scale": 1.4})


def test_what_is_too_much_is_cut_in_the_middle(engine):
    x = torch.arange(8.0).expand(1, 4, 8, 8)  # 32 × 32 pixels, columns 0 to 7
    found = two.enlarge_to_size(
        engine.model, x, (32, 64), upscale.UPSCALERS["latent (nearest)"], torch.device("cpu")
    )
    assert found.shape == (1, 4, 16, 8)
    assert found[0, 0, 0].tolist() == [2, 2, 3, 3, 4, 4, 5, 5]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"hires_width": 36}, BadInput, "hires_width 36"),
        ({"hires_width": 64, "hires_height": 33}, BadInput, "height 33"),
        ({"width": 2048, "hires_scale": 5}, BadInput, "10240x160"),
        ({"hires_scale": 0.5}, BadInput, "hires_scale"),
        ({"hires_scale": 9}, BadInput, "hires_scale"),
        ({"hires_strength": 0}, BadInput, "hires_strength"),
        ({"hires_upscaler": "lanczoz"}, UnknownName, "did you mean 'lanczos'"),
        ({"hires_cfg": -1}, BadInput, "hires_cfg"),
        ({"hires_upscaler": "no/4x.safetensors"}, NotFound, "no/4x"),
        ({"hires_sampler": "e"}, UnknownName, "euler"),
        (
            {"hires_steps": 800, "hires_strength": 0.1, "hires_spacing": "linspace"},
            BadInput,
            "fewer steps",
        ),
        ({"prompt": "a cat MASK(0 8, 0 8)"}, BadInput, "in pixels"),
        ({"hires_spacing": "x"}, UnknownName, "karras"),
        ({"hires_prompt": "<lora:x:1>"}, NotFound, "lora"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_first_step(engine, settings, error, said):
    asked = []
    hook = engine.model.unet.register_forward_pre_hook(lambda *_: asked.append(1))
    with pytest.raises(error, match=said):
        engine.hires(**{"prompt": "a cat", "seed": 1} | settings)
    hook.remove()
    assert not asked


def test_a_file_that_was_not_opened_is_an_error(engine):
    with pytest.raises(BadInput, match="no network was given"):
        two.hires(engine.model, engine.unet, HiresRequest.of(hires_upscaler="4x.safetensors"))


def test_pictures_of_two_passes_are_replayed(engine, tmp_path):
    """By all samplers in one of the passes, with settings of the second by lot."""
    chance = random.Random(0)
    names = [*SAMPLERS]
    for i, (sampler, other) in enumerate(zip(names[::2], [*names[1::2], None], strict=False)):
        more = {
            "spacing": chance.choice([None, "automatic", "exponential"]),
            "clip_skip": chance.choice([1, 2]),
            "hires_upscaler": chance.choice([*upscale.UPSCALERS]),
            "hires_steps": chance.choice([0, 2]),
            "hires_strength": chance.choice([0.3, 0.7, 1.0]),
            "hires_cfg": chance.choice([None, 3.5]),
            "hires_prompt": chance.choice(["", "a dog, (red:1.2)\nbig"]),
            "rng": chance.choice(["cpu", "nv"]),
            "hires_negative_prompt": chance.choice(["", 'a "fish"']),
            "prompt_steps": chance.choice(["step", "call"]),
            "hires_spacing": chance.choice([None, None, "karras", "automatic"]),
            "discard_penultimate": None,
            "variation_strength": chance.choice([0.0, 0.2]),
            "eta_noise_seed_delta": chance.choice([0, 31337]),
            **chance.choice(
                [
                    {},
                    {"hires_scale": 1.5},
                    {"hires_width": 48},
                    {"hires_width": 40, "hires_height": 64},
                ]
            ),
            **({"eta": 0.4} if "eta" in SAMPLERS[sampler].options else {}),
        }
        drawn = engine.hires(
            "a [cat:dog:1.5]", seed=i, steps=3, sampler=sampler, hires_sampler=other, **more
        )
        save_picture(drawn, tmp_path / "a.png")
        found = replay(tmp_path / "a.png", engine.model, engine.unet)
        assert found.verdict == "identical", (sampler, other, more, found.difference, found.reasons)
        assert not found.unused.keys() - SAID


@pytest.mark.parametrize(
    "more",
    [
        {"hires_sampler": "DPM++ 2M Exponential"},
        {"sampler": "DPM++ 2M Exponential", "hires_spacing": "automatic"},
        {"spacing": "automatic", "hires_sampler": "dpm2"},
        {"spacing": "karras", "spacing_options": {"rho": 5}, "hires_spacing": "exponential"},
    ],
)
def test_spacings_that_follow_from_something_else_are_replayed(engine, tmp_path, more):
    save_picture(engine.hires("a cat", seed=1, steps=4, **more), tmp_path / "a.png")
    assert "Hires schedule type" in read_settings(tmp_path / "a.png").fields
    assert replay(tmp_path / "a.png", engine.model, engine.unet).verdict == "identical"


def test_pixels_on_the_way_are_counted_before_the_first_step(engine, tmp_path, monkeypatch):
    file, seen = str(network_file(tmp_path / "2x.safetensors")), []
    for module, most, said in (
        (upscale, 127 * 128, "128x128 pixels on the way"),
        (decoding, 95 * 96, "96x96 pixels can"),
    ):
        monkeypatch.setattr(module, "PIXELS", most)
        with pytest.raises(BadInput, match=said):
            engine.hires("a cat", seed=1, hires_upscaler=file, hires_scale=3, watch=seen.append)
    assert not seen


def test_what_the_model_prefers(engine, monkeypatch):
    plain = engine.hires("a cat", seed=1)
    assert (
        "Denoising strength: 0.7, Hires upscale: 2, Hires upscaler: Latent, "
        in plain.info["parameters"]
    )
    monkeypatch.setitem(engine.model.defaults, "hires_strength", 0.3)
    monkeypatch.setitem(engine.model.defaults, "hires_upscaler", "lanczos")
    found = engine.hires("a cat", seed=1)
    assert (
        "Denoising strength: 0.3, Hires upscale: 2, Hires upscaler: Lanczos, "
        in found.info["parameters"]
    )
    assert (
        found.tobytes()
        == engine.hires("a cat", seed=1, hires_strength=0.3, hires_upscaler="lanczos").tobytes()
    )


def test_the_text_has_a1111s_words(engine):
    more = {
        "hires_width": 64,
        "hires_steps": 3,
        "hires_upscaler": "LATENT (bicubic)",
        "hires_sampler": "k_euler_a",
    }
    text = engine.hires("a cat", seed=1, hires_prompt="a dog, red", hires_cfg=3, **more).info[
        "parameters"
    ]
    expected = {
        "Size": "32x32",
        "Denoising strength": "0.7",
        "Hires resize": "64x0",
        "Hires steps": "3",
        "Hires upscaler": "Latent (bicubic)",
        "Hires sampler": "Euler a",
        "Hires CFG Scale": "3",
        "Hires prompt": "a dog, red",
    }
    fields = infotext.parse(text).fields
    assert expected.items() <= fields.items()
    assert not {"Hires upscale", "Hires schedule type", "Hires negative prompt"} & fields.keys()


def test_a_picture_of_a1111_is_drawn_in_two_passes(engine, tmp_path):
    text = (
        "a cat\nNegative prompt: dog\nSteps: 4, Sampler: Euler a, Schedule type: Karras, "
        "CFG scale: 2, Seed: 7, "
        "Size: 32x32, Denoising strength: 0.5, Hires upscale: 1.5, Hires steps: 3, "
        "Hires upscaler: Latent, "
        "RNG: CPU, Version: v1.10.1"
    )
    picture = noisy(48, 48)
    picture.info["parameters"] = text
    save_picture(picture, tmp_path / "a.png")
    found = replay(tmp_path / "a.png", engine.model, engine.unet)
    assert found.picture.size == (48, 48)
    drawn = engine.hires(
        "a cat",
        negative_prompt="dog",
        steps=4,
        sampler="euler_a",
        spacing="karras",
        cfg=2,
        seed=7,
        hires_strength=0.5,
        hires_scale=1.5,
        hires_steps=3,
        noise_scaling="sigma_max",
    )
    assert found.picture.tobytes() == drawn.tobytes()
    picture.info["parameters"] = text.replace("Latent", "R-ESRGAN 4x+")
    save_picture(picture, tmp_path / "a.png")
    with pytest.raises(BadInput, match="--upscaler"):
        replay(tmp_path / "a.png", engine.model, engine.unet)
    network = formats.load(network_file(tmp_path / "n.safetensors"))
    found = replay(tmp_path / "a.png", engine.model, engine.unet, network=network)
    assert "Hires upscaler hash: not said" in found.reasons


def test_a_network_is_known_by_its_hash(engine, tmp_path):
    file, other = (
        network_file(tmp_path / f"{name}.safetensors", i)
        for i, name in enumerate(("one, x", "two"))
    )
    one, two_ = formats.load(file), formats.load(other)
    save_picture(engine.hires("a cat", seed=1, hires_upscaler=str(file)), tmp_path / "a.png")
    fields = read_settings(tmp_path / "a.png").fields
    assert (fields["Hires upscaler"], fields["Hires upscaler hash"]) == ("one, x", one.digest)
    found = replay(tmp_path / "a.png", engine.model, engine.unet, network=one)
    assert found.verdict == "identical"
    assert not found.unused.keys() - SAID
    with pytest.raises(BadInput, match="give its file with --upscaler"):
        replay(tmp_path / "a.png", engine.model, engine.unet)
    with pytest.raises(BadInput, match="two is not the network"):
        replay(tmp_path / "a.png", engine.model, engine.unet, network=two_)
    with pytest.raises(BadInput, match="words alone"):
        replay(tmp_path / "a.png", engine.model, engine.unet, tmp_path / "a.png", network=one)
    save_picture(engine.hires("a cat", seed=1), tmp_path / "b.png")
    with pytest.raises(BadInput, match="leave out --upscaler"):
        replay(tmp_path / "b.png", engine.model, engine.unet, network=one)


# ---- finished pictures


def test_methods_are_pillows_own():
    picture = noisy(20, 12)
    for name in ("nearest", "bilinear", "bicubic", "lanczos"):
        found = upscale.upscale_picture(picture, (50, 31), upscale.UPSCALERS[name])
        assert found.tobytes() == picture.resize((50, 31), Image.Resampling[name.upper()]).tobytes()
    with pytest.raises(BadInput, match="choose one of: nearest"):
        upscale.upscale_picture(picture, (50, 31), upscale.UPSCALERS["latent"])
    with pytest.raises(BadInput, match="cannot be made"):
        upscale.upscale_picture(picture, (50_000, 31_000), upscale.UPSCALERS["lanczos"])
    for scale in (0, -1, float("nan"), float("inf"), 65, 0.01):
        with pytest.raises(BadInput, match="times as large"):
            upscale.scale_size((20, 12), scale)


@torch.inference_mode()
def test_latents_are_torchs_own_interpolation():
    x = torch.randn(2, 4, 8, 6)
    for method in (m for m in upscale.UPSCALERS.values() if m.latent):
        smooth = {"antialias": method.antialias} if "neare" not in method.mode else {}
        whole = F.interpolate(x, (13, 12), mode=method.mode, **smooth)
        assert torch.allclose(
            upscale.enlarge_latents(x, (13, 12), method), whole, atol=1e-6
        )  # fp32, other batch sizes


def test_a_network_is_applied_until_the_picture_is_large_enough(tmp_path):
    network = formats.load(network_file(tmp_path / "2x.safetensors"))
    calls = []
    network.network.register_forward_pre_hook(
        lambda module, given: calls.append(given[0].shape[-1])
    )
    for size, sides in (
        ((40, 24), [20]),
        ((60, 36), [20, 40]),
        ((300, 180), [20, 40, 80]),
        ((20, 12), [20]),
    ):
        calls.clear()
        assert upscale.upscale_picture(noisy(20, 12), size, network).size == size
        assert calls == sides
    pixels = torch.from_numpy(np.asarray(noisy(20, 12)).copy()).permute(2, 0, 1) / 255
    expected = (network(pixels).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    found = np.asarray(upscale.upscale_picture(noisy(20, 12), (40, 24), network), int)
    assert np.abs(found - expected).max() <= 1  # rounded on another scale, [−1, 1]


def test_finished_pictures_are_replayed_too(engine, tmp_path, monkeypatch):
    network = formats.load(network_file(tmp_path / "2x.safetensors"))
    for before in (engine.generate("a cat", seed=1), engine.hires("a cat", seed=1, steps=2)):
        save_picture(before, tmp_path / "a.png")
        for method, scale, size in (
            (upscale.UPSCALERS["bicubic"], 1.5, None),
            (network, None, (70, 50)),
        ):
            size = size or upscale.scale_size(before.size, scale)
            after = upscale.upscale_picture(pictures.read_rgb(tmp_path / "a.png"), size, method)
            after.info["parameters"] = upscale.describe_upscaling(
                tmp_path / "a.png", scale, size, method
            )
            save_picture(after, tmp_path / "b.png")
            given = method if method is network else None
            found = replay(tmp_path / "b.png", engine.model, engine.unet, network=given)
            assert found.verdict == "identical", found.reasons
            assert not found.unused.keys() - SAID
            assert read_settings(tmp_path / "b.png").prompt == "a cat"
        with pytest.raises(BadInput, match="--upscaler"):
            replay(tmp_path / "b.png", engine.model, engine.unet)
        after.info["parameters"] = upscale.describe_upscaling(
            tmp_path / "b.png", 2.0, (70, 50), method
        )
        save_picture(after, tmp_path / "c.png")
        with pytest.raises(BadInput, match="more than once"):
            replay(tmp_path / "c.png", engine.model, engine.unet, network=network)
    bare = save_picture(noisy(), tmp_path / "bare.png")
    after.info["parameters"] = upscale.describe_upscaling(bare, 2.0, (64, 64), network)
    save_picture(after, tmp_path / "c.png")
    fields = read_settings(tmp_path / "c.png").fields
    assert fields["Postprocess upscaler hash"] == network.digest
