"""A picture drawn again from its own settings."""

import random

import fakes
import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS
from fromnoise.errors import BadInput
from fromnoise.pipeline.decoding import open_picture
from fromnoise.pipeline.provenance import infotext
from fromnoise.pipeline.provenance.read import read_text
from fromnoise.pipeline.replay import read_plan, replay
from fromnoise.pipeline.saving import save_picture
from fromnoise.runtime.guide import prepare_guide


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    model = fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=3.0, cfg_sigma_max=5.0)
    model.source, model.digest = "tiny", "0123456789"
    return Engine(model)


def drawn(engine, path, prompt="a cat", **settings):
    save_picture(engine.generate(prompt, **{"seed": 3} | settings), path)
    return path


def test_every_setting_draws_the_same_again(engine, tmp_path):
    """All samplers, two pictures each of settings drawn by lot (the sampler's own options at other
    values than usual)."""
    chance = random.Random(0)
    prompts = [
        "a (cat:1.2) in [space|snow]",
        "a cat, Steps: 3",
        'a "dog": AND\na fish',
        "cat " * 40,
        "",
    ]
    for i in range(2 * len(SAMPLERS)):
        entry = [*SAMPLERS.values()][i % len(SAMPLERS)]
        settings = {
            "seed": chance.randrange(2**40),
            "steps": chance.randint(3, 6),
            "cfg": chance.choice([1.0, 2.5, 7.25]),
            "spacing": chance.choice([*SPACINGS]),
            "negative_prompt": chance.choice(["", "dog (red:1.3)"]),
            "cfg_rescale": chance.choice([0.0, 0.3]),
            "rng": chance.choice(["cpu", "nv"]),
            "cfg_sigma_max": chance.choice([None, 2.0, float("inf")]),
            "clip_skip": chance.choice([1, 2]),
            "dialect": chance.choice(["a1111", "comfy"]),
            "prompt_steps": chance.choice(["step", "call"]),
            "tiling": chance.choice(["none", "none", "x", "both"]),
            "variation_strength": chance.choice([0.0, 0.0, 0.31]),
            "width": chance.choice([32, 48]),
            "noise_scaling": chance.choice(["unit", "sigma_max"]),
            "eta_noise_seed_delta": chance.choice([0, 31337]),
            **{
                name: chance.uniform(0.1, 0.9)
                for name in ("eta", "s_noise")
                if name in entry.options
            },
        }
        path = drawn(
            engine, tmp_path / "a.png", chance.choice(prompts), sampler=entry.name, **settings
        )
        found = replay(path, engine.model, engine.unet)
        assert found.verdict == "identical", (entry.name, settings, found.difference, found.reasons)
        assert not found.reasons
        assert found.unused.keys() <= {"Model", "Model hash", "Plan", "Version", "Torch", "Threads"}


def test_a_batch_is_replayed_picture_by_picture(engine, tmp_path):
    for i, picture in enumerate(engine.generate("a cat", seed=7, count=3)):
        save_picture(picture, tmp_path / f"{i}.png")
        assert replay(tmp_path / f"{i}.png", engine.model, engine.unet).verdict == "identical"


def test_what_differs_is_said(engine, tmp_path):
    path = drawn(engine, tmp_path / "a.png")
    text = read_text(path) or ""
    pixels = np.asarray(open_picture(path)).copy()
    pixels[0, 0, 0] ^= 1

    def changed(text, pixels=pixels, name="b.png"):
        picture = Image.fromarray(pixels)
        picture.info["parameters"] = text
        save_picture(picture, tmp_path / name)
        return replay(tmp_path / name, engine.model, engine.unet)

    found = changed(text)
    assert (found.verdict, found.difference) == ("near", 1)
    assert "another processor" in found.reasons[0]
    found = changed(text.replace("Seed: 3", "Seed: 4").replace("exact-cpu-fp32", "batch8-cpu-fp32"))
    assert found.verdict == "different"
    assert found.reasons == ("Plan: batch8-cpu-fp32, now exact-cpu-fp32",)
    found = changed(text, pixels[:16])
    assert (found.verdict, found.difference) == ("different", None)
    assert found.reasons == ("size: 32x16, now 32x32",)
    with pytest.raises(BadInput, match="seed"):
        changed(text.replace("Seed: 3, ", ""))
    assert read_plan(path) == ("cpu", "fp32")


def test_another_vae_is_told_from_another_network(tmp_path):
    """Each by the hash of its own file."""
    for name in "abc":
        model = fakes.model(tmp_path / "w", steps=2)
        model.vae.decoder.conv_out.bias.data += name == "b"
        model.unet.conv_out.bias.data += name == "c"
        diffusers_folder_save.save(model, tmp_path / name, torch.float32)
    first, vae, unet = (load(tmp_path / name) for name in "abc")
    path = drawn(first, tmp_path / "a.png")
    for other, key in ((vae, "VAE hash"), (unet, "Model hash")):
        found = replay(path, other.model, other.unet)
        assert found.verdict == "different"
        assert [reason.split(":")[0] for reason in found.reasons] == [key]


