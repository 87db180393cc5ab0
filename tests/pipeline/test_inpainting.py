"""Models made for inpainting, of 9 channels: what they see, and the pictures of diffusers' own
pipeline."""

import json
import logging
import shutil

import fakes
import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.api import load
from fromnoise.checkpoints.formats import diffusers_folder as folders
from fromnoise.checkpoints.formats import diffusers_folder_save as writing
from fromnoise.errors import BadCheckpoint
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture


def noisy() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))


def white(*inside: int) -> Image.Image:
    mask = Image.new("L", (32, 32))
    mask.paste(255, inside)
    return mask


# it ends within latents, which are of 4 pixels: the first pixel of each latent counts
MASK = white(6, 9, 27, 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose autoencoder is sure of itself: diffusers draws from the posterior, whose
    variance is here e⁻³⁰."""
    where = tmp_path_factory.mktemp("model")
    model = fakes.model(
        where / "w", "eps", vision=False, in_channels=9, spacing="leading", sampler="ddim"
    )
    with torch.no_grad():
        model.vae.quant_conv.weight[4:] = 0
        model.vae.quant_conv.bias[4:] = -30
    writing.save(model, where / "m", torch.float32)
    return where / "m"


@pytest.fixture(scope="module")
def engine(folder):
    return load(folder)


def inputs(engine, call) -> list[torch.Tensor]:
    """What the U-Net's first layer is given."""
    seen = []
    hook = engine.model.unet.conv_in.register_forward_pre_hook(
        lambda module, given: seen.append(given[0].clone())
    )
    call()
    hook.remove()
    return seen


@pytest.mark.parametrize("prompt", ["a neon cat", "a neon cat in space"])
def test_diffusers_paints_the_same(folder, engine, prompt):
    """20 steps in fp32: rounding in another order of sums, 5e-5 as in the tests of the folder; and
    the posterior's σ of e⁻¹⁵ = 3e-7. Without the mask's channels, or with x0 put back outside, it
    is off by more than 0.1."""
    from diffusers import StableDiffusionInpaintPipeline

    logging.disable(logging.WARNING)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    last = []
    settings = {"negative_prompt": "a dog", "cfg": 5, "steps": 20, "seed": 1, "strength": 1.0}
    first = inputs(
        engine, lambda: engine.edit(noisy(), prompt, MASK, watch=last.append, **settings)
    )[0]
    expected = pipeline(
        prompt,
        negative_prompt="a dog",
        image=noisy(),
        mask_image=MASK,
        latents=first[:1, :4],
        guidance_scale=5.0,
        num_inference_steps=20,
        strength=1.0,
        width=32,
        height=32,
        output_type="np",
    ).images[0]
    with torch.inference_mode():
        image = engine.model.vae.to_image(last[-1].x)[0].permute(1, 2, 0).numpy()
    assert expected.std() > 0.1
    assert np.abs((image / 2 + 0.5).clip(0, 1) - expected).max() < 5e-5


def test_what_the_network_sees(engine):
    given = inputs(engine, lambda: engine.edit(noisy(), "a cat", MASK, seed=1, steps=2, cfg=2.0))[0]
    assert given.shape == (2, 9, 8, 8)  # with the prompt and without
    mask = np.asarray(MASK)[::4, ::4] / 255
    grey = torch.from_numpy(np.asarray(noisy()) / 127.5 - 1).permute(2, 0, 1)[None].float()
    grey = grey * torch.from_numpy(np.asarray(MASK) == 0)
    with torch.inference_mode():
        hidden = engine.model.vae.to_latents(grey)[0]
        blank = engine.model.vae.to_latents(torch.zeros(1, 3, 32, 32))[0]
    for half in given:
        assert (half[4].numpy() == mask).all()
        assert torch.allclose(half[5:], hidden, atol=1e-6)
    # from words alone, and where a whole picture is redrawn, all of it is hidden
    drawn = inputs(engine, lambda: engine.generate("a cat", seed=1, steps=2))
    for given in (drawn, inputs(engine, lambda: engine.edit(noisy(), "a cat", seed=1, steps=2))):
        for half in given[0]:
            assert (half[4] == 1).all()
            assert torch.allclose(half[5:], blank, atol=1e-6)


def test_it_works_with_all_the_rest(engine, tmp_path):
    """The language of prompts, batches, tiling, extensions and replay; outside of the mask no byte
    changes."""
    outside = np.asarray(MASK) == 0
    for more in (
        {},
        {"tiling": "both"},
        {"extend_right": 8},
        {"only_masked": True},
        {"content": "noise"},
    ):
        drawn = engine.edit(
            noisy(), "a (cat:1.2) AND a dog :0.5", MASK, seed=3, steps=3, count=2, **more
        )
        noisy().save(tmp_path / "image.png")
        MASK.save(tmp_path / "mask.png")
        for picture in drawn:
            assert (np.asarray(picture)[:, :32][outside] == np.asarray(noisy())[outside]).all()
            save_picture(picture, tmp_path / "a.png")
            found = replay(
                tmp_path / "a.png",
                engine.model,
                engine.unet,
                tmp_path / "image.png",
                tmp_path / "mask.png",
            )
            assert found.verdict == "identical", more
    batch = engine.generate("a [cat:dog:0.5]", seed=3, steps=3, count=2)
    assert batch[1].tobytes() == engine.generate("a [cat:dog:0.5]", seed=4, steps=3).tobytes()


def test_its_folder_says_what_it_is(folder, tmp_path):
    writing.save(folders.load(folder), tmp_path, torch.float32)
    for name in ("model_index.json", "unet/config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert "StableDiffusionInpaintPipeline" in (tmp_path / "model_index.json").read_text()


def test_other_channels_are_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 7}))
    with pytest.raises(BadCheckpoint, match=r"in_channels is 7, not 4, .* 5 more \(inpainting\)"):
        load(copy)
