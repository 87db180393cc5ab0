"""Two pictures in one: what each ingredient does, batches, and replay."""

import fakes
import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.api import Engine
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.errors import BadInput
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture
from fromnoise.pipeline.seeing.blend import guide_by_clip
from fromnoise.pipeline.seeing.clip import embed

WORDS = ["a cat", "a neon cat", "neon space", "pen", "x y z"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=2.0, sampler="euler"))


def noisy(width=32, height=32, seed=0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    )


A, B = noisy(seed=1), Image.new("RGB", (48, 40))


def test_the_weight_goes_from_one_to_the_other(engine):
    def begun(weight, second=B):
        found = []
        engine.blend(A, second, "a cat", seed=1, weight=weight, strength=0.1, watch=found.append)
        return found[-1].x

    # nothing of the second; a·sin ω/sin ω rounds
    torch.testing.assert_close(begun(0.0), begun(0.0, noisy(seed=3)), rtol=0, atol=1e-5)
    middle, near, far = begun(0.5), begun(0.0), begun(1.0)
    assert (middle - near).norm() < (far - near).norm()
    assert (middle - far).norm() < (far - near).norm()


def test_without_words_the_captions_of_both_are_the_prompt(engine):
    drawn = engine.blend(A, B, phrases=WORDS, seed=1, weight=0.25)
    told = [engine.describe(picture, WORDS, 1)[0].caption for picture in (A, B)]
    assert told[0] != told[1]
    assert drawn.info["parameters"].startswith(
        f'("{told[0]}", "{told[1]}").blend(0.75, 0.25, no_normalize)\n'
    )
    assert "Prompt dialect: compel" in drawn.info["parameters"]
    only = engine.blend(A, B, phrases=WORDS, seed=1, weight=0)
    assert only.info["parameters"].startswith(f'("{told[0]}").blend(1, no_normalize)\n')


def test_guidance_goes_uphill(engine):
    """By finite differences along the step: the cosine grows by what the gradient says."""
    model = engine.model
    target = torch.nn.functional.normalize(
        torch.randn(12, generator=torch.Generator().manual_seed(0)), dim=0
    )
    x0 = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    @torch.inference_mode()
    def cosine(z):
        return torch.nn.functional.cosine_similarity(
            embed(model.vision, model.vae.to_image(z)), target[None]
        )

    scale, sigma = 1e-2, 2.0
    moved = guide_by_clip(model, lambda query: Answer(x0), target, scale)(Query(x0, sigma, 0)).x0
    step = (moved - x0).flatten(1)
    # the step is k·∇cos with k = scale·σ²/(1 + σ²), so the cosine grows by |step|²/k; to a
    # hundredth at this size
    grown, expected = (
        cosine(moved) - cosine(x0),
        step.square().sum(1) / (scale * sigma**2 / (1 + sigma**2)),
    )
    assert (expected > 1e-6).all()
    torch.testing.assert_close(grown, expected, rtol=0.05, atol=2e-7)


def test_clip_brings_the_picture_nearer_to_what_it_sees(engine):
    """Halfway the target lies along the sum of both embeddings, so that the sum of the cosines must
    grow."""
    for weight in (0.0, 0.5, 1.0):
        drawn = [
            engine.blend(A, B, "a cat", seed=1, weight=weight, clip_scale=scale)
            for scale in (0.0, 3.0)
        ]
        far, near = engine.seeing.cosines(drawn, [A, B]) @ torch.tensor([1 - weight, weight])
        assert near > far


def test_a_batch_is_its_pictures_alone(engine):
    both = engine.blend(A, B, "a cat", seed=5, count=2, clip_scale=3.0)
    alone = [engine.blend(A, B, "a cat", seed=seed, clip_scale=3.0) for seed in (5, 6)]
    assert [p.tobytes() for p in both] == [p.tobytes() for p in alone]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip_scale": 2.5, "weight": 0.3},
        {"prompt": "a (cat:1.2)", "width": 40},
        {"strength": 1.0, "sampler": "dpmpp_2m_sde", "clip_scale": 1.0},
    ],
)
def test_blends_are_replayed(engine, tmp_path, settings):
    first, second, path = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "drawn.png"
    A.save(first)
    B.save(second)
    save_picture(engine.blend(first, second, phrases=WORDS, seed=3, **settings), path)
    found = replay(path, engine.model, engine.unet, first, image2=second)
    assert found.verdict == "identical", found.reasons
    assert found.unused.keys() <= {
        "Model",
        "Model hash",
        "VAE hash",
        "Plan",
        "Version",
        "Torch",
        "Threads",
    }
    others = (
        ({}, "--image"),
        ({"image": first}, "--image2"),
        ({"image": second, "image2": first}, "is not the image"),
    )
    for sources, said in others:
        with pytest.raises(BadInput, match=said):
            replay(path, engine.model, engine.unet, **sources)


def test_what_cannot_be_done_is_said(engine, tmp_path):
    blind = Engine(fakes.model(tmp_path, vision=False, steps=2))
    for given in ({}, {"prompt": "a cat", "clip_scale": 1.0}):
        with pytest.raises(BadInput, match="image tower"):
            blind.blend(A, B, phrases=WORDS, **given)
    assert blind.blend(A, B, "a cat", seed=1)
    with pytest.raises(BadInput, match="no phrases"):
        engine.blend(A, B, phrases=[])
    with pytest.raises(BadInput, match="weight"):
        engine.blend(A, B, "a cat", weight=2)
