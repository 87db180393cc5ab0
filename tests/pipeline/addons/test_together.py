"""Several kinds of add-ons in one run, beside diffusers' pipelines with the same: each answer
of the U-Net, and the picture."""

import logging
import warnings
from copy import copy
from typing import Any

import adapters
import diffusers
import numpy as np
import pytest
import torch
from addon_cases import Case
from diffusers import ControlNetModel
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fromnoise.pipeline.generate import prepare_noise
from fromnoise.pipeline.pictures import read_rgb
from fromnoise.pipeline.request import GenerationRequest

# fp32, of the RMS of an answer, and of a picture in [0, 1] after 10 steps: sums in
# another order. Without one of the add-ons, or with another weight, both are off by more than 1e-2.
ANSWER, PICTURE = 2e-5, 1e-4
PROMPT, NEGATIVE, CFG, STEPS = "a neon cat", "a dog", 3.0, 10
PIPELINES = {
    "sd1": diffusers.StableDiffusionControlNetPipeline,
    "xl": diffusers.StableDiffusionXLControlNetPipeline,
}


@pytest.fixture(scope="module", params=["sd1", "xl"])
def case(request, tmp_path_factory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param))


def make_theirs(case: Case, controls: list[str], lora: bool) -> Any:
    """diffusers' pipeline with these ControlNets, the IP-Adapter, and perhaps the LoRA."""
    logging.disable(logging.WARNING)
    networks = [ControlNetModel.from_pretrained(case.folder / name) for name in controls]
    pipeline: Any = PIPELINES[case.base].from_pretrained(
        case.folder / "m", controlnet=networks if len(networks) > 1 else networks[0]
    )
    tower = CLIPVisionModelWithProjection.from_pretrained(case.folder / "image_encoder")
    size = {"height": adapters.SIDE, "width": adapters.SIDE}
    processor = CLIPImageProcessorPil(size={"shortest_edge": adapters.SIDE}, crop_size=size)
    pipeline.register_modules(image_encoder=tower, feature_extractor=processor)
    state: dict[str, dict] = {}
    for key, value in load_file(case.folder / "look.safetensors").items():
        part, _, rest = key.partition(".")
        state.setdefault(part, {})[rest] = value
    if lora:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline.load_lora_weights(case.folder / "paint.safetensors")
            pipeline.fuse_lora(lora_scale=0.8)
    pipeline.load_ip_adapter([state], [""], [""])
    pipeline.set_ip_adapter_scale(0.7)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("controls", "lora", "kind"),
    [(["lines"], True, "lora+control+ip-adapter"), (["lines", "tones"], False, "control+second")],
    ids=["control, look and lora", "two controls and a look"],
)
@torch.inference_mode()
def test_answers_and_picture_are_those_of_diffusers(case, controls, lora, kind):
    asked = case.ask(kind) | {"ip_adapters": case.ask("ip-adapter")["ip_adapters"]}
    asked["ip_adapters"][0]["weight"] = 0.7
    for item in asked["controls"]:
        item["mode"] = "balanced"
    theirs = make_theirs(case, controls, lora)
    wanted: list[torch.Tensor] = []
    hook = theirs.unet.register_forward_hook(lambda _, given, answer: wanted.append(answer[0]))
    settings = {"negative_prompt": NEGATIVE, "cfg": CFG, "steps": STEPS, "seed": 1}
    request = GenerationRequest.of(prompt=PROMPT, addons=asked, **settings)
    request = request.resolve(case.engine.model)
    found: list[torch.Tensor] = []

    def call(network, *given):
        found.append(network(*given))
        return found[-1]

    engine = copy(case.engine)
    engine.unet = copy(case.engine.unet)
    engine.unet.call = call
    *_, last = engine.steps(PROMPT, addons=asked, **settings)
    noise = prepare_noise(case.engine.model, request, [1])[1].initial
    seen = read_rgb(case.picture)
    drawn = theirs(
        PROMPT,
        image=[Image.open(case.picture)] * len(controls) if len(controls) > 1 else seen,
        ip_adapter_image=[seen],
        negative_prompt=NEGATIVE,
        guidance_scale=CFG,
        num_inference_steps=STEPS,
        latents=noise.clone(),
        controlnet_conditioning_scale=[1.0, 0.6] if len(controls) > 1 else 1.0,
        height=16,
        width=16,
        output_type="np",
    ).images[0]
    hook.remove()
    image = case.engine.model.vae.to_image(last.x)[0].permute(1, 2, 0).numpy()
    off = np.abs((image / 2 + 0.5).clip(0, 1) - drawn).max()
    assert len(found) == len(wanted) == STEPS
    # the prompt's answer comes last in theirs, first in ours
    pairs = zip(found, (answer.flip(0) for answer in wanted), strict=True)
    worst = max(float((a - b).abs().max() / b.square().mean().sqrt()) for a, b in pairs)
    print(f"{case.base} {kind}: answers {worst:.1e} (bar {ANSWER}), picture {off:.1e} ({PICTURE})")
    assert worst <= ANSWER
    assert off <= PICTURE
    less = {name: items for name, items in asked.items() if name != "ip_adapters"}
    *_, plain = case.engine.steps(PROMPT, addons=less, **settings)
    assert (plain.x - last.x).abs().max() > 1e-2


def test_an_adapter_by_layers_is_as_diffusers_has_it(case):
    """The first block of the way down and one layer of the way up, each with its own factor."""
    theirs = make_theirs(case, ["lines"], False)
    level = 1 if case.base == "xl" else 0
    up = {"sd1": {"block_1": [0.0, 0.3]}, "xl": {"block_0": [0.0, 0.3]}}[case.base]
    theirs.set_ip_adapter_scale({"down": {f"block_{level}": [0.7]}, "up": up})
    name = next(iter(up)).replace("block_", "up_blocks.")
    item = case.ask("ip-adapter")["ip_adapters"][0]
    item["blocks"] = {f"down_blocks.{level}": 0.7, f"{name}.attentions.1": 0.3}
    settings = {"negative_prompt": NEGATIVE, "cfg": CFG, "steps": STEPS, "seed": 1}
    asked = {"ip_adapters": [item]}
    *_, last = case.engine.steps(PROMPT, addons=asked, **settings)
    request = GenerationRequest.of(prompt=PROMPT, **settings).resolve(case.engine.model)
    noise = prepare_noise(case.engine.model, request, [1])[1].initial
    drawn = theirs(
        PROMPT,
        image=read_rgb(case.picture),
        ip_adapter_image=[read_rgb(case.picture)],
        negative_prompt=NEGATIVE,
        guidance_scale=CFG,
        num_inference_steps=STEPS,
        latents=noise.clone(),
        controlnet_conditioning_scale=0.0,
        height=16,
        width=16,
        output_type="np",
    ).images[0]
    with torch.inference_mode():
        image = case.engine.model.vae.to_image(last.x)[0].permute(1, 2, 0).numpy()
    assert np.abs((image / 2 + 0.5).clip(0, 1) - drawn).max() <= PICTURE
