"""Every kind of model draws the whole picture of diffusers' own pipeline: Stable Diffusion 1, 2,
2-v and XL, the refiner, and those that see a mask, a picture or depths."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import peers
import pytest
import torch
from PIL import Image

from fromnoise.api import Engine, load
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip import CLIPText
from fromnoise.pipeline.conditioning import concat, sizes, weights
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.saving import save_picture
from fromnoise.prompt.tokenizer import Tokenizer
from fromnoise.prompt.tree import Chunk

logging.disable(logging.WARNING)
# 10 steps of fp32, each a rounding in another order of sums: 1e-5 or less of a picture of random
# networks, whose slopes are near 1. A fault is off by more than 1e-3.
TOLERANCE, FAULT = 5e-5, 1e-3
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
MASK = Image.new("L", (16, 16))
MASK.paste(255, (3, 5, 13, 12))
DEPTHS = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16), np.uint8))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Pipelines of random weights, as diffusers saves them. Their autoencoders are sure of
    themselves: diffusers draws from the posterior, whose variance is here e⁻³⁰."""
    root, found = tmp_path_factory.mktemp("kinds"), {}
    for kind in peers.KINDS:
        pipeline = peers.make_pipeline(kind, root / kind)
        for i, name in enumerate(("text_encoder", "text_encoder_2")):
            if getattr(pipeline, name, None) is not None:
                fakes.randomize(getattr(pipeline, name), 10 + i)
        with torch.no_grad():
            pipeline.vae.quant_conv.weight[4:] = 0
            pipeline.vae.quant_conv.bias[4:] = -30
        pipeline.save_pretrained(root / kind / "m")
        found[kind] = root / kind / "m"
    return found


