"""ControlNet Union: parity with diffusers, each kind of picture, and its exactness."""

import logging

import control_nets as nets
import diffusers
import numpy as np
import pytest
import torch
from addon_cases import PROMPT, SETTINGS, Case
from PIL import Image
from safetensors.torch import load_file, save_file

from fromnoise.api import Engine
from fromnoise.checkpoints.formats import controlnet
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.generate import prepare_noise
from fromnoise.pipeline.pictures import read_rgb
from fromnoise.pipeline.request import GenerationRequest

SINGLE, DOUBLE, FAULT = 2e-5, 1e-9, 1e-3  # of the RMS: sums in another order; a fault is far off
PICTURE = 1e-4


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    case = Case("xl", tmp_path_factory.mktemp("xl"))
    union = nets.make_their_union(case.engine.model.unet.config, 8, (4, 8))
    union.save_pretrained(case.folder / "union")
    return case


def measure(ours, theirs) -> float:
    return max(
        float((a - b).abs().max() / b.square().mean().sqrt())
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.inference_mode()
def test_its_answers_are_those_of_diffusers(tmp_path, dtype):
    config = nets.UNETS["xl"]
    theirs = nets.make_their_union(config)
    theirs.save_pretrained(tmp_path / "union")
    ours = controlnet.load(tmp_path / "union", config).network.to(dtype)
    theirs.to(dtype)
    draw = torch.Generator().manual_seed(3)
    x, text, pooled = (
        torch.randn(shape, generator=draw).to(dtype)
        for shape in ((2, 4, 8, 8), (2, 5, 24), (2, 20))
    )
    picture, ids = torch.rand(1, 3, 64, 64, generator=draw).to(dtype), torch.ones(2, 6) * 64
    conditioning = Conditioning(text, pooled=pooled, time_ids=ids)
    hint, found = ours.embed_hint(picture), {}
    for kind in (0, 3, 7):
        told = torch.zeros(2, 8, dtype=dtype)
        told[:, kind] = 1
        added = {"text_embeds": pooled, "time_ids": ids}
        of = x, torch.tensor(500), text, [picture.expand(2, -1, -1, -1)], told, [kind]
        down, middle = theirs(*of, added_cond_kwargs=added, return_dict=False)
        found[kind] = ours.choose(kind)(x, torch.tensor(500), conditioning, hint)
        wanted = (*down, middle)
        assert measure(found[kind], wanted) < (SINGLE if dtype == torch.float32 else DOUBLE)
    assert measure(found[0], found[3]) > FAULT


def test_its_picture_is_that_of_diffusers(case):
    logging.disable(logging.WARNING)
    theirs = diffusers.StableDiffusionXLControlNetUnionPipeline.from_pretrained(
        case.folder / "m",
        controlnet=diffusers.ControlNetUnionModel.from_pretrained(case.folder / "union"),
    )
    theirs.set_progress_bar_config(disable=True)
    settings = {"negative_prompt": "a dog", "cfg": 5.0, "steps": 10, "seed": 1}
    request = GenerationRequest.of(prompt="x", **settings).resolve(case.engine.model)
    noise = prepare_noise(case.engine.model, request, [1])[1].initial
    wanted = theirs(
        "a neon cat",
        control_image=[read_rgb(case.picture)],
        control_mode=[3],
        negative_prompt="a dog",
        guidance_scale=5.0,
        num_inference_steps=10,
        latents=noise.clone(),
        controlnet_conditioning_scale=0.8,
        height=16,
        width=16,
        output_type="np",
    ).images[0]
    found = {}
    for kind in ("canny", "depth"):
        *_, last = case.engine.steps("a neon cat", addons=ask(case, kind=kind), **settings)
        with torch.inference_mode():
            image = case.engine.model.vae.to_image(last.x)[0].permute(1, 2, 0).numpy()
        found[kind] = (image / 2 + 0.5).clip(0, 1)
    off = np.abs(found["canny"] - wanted).max()
    print(f"picture {off:.1e} (bar {PICTURE})")
    assert off <= PICTURE
    assert np.abs(found["depth"] - wanted).max() > 10 * PICTURE


def ask(case, **more) -> dict:
    item = {"name": "union", "file": case.folder / "union", "image": case.picture, "weight": 0.8}
    return {"controls": [item | more]}


def test_it_is_exact_and_says_its_kind(case):
    asked = ask(case, kind="canny")
    batch = case.engine.generate(PROMPT, addons=asked, count=2, **SETTINGS)
    alone = case.engine.generate(PROMPT, addons=asked, **SETTINGS | {"seed": 2})
    assert batch[1].tobytes() == alone.tobytes()
    assert "Union Control Type: Hard Edge" in alone.info["parameters"]
    case.ask = lambda kind: asked
    result = case.replay(batch[0], "union")
    assert result.verdict == "identical", result.reasons
    made = case.engine.generate(PROMPT, addons=ask(case, preprocess="canny"), **SETTINGS)
    told = ask(case, preprocess="canny", kind="canny")
    assert made.tobytes() == case.engine.generate(PROMPT, addons=told, **SETTINGS).tobytes()


def test_what_cannot_be_used_says_why(case, tmp_path):
    draw = case.engine.generate
    with pytest.raises(BadInput, match="is not told") as refused:
        draw(PROMPT, addons=ask(case), **SETTINGS)
    assert "--control-kind: openpose, depth" in refused.value.remedy
    plain = {"name": "lines", "file": case.folder / "lines", "image": case.picture}
    with pytest.raises(BadInput, match="no ControlNet Union"):
        draw(PROMPT, addons={"controls": [plain | {"kind": "canny"}]}, **SETTINGS)
    with pytest.raises(BadInput, match="see each other"):
        Engine(case.engine.model, batch=2).generate(
            PROMPT, addons=ask(case, kind="canny"), **SETTINGS
        )
    [file] = (case.folder / "union").glob("*.safetensors")
    state = load_file(file)
    small = state | {"task_embedding": state["task_embedding"][:6].contiguous()}
    save_file(small, tmp_path / "x.safetensors")
    with pytest.raises(BadCheckpoint, match=r"x\.safetensors"):
        controlnet.load(tmp_path / "x.safetensors", case.engine.model.unet.config)
    save_file(state, tmp_path / "y.safetensors")  # a single file, as it is published
    loaded = controlnet.load(tmp_path / "y.safetensors", case.engine.model.unet.config)
    assert loaded.network.settings.kinds == 8
    Image.open(case.picture).close()