def rewrite(path, old, new):
    """The same picture, whose text says something else."""
    picture = open_picture(path)
    text = read_text(path) or ""
    assert old in text
    picture.info["parameters"] = text.replace(old, new)
    return save_picture(picture, path.with_name("rewritten.png"))


@pytest.mark.parametrize(
    ("recorded", "cores", "used"),
    [("3", 4, {3}), ("1024", 4, {4}), ("99999999", 4, {4}), ("9" * 5000, 4, None), ("0", 4, None)],
)
def test_as_many_threads_as_it_was_drawn_with(engine, tmp_path, monkeypatch, recorded, cores, used):
    """At most the cores of the machine; where there are fewer, the reason is told."""
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr("fromnoise.pipeline.replay.count_cores", lambda: cores)
    path = drawn(engine, tmp_path / "a.png")
    path = rewrite(path, f"Threads: {before}", f"Threads: {recorded}")
    hook = engine.model.unet.register_forward_pre_hook(
        lambda *_: seen.append(torch.get_num_threads())
    )
    found = replay(path, engine.model, engine.unet)
    hook.remove()
    assert set(seen) == (used or {before})
    assert torch.get_num_threads() == before
    differs = recorded not in map(str, used or {before})
    assert any(reason.startswith("Threads: ") for reason in found.reasons) == differs


@pytest.fixture(scope="module")
def guides(tmp_path_factory):
    """Two weaker models; their weights come from no file."""
    folder = tmp_path_factory.mktemp("guides")
    models = [fakes.model(folder, steps=4, cfg=3.0) for _ in range(2)]
    for model, shift in zip(models, (0.5, 1.0), strict=True):
        with torch.no_grad():
            model.unet.conv_out.weight += shift
    return models


def test_a_guide_is_asked_for_again(engine, guides, tmp_path):
    first, second = (prepare_guide(engine.model, guide) for guide in guides)
    assert first.digest != second.digest
    alone = drawn(engine, tmp_path / "alone.png")
    guided = Engine(engine.model, guide=guides[0])
    guided.unet, guided.guide = engine.unet, first
    path = drawn(guided, tmp_path / "guided.png")
    assert f"Guide hash: {first.digest}" in (read_text(path) or "")
    assert "Guide hash" not in (read_text(alone) or "")
    found = replay(path, engine.model, engine.unet, guide=first)
    assert (found.verdict, found.reasons) == ("identical", ())
    assert "Guide hash" not in found.unused
    with pytest.raises(BadInput, match=f"drawn with a guide .hash {first.digest}") as error:
        replay(path, engine.model, engine.unet)
    assert "--guide" in error.value.remedy
    with pytest.raises(BadInput, match=f"hash {second.digest}, then {first.digest}"):
        replay(path, engine.model, engine.unet, guide=second)
    with pytest.raises(BadInput, match="without a guide"):
        replay(alone, engine.model, engine.unet, guide=first)


def test_every_way_to_draw_records_its_guide(engine, guides, tmp_path):
    guided = Engine(engine.model, guide=guides[0])
    source = Image.new("RGB", (32, 32), "red")
    film = guided.film(["a cat", "a dog"], frames=3, seed=1)
    pictures = [
        guided.generate("a cat", seed=1),
        guided.generate("a [cat|dog] AND a fish", seed=1),
        guided.edit(source, "a cat", seed=1),
        guided.hires("a cat", seed=1, hires_scale=2.0),
        guided.blend(source, source, "a cat", seed=1),
        guided.trace("a cat", seed=1)[0],
        *film,
    ]
    assert guided.guide is not None
    for picture in pictures:
        assert f"Guide hash: {guided.guide.digest}," in picture.info["parameters"]
    for i, picture in enumerate([pictures[2], pictures[3], film[1]]):
        path = save_picture(picture, tmp_path / f"{i}.png")
        again = {"image": save_picture(source, tmp_path / "red.png")} if i == 0 else {}
        found = replay(path, engine.model, guided.unet, guide=guided.guide, **again)
        assert (found.verdict, found.reasons) == ("identical", ())


def test_latents_of_ones_own_are_recorded(engine, tmp_path):
    """A picture that no seed gives is not taken for another, and not drawn again."""
    shape = (2, engine.model.vae.config.latent_channels, 8, 8)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    two = engine.generate("a cat", seed=1, count=2, latents=latents)
    one = engine.generate("a cat", seed=1, latents=latents[1])
    hashes = [infotext.parse(p.info["parameters"]).fields["Latents hash"] for p in (*two, one)]
    assert hashes[0] != hashes[1]
    assert hashes[1] == hashes[2]
    path = save_picture(one, tmp_path / "a.png")
    with pytest.raises(BadInput, match=f"latents of its own .hash {hashes[1]}"):
        replay(path, engine.model, engine.unet)


