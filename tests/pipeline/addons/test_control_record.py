"""What a picture says of its ControlNets: A1111's words, read back by a replay, which asks for the
same pictures and networks; and the command line."""

import re
import shutil

import control_nets as nets
import fakes
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fromnoise.api import load
from fromnoise.checkpoints.formats import diffusers_folder_save as folders
from fromnoise.checkpoints.formats.controlnet import hash_as_a1111
from fromnoise.cli.controls import parse_controls
from fromnoise.cli.values import parse_options
from fromnoise.errors import BadInput, NotFound
from fromnoise.models.config import UNetConfig
from fromnoise.pipeline.addons.control import hash_network
from fromnoise.pipeline.addons.control_record import list_unused, read_controls
from fromnoise.pipeline.provenance.read import read_settings
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture

LIKE = UNetConfig(4, 4, (16, 32), 1, (True, False), (2, 4), 16, (1,), 8, sample_size=8)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A model, and a folder of models with one ControlNet."""
    folders.save(fakes.model(tmp_path / "w", "eps", vision=False), tmp_path / "m", torch.float32)
    for name, seed in (("edges", 1), ("other", 2)):
        theirs = nets.make_their_controlnet(LIKE, seed, (4, 8, 8))
        (tmp_path / "models" / "controlnet").mkdir(parents=True, exist_ok=True)
        file = tmp_path / "models" / "controlnet" / f"{name}.safetensors"
        save_file(theirs.state_dict(), file)
    for seed in (0, 1):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{seed}.png")
    monkeypatch.setenv("FROMNOISE_MODELS", str(tmp_path / "models"))
    return tmp_path


def draw(place, *controls):
    engine = load(place / "m")
    return engine, engine.generate(
        "a neon cat", cfg=4, steps=3, seed=1, addons={"controls": controls}
    )


def test_a_picture_says_its_controls_in_a1111s_words(place):
    one = {"name": "edges", "image": place / "0.png", "preprocess": "canny", "mode": "prompt"}
    _, picture = draw(place, one, {"name": "other", "image": place / "1.png", "end": 0.7})
    save_picture(picture, place / "a.png")
    fields = read_settings(place / "a.png").fields
    start, _, end = fields["ControlNet 0"].partition(", Model hash: ")
    legacy = start.split("[")[1][:8]
    assert start == (
        f"Module: canny, Model: edges [{legacy}], Weight: 1, Resize Mode: Crop and Resize, "
        "Threshold A: 100, Threshold B: 200, Guidance Start: 0, Guidance End: 1, "
        "Pixel Perfect: True, Control Mode: My prompt is more important"
    )
    assert ", Image hash: " in end
    assert "Module: none, Model: other" in fields["ControlNet 1"]
    assert "Guidance End: 0.7" in fields["ControlNet 1"]


def test_a_replay_asks_for_the_same_and_is_identical(place):
    one = {"name": "edges", "image": place / "0.png", "weight": 0.8, "mode": "control"}
    engine, picture = draw(place, one, {"name": "other", "image": place / "1.png", "end": 0.7})
    path = place / "a.png"
    save_picture(picture, path)
    rest = path, engine.model, engine.unet
    images = [place / "0.png", place / "1.png"]
    result = replay(*rest, control_images=images)
    assert result.verdict == "identical", result.reasons
    assert not any(key.startswith("ControlNet") for key in result.unused)
    with pytest.raises(BadInput, match="with a picture"):
        replay(*rest)
    with pytest.raises(BadInput, match="not the picture"):
        replay(*rest, control_images=images[::-1])
    with pytest.raises(BadInput, match="drawn without"):
        replay(*rest, control_images=[*images, images[0]])
    folder = place / "models" / "controlnet"
    shutil.move(folder / "edges.safetensors", place / "edges.safetensors")
    with pytest.raises(NotFound, match="edges"):
        replay(*rest, control_images=images)
    files = {"edges": place / "edges.safetensors"}
    assert replay(*rest, control_images=images, controls=files).verdict == "identical"
    tensors = load_file(folder / "other.safetensors")
    save_file(tensors, place / "edges.safetensors")
    with pytest.raises(BadInput, match="not the network"):
        replay(*rest, control_images=images, controls=files)
    plain = engine.generate("a cat", steps=2, seed=1)
    save_picture(plain, path)
    with pytest.raises(BadInput, match="drawn without"):
        replay(*rest, control_images=images)


def test_an_edit_with_its_own_picture_is_replayed(place):
    engine = load(place / "m")
    one = {"name": "edges", "preprocess": "canny", "low": 20, "high": 60}
    image = Image.open(place / "0.png").resize((32, 32))
    picture = engine.edit(image, "a cat", steps=3, seed=1, addons={"controls": [one]})
    save_picture(picture, place / "a.png")
    image.save(place / "b.png")
    result = replay(place / "a.png", engine.model, engine.unet, place / "b.png")
    assert result.verdict == "identical", result.reasons


def pad(file, seed):
    """A network's file as long as published ones: A1111 hashes what lies a megabyte from its
    start."""
    signs = np.random.default_rng(seed).integers(65, 91, 1_200_000, np.uint8)
    save_file(load_file(file), file, {"notes": signs.tobytes().decode()})
    return hash_as_a1111(file)


def write_foreign(place, lines, drawn):
    """The picture with lines of A1111's extension in place of ours."""
    text = "\n".join(
        line if not line.startswith("Steps:") else re.sub(r', ControlNet 0: "[^"]*"', lines, line)
        for line in drawn.info["parameters"].split("\n")
    )
    assert "Model hash: " + hash_network(place / "models/controlnet/edges.safetensors") not in text
    drawn = drawn.copy()
    drawn.info["parameters"] = text
    save_picture(drawn, place / "a.png")
    return place / "a.png"


