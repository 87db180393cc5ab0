"""A picture drawn again from its own settings."""

import random

import fakes
import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.checkpoints.formats import diffusers_folder
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS
from fromnoise.errors import BadInput
from fromnoise.pipeline.replay import read_plan, replay
from fromnoise.pipeline.saving import save_picture


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    model = fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=3.0, cfg_sigma_max=5.0)
    model.source, model.digest = "tiny", "0123456789"
    return Engine(model)


def drawn(engine, path, prompt="a cat", **settings):
    save_picture(engine.generate(prompt, **{"seed": 3} | settings), path)
    return path


def test_every_setting_draws_the_same_again(engine, tmp_path):
    """All samplers, 200 pictures of settings drawn by lot (the sampler's own options at other
    values than usual)."""
    chance = random.Random(0)
    prompts = [
        "a (cat:1.2) in [space|snow]",
        "a cat, Steps: 3",
        'a "dog": AND\na fish',
        "cat " * 40,
        "",
    ]
    for i in range(200):
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
    text = Image.open(path).info["parameters"]
    pixels = np.asarray(Image.open(path)).copy()
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
        diffusers_folder.save(model, tmp_path / name, torch.float32)
    first, vae, unet = (load(tmp_path / name) for name in "abc")
    path = drawn(first, tmp_path / "a.png")
    for other, key in ((vae, "VAE hash"), (unet, "Model hash")):
        found = replay(path, other.model, other.unet)
        assert found.verdict == "different"
        assert [reason.split(":")[0] for reason in found.reasons] == [key]


def test_as_many_threads_as_it_was_drawn_with(engine, tmp_path, monkeypatch):
    before, used = torch.get_num_threads(), []
    path = drawn(engine, tmp_path / "a.png")
    picture = Image.open(path)
    picture.load()
    picture.info["parameters"] = picture.info["parameters"].replace(
        f"Threads: {before}", "Threads: 3"
    )
    save_picture(picture, path)
    hook = engine.model.unet.register_forward_pre_hook(
        lambda *_: used.append(torch.get_num_threads())
    )
    replay(path, engine.model, engine.unet)
    hook.remove()
    assert set(used) == {3}
    assert torch.get_num_threads() == before


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