@pytest.fixture(scope="module")
def depths(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("depths") / "depths.png"
    DEPTHS.save(path)
    return path


def draw_ours(
    engine: Engine, kind: str, prompt: str, depths: Path, **settings: Any
) -> tuple[Any, torch.Tensor]:
    """(the picture (H, W, 3) in [0, 1], what x was at first, as the network sees it)."""
    first, last = [], []
    hook = engine.model.unet.conv_in.register_forward_pre_hook(
        lambda module, given: first.append(given[0][:1, :4].clone())
    )
    settings = {"steps": 10, "seed": 1, "cfg": 5.0} | settings
    seen = {"inpainting": {"mask": MASK, "strength": 1.0}, "instruct": {}}
    seen |= {"xl-inpainting": seen["inpainting"], "refiner": {"strength": 0.45}}
    seen |= {"depth": {"strength": 0.65, "depth_map": depths}}
    if kind in seen:
        engine.edit(PICTURE, prompt, watch=last.append, **settings | seen[kind])
    else:
        engine.generate(prompt, watch=last.append, **settings)
    hook.remove()
    with torch.inference_mode():
        image = engine.model.vae.to_image(last[-1].x)[0].permute(1, 2, 0).numpy()
    return (image / 2 + 0.5).clip(0, 1), first[0]


def draw_theirs(folder: Path, kind: str, prompt: str, first: torch.Tensor, **settings: Any) -> Any:
    """The same by diffusers, from the same x."""
    import diffusers

    absent = {"depth_estimator": None, "feature_extractor": None} if kind == "depth" else {}
    pipeline = getattr(diffusers, peers.KINDS[kind][0]).from_pretrained(folder, **absent)
    pipeline.set_progress_bar_config(disable=True)
    seen: dict[str, Any] = {"height": 16, "width": 16}
    if kind.endswith("inpainting"):
        seen |= {"image": PICTURE, "mask_image": MASK, "strength": 1.0}
    if kind in ("instruct", "depth", "refiner"):
        seen = {"image": PICTURE, "strength": {"depth": 0.7, "refiner": 0.5}.get(kind)}
        pipeline.prepare_latents = lambda *_, **__: first
    if kind == "instruct":
        del seen["strength"]
    if kind == "depth":
        seen["depth_map"] = torch.from_numpy(np.array(DEPTHS, np.float32))[None]
    if kind in ("xl", "sd1", "sd2", "sd2-v") or kind.endswith("inpainting"):
        seen["latents"] = first
    settings = {"guidance_scale": 5.0, "num_inference_steps": 10} | settings
    return pipeline(prompt, output_type="np", **seen | settings).images[0]


KNOWN: dict[tuple[str, str], Any] = {}  # diffusers' pictures by kind and negative prompt


def measure(folders, depths, kind: str, negative: str = "a dog") -> float:
    """How far our picture is from diffusers', at most."""
    engine = load(folders[kind])
    picture, first = draw_ours(engine, kind, "a neon cat", depths, negative_prompt=negative)
    empty = None if peers.KINDS[kind][1].get("xl") else ""
    if (kind, negative) not in KNOWN:
        told = {"negative_prompt": negative or empty}
        KNOWN[kind, negative] = draw_theirs(folders[kind], kind, "a neon cat", first, **told)
    theirs = KNOWN[kind, negative]
    assert theirs.std() > 0.05
    return np.abs(picture - theirs).max()


@pytest.mark.parametrize("negative", ["", "a dog"])
@pytest.mark.parametrize("kind", peers.KINDS)
def test_the_whole_picture_is_that_of_diffusers(folders, depths, kind, negative):
    assert measure(folders, depths, kind, negative) < TOLERANCE


def plant_final_norm(patch):
    """The last norm over the last layer but one, as in Stable Diffusion 2's single files."""
    _change_encoders(patch, final_norm=True)


def plant_last_layer(patch):
    _change_encoders(patch, layer=1)


def _change_encoders(patch, **changes):
    plain = weights._encode_with
    patch.setattr(
        weights, "_encode_with", lambda encoder, *more: plain(replace(encoder, **changes), *more)
    )


def plant_first_pooled(patch):
    """Pooled before the projection."""
    plain = weights._encode_with

    def encode(encoder, chunks, *more):
        states, pooled = plain(encoder, chunks, *more)
        network = encoder.network
        if network.text_projection is not None:
            pooled = pooled @ network.text_projection.weight.inverse().T
        return states, pooled

    patch.setattr(weights, "_encode_with", encode)


def plant_other_order(patch):
    """Width before height, which the sizes of a square hide; so the crop takes their place."""
    names = sizes.KINDS[6]
    patch.setitem(sizes.KINDS, 6, (*names[2:4], *names[:2], *names[4:]))


def plant_encoded_empty(patch):
    """The empty negative prompt read, not zeros: what ComfyUI does."""
    plain = LatentDiffusion.__init__

    def build(self, *args, **more):
        plain(self, *args, **more | {"zero_empty_negative": False})

    patch.setattr(LatentDiffusion, "__init__", build)


def plant_other_padding(patch):
    """The end token as padding, where a tokenizer has "!"."""
    plain = Tokenizer.__init__

    def build(self, *args, **more):
        plain(self, *args, **more)
        self.pad_id = 0 if self.pad_id == self.eos_id else self.eos_id

    patch.setattr(Tokenizer, "__init__", build)


def plant_last_end(patch):
    """The state at the last end token, not at the first: padding has the same id."""
    plain = CLIPText.forward

    def forward(self, ids, seen=None):
        out = plain(self, ids, seen)
        pooled = out.last_hidden[:, -1]
        embeds = None if self.text_projection is None else self.text_projection(pooled)
        return out._replace(pooled=pooled, embeds=embeds)

    patch.setattr(CLIPText, "forward", forward)


TRAPS = {
    "the last norm": ("xl", plant_final_norm),
    "the last layer": ("xl", plant_last_layer),
    "pooled without projection": ("xl", plant_first_pooled),
    "crop before sizes": ("xl", plant_other_order),
    "the empty prompt read": ("xl", plant_encoded_empty),
    "other padding": ("xl", plant_other_padding),
    "the last end token": ("xl", plant_last_end),
    "one score for both": ("refiner", lambda patch: patch.setattr(sizes, "SCORES", (6.0, 6.0))),
    "no map of depths": (
        "depth",
        lambda patch: patch.setitem(
            concat.BUILDERS, "depth", lambda *args: concat.show_depths(*args) * 0.9
        ),
    ),
    "scaled latents": (
        "instruct",
        lambda patch: patch.setitem(
            concat.BUILDERS, "instruct", lambda *args: concat.show_instructed(*args) * 0.18215
        ),
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_planted_fault_shows(folders, depths, trap, monkeypatch):
    kind, plant = TRAPS[trap]
    plant(monkeypatch)
    assert measure(folders, depths, kind, "" if "empty" in trap else "a dog") > FAULT


def test_clip_skip_counts_as_in_a1111_and_comfyui(tmp_path):
    """diffusers counts what it leaves out beyond the usual layer, which is the last but one of XL.
    The pooled text is of the last layer all the same."""
    for kind, pairs in {"sd1": ((1, 1), (2, 2)), "xl": ((1, None), (2, None), (3, 1))}.items():
        pipeline = peers.make_pipeline(kind, tmp_path / kind, layers=5)
        for i, name in enumerate(("text_encoder", "text_encoder_2")):
            if getattr(pipeline, name, None) is not None:
                fakes.randomize(getattr(pipeline, name), 10 + i)
        pipeline.save_pretrained(tmp_path / kind / "m")
        model = load(tmp_path / kind / "m").model
        for ours, theirs in pairs:
            read = weights.encode_weighted(model, (Chunk("a neon cat"),), clip_skip=ours)
            more = weights.encode_weighted(model, (Chunk("a neon cat"),), clip_skip=ours + 2)
            if kind == "sd1":  # diffusers' own clip_skip fails with transformers 5
                ids, _ = model.tokenizer.encode("a neon cat")
                tower = pipeline.text_encoder
                states = tower(torch.tensor([ids]), output_hidden_states=True).hidden_states
                assert torch.allclose(
                    read.context, tower.final_layer_norm(states[-theirs]), atol=1e-5
                )
                continue
            settings = {"device": "cpu", "num_images_per_prompt": 1, "clip_skip": theirs}
            told = pipeline.encode_prompt(
                "a neon cat", do_classifier_free_guidance=False, **settings
            )
            assert torch.allclose(read.context, told[0], atol=1e-5)
            assert not torch.allclose(more.context, told[0], atol=1e-2)
            assert torch.allclose(read.pooled, told[2], atol=1e-5)
            assert torch.equal(read.pooled, more.pooled)


def test_a_refiner_takes_over_where_diffusers_hands_over(folders, tmp_path):
    """denoising_end and denoising_start, of the same steps: 8 of 10 by the base."""
    import diffusers

    base, refiner = folders["xl"], folders["refiner"]
    engine = load(base, refiner=refiner)
    picture, first = draw_ours(engine, "xl", "a neon cat", tmp_path, negative_prompt="a dog")
    settings = {"num_inference_steps": 10, "guidance_scale": 5.0, "negative_prompt": "a dog"}
    one = diffusers.StableDiffusionXLPipeline.from_pretrained(base)
    two = diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(refiner)
    for pipeline in (one, two):
        pipeline.set_progress_bar_config(disable=True)
    size = {"height": 16, "width": 16}
    noisy = one(
        "a neon cat", latents=first, denoising_end=0.8, output_type="latent", **size, **settings
    ).images
    theirs = two(
        "a neon cat", image=noisy, denoising_start=0.8, output_type="np", **settings
    ).images[0]
    assert np.abs(picture - theirs).max() < TOLERANCE
    for switch in (0.75, 0.95):  # one step earlier or later
        other = load(base, refiner=refiner, refiner_switch=switch)
        picture, _ = draw_ours(other, "xl", "a neon cat", tmp_path, negative_prompt="a dog")
        assert np.abs(picture - theirs).max() > FAULT
    plain = draw_ours(load(base), "xl", "a neon cat", tmp_path, negative_prompt="a dog")[0]
    never = load(base, refiner=refiner, refiner_switch=1.0)
    unused = draw_ours(never, "xl", "a neon cat", tmp_path, negative_prompt="a dog")[0]
    assert (unused == plain).all()


def test_a_refiner_is_recorded_and_asked_for(folders, tmp_path):
    engine = load(folders["xl"], refiner=folders["refiner"], refiner_switch=0.6)
    picture = engine.generate("a neon cat", seed=3, steps=4)
    assert isinstance(picture, Image.Image)
    text = picture.info["parameters"]
    assert f"Refiner: m [{engine.model.refiner.model.digest}], Refiner switch at: 0.6" in text
    path = save_picture(picture, tmp_path / "a.png")
    assert replay(path, engine.model, engine.unet).verdict == "identical"
    plain = load(folders["xl"])
    with pytest.raises(BadInput, match="drawn by a refiner") as refused:
        replay(path, plain.model, plain.unet)
    assert "--refiner-switch 0.6" in refused.value.remedy
    other = load(folders["xl"], refiner=folders["refiner"])
    with pytest.raises(BadInput, match=r"from 0\.6 on, not with"):
        replay(path, other.model, other.unet)
    alone = save_picture(plain.generate("a cat", seed=3, steps=2), tmp_path / "b.png")
    with pytest.raises(BadInput, match="without a refiner"):
        replay(alone, engine.model, engine.unet)


def test_what_a_model_needs_to_see_is_said(folders, depths, tmp_path):
    for kind, words in (("instruct", "changes a picture"), ("depth", "sees a map of depths")):
        with pytest.raises(BadInput, match=words):
            load(folders[kind]).generate("a cat", steps=2)
        with pytest.raises(BadInput, match="at every step"):
            load(folders[kind]).hires("a cat", steps=2)
    flat = tmp_path / "flat.png"
    Image.new("L", (16, 16), 9).save(flat)
    with pytest.raises(BadInput, match="flat"):
        load(folders["depth"]).edit(PICTURE, "a cat", depth_map=flat, steps=2)
    wide = tmp_path / "wide.png"
    Image.new("L", (32, 16), 9).save(wide)
    with pytest.raises(BadInput, match="32x16, the picture 16x16"):
        load(folders["depth"]).edit(PICTURE, "a cat", depth_map=wide, steps=2)


def test_edits_of_these_kinds_are_replayed(folders, depths, tmp_path):
    source = tmp_path / "source.png"
    PICTURE.save(source)
    engine = load(folders["instruct"])
    edited = engine.edit(source, "a cat", image_cfg=2.0, seed=5, steps=3)
    assert isinstance(edited, Image.Image)
    assert "Image CFG scale: 2" in edited.info["parameters"]
    assert "Denoising strength: 1" in edited.info["parameters"]
    path = save_picture(edited, tmp_path / "a.png")
    assert replay(path, engine.model, engine.unet, source).verdict == "identical"
    engine = load(folders["depth"])
    edited = engine.edit(source, "a cat", depth_map=depths, seed=5, steps=3)
    assert isinstance(edited, Image.Image)
    path = save_picture(edited, tmp_path / "b.png")
    again = replay(path, engine.model, engine.unet, source, depth_map=depths)
    assert again.verdict == "identical"
    assert not {"Depth map hash", "Image hash", "Denoising strength"} & again.unused.keys()
    with pytest.raises(BadInput, match="give it with --depth-map"):
        replay(path, engine.model, engine.unet, source)
    with pytest.raises(BadInput, match="not the map of depths"):
        replay(path, engine.model, engine.unet, source, depth_map=source)


@pytest.fixture(scope="module")
def xl(folders) -> Engine:
    return load(folders["xl"])


PROMPTS = {
    "words": ("a neon cat", {}),
    "weights": ("a (neon:1.3) cat BREAK in [space]", {"negative_prompt": "(dog:1.2)"}),
    "parts": ("a cat AND a neon dog :0.4", {}),
    "schedule": ("a [cat:dog:0.5] in space", {"negative_prompt": "a [b|c]"}),
    "comfy": ("a (cat:1.2) AND MASK(0 0.5) a dog", {"dialect": "comfy"}),
    "compel": ('("a cat++", "space").blend(0.7, 0.3)', {"dialect": "compel"}),
    "long": ("neon cat " * 30, {"negative_prompt": "dog " * 9}),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_draws_the_same_in_a_batch_and_when_replayed(xl, tmp_path, name):
    prompt, more = PROMPTS[name]
    settings = {"steps": 4, "cfg": 5.0} | more
    batch = xl.generate(prompt, seed=3, count=2, **settings)
    assert isinstance(batch, list)
    alone = xl.generate(prompt, seed=4, **settings)
    assert batch[1].tobytes() == alone.tobytes()
    path = save_picture(batch[1], tmp_path / "a.png")
    assert replay(path, xl.model, xl.unet).verdict == "identical"


def test_edits_second_passes_and_traces_are_as_exact(xl, tmp_path):
    source, paint = tmp_path / "source.png", tmp_path / "mask.png"
    PICTURE.save(source)
    MASK.save(paint)
    edited = xl.edit(source, "a cat", paint, seed=3, steps=4, count=2)
    assert isinstance(edited, list)
    path = save_picture(edited[1], tmp_path / "edit.png")
    assert replay(path, xl.model, xl.unet, source, paint).verdict == "identical"
    large = xl.hires("a neon cat", seed=3, steps=4, hires_scale=2.0)
    assert isinstance(large, Image.Image)
    assert large.size == (32, 32)
    path = save_picture(large, tmp_path / "hires.png")
    assert replay(path, xl.model, xl.unet).verdict == "identical"
    plain = xl.generate("a neon cat", seed=3, steps=4)
    traced, trace = xl.trace("a neon cat", seed=3, steps=4)
    assert isinstance(plain, Image.Image)
    assert isinstance(traced, Image.Image)
    assert traced.tobytes() == plain.tobytes()
    assert trace.words()[1:4] == ["a", "neon", "cat"]
    first = trace.calls[0][0].maps
    assert all(torch.allclose(m.sum(0), torch.ones(m.shape[1:]), atol=1e-4) for m in first.values())
    frames = xl.film(["a neon cat", "a dog"], key_seeds=(3, 4), frames=3, steps=3)
    assert len(frames) == 3
    key = xl.generate("a neon cat", seed=3, steps=3)
    assert isinstance(key, Image.Image)
    assert frames[0].tobytes() == key.tobytes()


def test_a_size_is_told_to_the_network(xl):
    """The same noise at another width is told another original and target size."""
    positive, negative = sizes.make_time_ids(
        xl.model, GenerationRequest(height=64, width=32, seed=1)
    )
    assert positive.tolist() == [[64, 32, 0, 0, 64, 32]] == negative.tolist()


def test_what_only_one_encoder_can_do_is_refused(xl, tmp_path):
    from fromnoise.checkpoints.formats.diffusers_folder_save import save
    from fromnoise.checkpoints.onnx.export import export

    with pytest.raises(BadInput, match="2 text encoders"):
        export(xl.model, tmp_path / "onnx")
    with pytest.raises(BadInput, match="2 text encoders"):
        save(xl.model, tmp_path / "m")