FORGE = (
    ', ControlNet 0: "Module: canny, Model: {}, Weight: 0.8, Resize Mode: Crop and Resize, '
    "Processor Res: 512, Threshold A: 50, Threshold B: 90, Guidance Start: 0.0, Guidance End: "
    '1.0, Pixel Perfect: False, Control Mode: ControlNet is more important, Hr Option: Both", '
    'ControlNet 1: "Module: none, Model: None, Weight: 1, Control Mode: Balanced"'
)
OLD = (
    ', ControlNet Enabled: True, ControlNet Preprocessor: canny, ControlNet Model: "{}", '
    "ControlNet Weight: 0.8, ControlNet Starting Step: 0, ControlNet Ending Step: 1, "
    "ControlNet Threshold A: 50, ControlNet Threshold B: 90, "
    "ControlNet Control Mode: ControlNet is more important"
)


@pytest.mark.parametrize("lines", [FORGE, OLD], ids=["forge", "old"])
def test_lines_of_a1111_are_replayed_by_name_and_by_hash(place, lines):
    folder = place / "models" / "controlnet"
    legacy = [pad(folder / f"{name}.safetensors", i) for i, name in enumerate(("edges", "other"))]
    assert legacy[0] != legacy[1]
    one = {"name": "edges", "image": place / "0.png", "preprocess": "canny", "weight": 0.8}
    engine, picture = draw(place, one | {"mode": "control", "low": 50, "high": 90})
    path = write_foreign(place, lines.format(f"edges [{legacy[0]}]"), picture)
    rest, images = (path, engine.model, engine.unet), [place / "0.png"]
    result = replay(*rest, control_images=images)
    assert result.verdict == "identical", result.reasons
    told = {key: why for key, why in result.unused.items() if key.startswith("ControlNet")}
    if lines is FORGE:
        assert {*told} == {
            "ControlNet 0 Processor Res",
            "ControlNet 0 Pixel Perfect",
            "ControlNet 0 Hr Option",
        }
    else:
        assert not told
    with pytest.raises(BadInput, match="does not hold the picture") as refused:
        replay(*rest)
    assert "--control-image" in refused.value.remedy
    # another name of the same file, and the same name of another file
    (folder / "edges.safetensors").rename(folder / "renamed.safetensors")
    assert replay(*rest, control_images=images).verdict == "identical"
    shutil.copy(folder / "other.safetensors", folder / "edges.safetensors")
    assert replay(*rest, control_images=images).verdict == "identical"
    (folder / "renamed.safetensors").rename(place / "away.safetensors")
    with pytest.raises(NotFound, match=legacy[0]):
        replay(*rest, control_images=images)
    given = {"away": place / "away.safetensors"}
    assert replay(*rest, control_images=images, controls=given).verdict == "identical"


