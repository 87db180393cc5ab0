"""IP-Adapters: parity with diffusers at each step and of the picture, and the house's exactness."""

from pathlib import Path
from typing import Any

import adapters
import fakes
import numpy as np
import peers
import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fromnoise.api import load
from fromnoise.checkpoints.formats.image_encoder import open_encoder
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.image_prompt import Look, add_looks
from fromnoise.pipeline.addons import ip_adapter
from fromnoise.pipeline.pictures import read_rgb

KINDS = ("plain", "plus", "full")
# fp32 sums in another order, fp64 the same; of the output's RMS. A fault is off by more than 1e-3.
SINGLE, DOUBLE, FAULT = 2e-5, 1e-9, 1e-3
PICTURE = 1e-4  # of a picture in [0, 1], after ten steps


class Case:
    """A small pipeline of diffusers, the folder with it and the files of adapters for it."""

    def __init__(self, base: str, folder: Path):
        self.base, self.folder = base, folder
        self.pipeline: Any = peers.make_pipeline(base, folder)
        for i, name in enumerate(("text_encoder", "text_encoder_2")):
            if getattr(self.pipeline, name, None) is not None:
                fakes.randomize(getattr(self.pipeline, name), 10 + i)
        self.pipeline.save_pretrained(folder / "m")
        self.pipeline.set_progress_bar_config(disable=True)
        tower = adapters.make_tower(folder)
        size = {"height": adapters.SIDE, "width": adapters.SIDE}
        processor = CLIPImageProcessorPil(size={"shortest_edge": adapters.SIDE}, crop_size=size)
        self.pipeline.register_modules(image_encoder=tower, feature_extractor=processor)
        self.files, self.states = {}, {}
        for seed, kind in enumerate(KINDS):
            end = ".bin" if kind == "plain" else ".safetensors"
            self.files[kind] = folder / f"{kind}{end}"
            state = adapters.make_adapter(self.files[kind], self.pipeline, kind, seed)
            self.states[kind] = state
        self.pictures = [
            adapters.make_picture(folder / f"{i}.png", size, i)
            for i, size in enumerate(((50, 40), (33, 71), (32, 32)))
        ]
        self.engine = load(folder / "m")

    def prepare_theirs(self, kinds: tuple[str, ...], scale: Any = 1.0) -> Any:
        self.pipeline.unet.float()
        states = [self.states[kind] for kind in kinds]
        self.pipeline.load_ip_adapter(states, [""] * len(kinds), [""] * len(kinds))
        self.pipeline.set_ip_adapter_scale(scale)
        return self.pipeline

    def ask(self, kinds: tuple[str, ...], pictures: list[list[int]], **more: Any) -> dict:
        """The add-ons of a request."""
        items = [
            {"name": kind, "file": self.files[kind], "pictures": [self.pictures[i] for i in of]}
            for kind, of in zip(kinds, pictures, strict=True)
        ]
        return {"ip_adapters": [item | more for item in items]}