def test_a_file_that_is_cut_off_is_known_before_the_drawing(engine, tmp_path):
    whole = drawn(engine, tmp_path / "a.png").read_bytes()
    begin = whole.index(b"IDAT") + 20

    def fail(*_):
        raise AssertionError("it was drawn")

    hook = engine.model.unet.register_forward_pre_hook(fail)
    for end in (begin, (begin + len(whole)) // 2):
        (tmp_path / "cut.png").write_bytes(whole[:end])
        with pytest.raises(BadInput, match=r"cut\.png") as error:
            replay(tmp_path / "cut.png", engine.model, engine.unet)
        assert error.value.remedy
    hook.remove()


@pytest.mark.parametrize(
    "said",
    [
        *("Postprocess upscale by: nan", "Postprocess upscale by: 1e999"),
        *("Postprocess upscale by: 1e-9", "Postprocess upscale to: 999999x999999"),
        *("Postprocess upscale to: x", f"Postprocess upscale to: {'9' * 5000}x8"),
    ],
)
def test_sizes_that_are_none(engine, tmp_path, said):
    path = drawn(engine, tmp_path / "a.png")
    path = rewrite(path, "Plan: ", f"{said}, Postprocess upscaler: Lanczos, Plan: ")
    with pytest.raises(BadInput) as error:
        replay(path, engine.model, engine.unet)
    assert error.value.remedy


def test_of_other_files_it_says_what_is_missing(engine, tmp_path):
    picture = engine.generate("a cat", seed=3)
    picture.save(tmp_path / "bare.png")
    with pytest.raises(BadInput, match="says nothing"):
        replay(tmp_path / "bare.png", engine.model, engine.unet)
    from fromnoise.pipeline.provenance.exif import write_exif

    picture.save(tmp_path / "a.jpg", exif=write_exif(picture.info["parameters"]), quality=60)
    found = replay(tmp_path / "a.jpg", engine.model, engine.unet)
    assert found.verdict != "identical"
    assert "JPEG files keep exact pixels only where they are lossless" in found.reasons


def test_masks_by_name_are_asked_for_again(engine, tmp_path):
    masks = {}
    for name, box in {"left": (0, 0, 13, 32), "b,c": (13, 0, 32, 32)}.items():
        masks[name] = tmp_path / f"{len(masks)}.png"
        mask = Image.new("L", (32, 32))
        mask.paste(200, box)
        mask.save(masks[name])
    path = drawn(engine, tmp_path / "a.png", "a cat IMASK(left) AND a dog", masks=masks)
    found = replay(path, engine.model, engine.unet, masks=masks)
    assert found.verdict == "identical"
    assert not found.reasons
    assert "Masks" not in found.unused
    with pytest.raises(BadInput, match="drawn with masks by name: b,c, left") as error:
        replay(path, engine.model, engine.unet, masks={"left": masks["left"]})
    assert "--mask-file b,c=" in error.value.remedy
    with pytest.raises(BadInput, match="is not the mask 'left'"):
        replay(path, engine.model, engine.unet, masks=masks | {"left": masks["b,c"]})
    with pytest.raises(BadInput, match="without a mask called x"):
        replay(path, engine.model, engine.unet, masks=masks | {"x": masks["left"]})
    with pytest.raises(BadInput, match="without a mask called left"):
        replay(
            drawn(engine, tmp_path / "b.png"),
            engine.model,
            engine.unet,
            masks={"left": masks["left"]},
        )
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    edited = engine.edit(
        tmp_path / "red.png", "a cat IMASK(left) AND a dog", seed=1, masks={"left": masks["left"]}
    )
    save_picture(edited, tmp_path / "c.png")
    again = {"image": tmp_path / "red.png", "masks": {"left": masks["left"]}}
    assert replay(tmp_path / "c.png", engine.model, engine.unet, **again).verdict == "identical"
    with pytest.raises(BadInput, match="masks by name: left"):
        replay(tmp_path / "c.png", engine.model, engine.unet, image=tmp_path / "red.png")


def test_what_a_picture_may_cost(engine, tmp_path):
    """A picture that asks for very much is refused before it is drawn, with the figure."""
    path = drawn(engine, tmp_path / "a.png")
    path = rewrite(path, "Size: 32x32", "Size: 8192x8192")
    with pytest.raises(BadInput, match="and the limit is 100") as error:
        replay(path, engine.model, engine.unet)
    assert "--max-cost" in error.value.remedy


def test_a_film_says_no_other_settings(engine, tmp_path):
    """What stands in "Film" is of the film alone: neither limits nor files of the machine."""
    film = engine.film(["a cat", "a dog"], frames=4, seed=1, steps=2)
    path = save_picture(film[0], tmp_path / "a.png")
    found = replay(path, engine.model, engine.unet, max_cost=1.0)
    assert (found.verdict, found.reasons) == ("identical", ())
    path = rewrite(path, r"{\"prompts\"", r"{\"steps\": 1000, \"max_cost\": 1e9, \"prompts\"")
    assert replay(path, engine.model, engine.unet).verdict == "identical"