def test_lines_of_a1111_that_cannot_be_used_say_what_to_give(place):
    line = "Module: {}, Model: {}, Weight: 1, Guidance Start: 0, Guidance End: 0.5"
    seen = [place / "0.png"]
    pose = {"ControlNet 2": line.format("openpose_full", "edges")}
    [item] = read_controls(place / "a.png", pose, seen)
    assert (item.preprocess, item.image, item.end) == ("none", seen[0], 0.5)
    assert "the map" in list_unused(pose)["ControlNet 2 Module"]
    with pytest.raises(BadInput) as refused:
        read_controls(place / "a.png", pose)
    assert "the map that openpose_full made" in refused.value.remedy
    look = {"ControlNet 0": line.format("ip-adapter_clip_sd15", "ip-adapter_sd15 [6a3f6166]")}
    with pytest.raises(BadInput) as refused:
        read_controls(place / "a.png", look, seen)
    assert "--ip-adapter ip-adapter_sd15:1@0-0.5" in refused.value.remedy
    with pytest.raises(BadInput, match="reference_only"):
        read_controls(place / "a.png", {"ControlNet 0": line.format("reference_only", "None")})
    enums = {"ControlNet 0": "Module: tile_resample, Model: edges, Threshold A: -1, "}
    enums["ControlNet 0"] += "Control Mode: ControlMode.PROMPT, Resize Mode: ResizeMode.OUTER_FIT"
    [item] = read_controls(place / "a.png", enums, seen)
    assert (item.mode, item.resize, item.low) == ("prompt", "fill", None)
    assert "Threshold A" in str(list_unused(enums))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Module: canny",
        "Model: x [00000000], Module: none, Model hash: 1, Weight: cat",
        'Module: none, Model: "a:b", Model hash: 1',
        "Module: none, Model: ../../etc/passwd, Model hash: 1",
        "x" * 100_000,
    ],
)
def test_what_a_strangers_picture_says_is_checked(place, text):
    with pytest.raises((BadInput, NotFound)):
        read_controls(place / "0.png", {"ControlNet 0": text})


def test_options_are_paired_in_their_order(place):
    file = place / "models" / "controlnet" / "edges.safetensors"
    found = parse_controls(
        ["edges:0.6@0.1-0.8", str(file), "third:2"],
        ["a.png", "-"],
        ["prompt"],
        None,
        ["canny:50:120", "depth"],
    )
    assert found[0] == {
        "name": "edges",
        "weight": 0.6,
        "start": 0.1,
        "end": 0.8,
        "image": "a.png",
        "mode": "prompt",
        "preprocess": "canny",
        "low": 50.0,
        "high": 120.0,
    }
    assert found[1] == {"name": "edges", "file": file, "preprocess": "depth"}
    assert found[2] == {"name": "third", "weight": 2.0}
    assert parse_options(control=["a"])["addons"] == {"controls": [{"name": "a"}]}
    with pytest.raises(BadInput, match="--control-image is given 2 times"):
        parse_controls(["a"], ["b", "c"])
    with pytest.raises(BadInput, match="canny:100:200"):
        parse_controls(["a"], None, None, None, ["CANNY 3"])
