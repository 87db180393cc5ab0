"""What a request tells SDXL of sizes, crops and scores: as diffusers does, recorded and drawn
again."""

import fakes
import numpy as np
import peers
import pytest
import torch

from fromnoise.api import Engine, load
from fromnoise.cli.values import parse_options
from fromnoise.errors import BadInput, UnknownName
from fromnoise.pipeline.conditioning.sizes import make_time_ids
from fromnoise.pipeline.generate import prepare_noise
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.saving import save_picture

PICTURE = 1e-4  # of a picture in [0, 1], after 10 steps; other sizes are off by more than 1e-3
SETTINGS = {"negative_prompt": "a dog", "cfg": 5.0, "steps": 10, "seed": 1}
TOLD = {"original_width": 700, "original_height": 300, "crop_top": 40, "crop_left": -8}
TOLD |= {"target_width": 64, "target_height": 96}
OTHER = {"negative_original_width": 9, "negative_original_height": 99, "negative_crop_top": 5}
OTHER |= {"negative_crop_left": 6, "negative_target_width": 77, "negative_target_height": 7}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(diffusers' small pipeline of the kind XL, an engine with it)."""
    folder = tmp_path_factory.mktemp("xl")
    pipeline = peers.make_pipeline("xl", folder)
    for i, encoder in enumerate((pipeline.text_encoder, pipeline.text_encoder_2)):
        fakes.randomize(encoder, 10 + i)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder / "m")
    return pipeline, load(folder / "m")


def draw(engine, **more):
    *_, last = engine.steps("a neon cat", **SETTINGS, **more)
    with torch.inference_mode():
        image = engine.model.vae.to_image(last.x)[0].permute(1, 2, 0).numpy()
    return (image / 2 + 0.5).clip(0, 1)


@pytest.mark.parametrize("negative", [{}, OTHER], ids=["both sides", "each its own"])
def test_the_picture_is_that_of_diffusers(pair, negative):
    pipeline, engine = pair
    request = GenerationRequest.of(prompt="x", **SETTINGS).resolve(engine.model)
    noise = prepare_noise(engine.model, request, [1])[1].initial
    sides = {"original_size": (300, 700), "crops_coords_top_left": (40, -8)}
    sides["target_size"] = (96, 64)
    if negative:
        sides |= {"negative_original_size": (99, 9), "negative_crops_coords_top_left": (5, 6)}
        sides["negative_target_size"] = (7, 77)
    wanted = pipeline(
        "a neon cat",
        negative_prompt="a dog",
        guidance_scale=5.0,
        num_inference_steps=10,
        latents=noise.clone(),
        height=16,
        width=16,
        output_type="np",
        **sides,
    ).images[0]
    found = draw(engine, size_conditions=TOLD | negative)
    assert np.abs(found - wanted).max() <= PICTURE
    assert np.abs(draw(engine) - wanted).max() > 10 * PICTURE
    turned = TOLD | {"original_width": 300, "original_height": 700}
    assert np.abs(draw(engine, size_conditions=turned | negative) - wanted).max() > 1e-3


def test_they_are_recorded_and_drawn_again(pair, tmp_path):
    engine = pair[1]
    picture = engine.generate("a neon cat", size_conditions=TOLD, **SETTINGS)
    assert picture.tobytes() != engine.generate("a neon cat", **SETTINGS).tobytes()
    save_picture(picture, tmp_path / "a.png")
    result = replay(tmp_path / "a.png", engine.model, engine.unet)
    assert result.verdict == "identical", result.reasons
    assert "Size conditions" not in result.unused
    batch = engine.generate("a neon cat", size_conditions=TOLD, count=2, **SETTINGS)
    assert batch[0].tobytes() == picture.tobytes()


def test_what_cannot_be_told_is_refused(pair, tmp_path):
    engine = pair[1]
    with pytest.raises(UnknownName, match="original_wide"):
        engine.generate("a", size_conditions={"original_wide": 3})
    with pytest.raises(UnknownName, match="aesthetic_score"):
        engine.generate("a", size_conditions={"aesthetic_score": 3})  # of the refiner alone
    for number in (float("nan"), float("inf"), 1e9):
        with pytest.raises(BadInput, match="crop_top"):
            engine.generate("a", size_conditions={"crop_top": number})
    plain = Engine(fakes.model(tmp_path))
    with pytest.raises(BadInput, match="told no sizes"):
        plain.generate("a", size_conditions={"crop_top": 3})
    options = parse_options(size_condition=["crop_top=9", "original_width=512"])
    request = GenerationRequest.of(prompt="a", **options)
    assert request.size_conditions == {"crop_top": 9.0, "original_width": 512.0}


def test_a_refiner_is_told_scores(tmp_path):
    model = load(peers.make_folder("refiner", tmp_path)).model
    told = {"aesthetic_score": 7.5, "negative_aesthetic_score": 1.0, "crop_left": 3}
    request = GenerationRequest.of(prompt="a", size_conditions=told).resolve(model)
    first, second = make_time_ids(model, request)
    assert first.tolist() == [[16, 16, 0, 3, 7.5]]
    assert second.tolist() == [[16, 16, 0, 3, 1.0]]