@pytest.fixture(scope="module", params=["sd1", "xl"])
def case(request, tmp_path_factory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def sd1(tmp_path_factory) -> Case:
    return Case("sd1", tmp_path_factory.mktemp("one"))


def measure(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.square().mean().sqrt())


@torch.inference_mode()
def compare_answers(
    case: Case, kinds: tuple[str, ...], pictures: list[list[int]], dtype=torch.float32
) -> float:
    """How far the U-Net's answers without pictures and with them (the rows of a step) are apart."""
    weights = [0.7, 0.4][: len(kinds)]
    theirs = case.prepare_theirs(kinds, weights)
    theirs.image_encoder.to(dtype)
    shown = [[read_rgb(case.pictures[i]) for i in of] for of in pictures]
    unet = theirs.unet.to(dtype)
    embeds = theirs.prepare_ip_adapter_image_embeds(shown, None, "cpu", 1, True)
    theirs.image_encoder.float()
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 8, 8, generator=draw).to(dtype)
    t, context = torch.tensor(400), unet.config.cross_attention_dim
    words = torch.randn(2, 16, context, generator=draw).to(dtype)
    added: dict[str, Any] = {"image_embeds": embeds}
    slots = {}
    if case.base == "xl":
        slots = {"pooled": torch.randn(2, 8, generator=draw).to(dtype)}
        slots["time_ids"] = torch.tensor([[16.0, 16, 0, 0, 16, 16]] * 2)
        added |= {"text_embeds": slots["pooled"], "time_ids": slots["time_ids"]}
    expected = unet(x, t, words, added_cond_kwargs=added).sample
    network = load(case.folder / "m").model.unet.to(dtype)
    tower = open_encoder(case.folder / "image_encoder").load().to(dtype)
    looks, tokens = [], []
    for kind, of, weight in zip(kinds, pictures, weights, strict=True):
        adapter = ip_adapter.load(case.files[kind])
        adapter.prompt.projection.to(dtype)
        pixels = [ip_adapter.prepare_picture(read_rgb(case.pictures[i]), 32) for i in of]
        seen = [adapter.prompt.project(tower(one.to(dtype))) for one in pixels]
        blank = [adapter.prompt.project_nothing(tower(torch.zeros_like(pixels[0]).to(dtype)))]
        tokens.append(torch.cat((torch.cat(blank * len(of), 1), torch.cat(seen, 1))))
        layers = ip_adapter.name_layers(adapter, network)
        looks.append(Look(layers, tokens[-1].shape[1], dict.fromkeys(layers, weight)))
    both = Conditioning(words, image_tokens=torch.cat(tokens, 1), **slots)
    return measure(add_looks(network, looks)(x, t, both), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_the_network_are_those_of_diffusers(case, kind):
    assert compare_answers(case, (kind,), [[0]]) < SINGLE
    assert compare_answers(case, (kind,), [[1]], torch.float64) < DOUBLE


def test_two_adapters_and_several_pictures_are_those_of_diffusers(case):
    assert compare_answers(case, ("plain", "plus"), [[0, 1], [2]]) < SINGLE
    assert compare_answers(case, ("plain", "full"), [[0], [1]], torch.float64) < DOUBLE


def draw_ours(case: Case, **settings: Any) -> tuple[np.ndarray, torch.Tensor]:
    first, last = [], []
    unet = case.engine.model.unet
    hook = unet.conv_in.register_forward_pre_hook(lambda _, given: first.append(given[0][:1]))
    settings = {"steps": 10, "seed": 1, "cfg": 5.0, "negative_prompt": "a dog"} | settings
    case.engine.generate("a neon cat", watch=last.append, **settings)
    hook.remove()
    with torch.inference_mode():
        image = case.engine.model.vae.to_image(last[-1].x)[0].permute(1, 2, 0).numpy()
    return (image / 2 + 0.5).clip(0, 1), first[0].clone()


def compare_pictures(case: Case, kinds=("plus",), pictures=((0,),), scale: Any = 0.8, **more):
    addons = case.ask(kinds, [list(of) for of in pictures], **{"weight": 0.8} | more)
    ours, first = draw_ours(case, addons=addons)
    shown = [[read_rgb(case.pictures[i]) for i in of] for of in pictures]
    theirs = case.prepare_theirs(kinds, [scale] * len(kinds))
    seen = {"ip_adapter_image": shown, "latents": first, "height": 16, "width": 16}
    options = {"negative_prompt": "a dog", "guidance_scale": 5.0, "num_inference_steps": 10}
    drawn = theirs("a neon cat", output_type="np", **seen, **options).images[0]
    return np.abs(ours - drawn).max()


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_picture_is_that_of_diffusers(case, kind):
    assert compare_pictures(case, (kind,)) < PICTURE


def test_the_picture_of_two_adapters_is_that_of_diffusers(case):
    kinds, pictures = ("plain", "full"), ((0, 2), (1,))
    assert compare_pictures(case, kinds, pictures) < PICTURE
