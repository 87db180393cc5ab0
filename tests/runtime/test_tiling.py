"""Seamless tiling: the networks cannot tell where a picture ends, and nothing of it is left
afterwards."""

import threading

import fakes
import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.api import Engine
from fromnoise.errors import BadInput
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture
from fromnoise.runtime.tiling import Circular, make_circular

# fp64: rounding is about 1e-15 a layer, and a shift changes no sum's order; 1e-9 is the bar of the
# parity tests
EXACT = 1e-9


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=2.0))


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """(a function of latents, one of latents, one of pictures; what it takes; how far a shift by 1
    shifts its result; what shifts must be multiples of)."""
    model = fakes.model(tmp_path_factory.mktemp("words"))
    unet, vae = model.unet.double(), model.vae.double()
    conditioning, t = Conditioning(randn(1, 16, 16, seed=1)), torch.tensor(300.0)
    x, image = randn(1, 4, 8, 12, seed=2), randn(1, 3, 32, 48, seed=3)
    return {
        "unet": (lambda x: unet(x, t, conditioning), x, 1, 2),  # one halving
        "decoder": (vae.to_image, x, vae.config.factor, 1),
        "encoder": (vae.to_latents, image, 1 / vae.config.factor, vae.config.factor),
    }


@pytest.mark.parametrize("name", ["unet", "decoder", "encoder"])
@pytest.mark.parametrize("axes", ["none", "x", "y", "both"])
@torch.inference_mode()
def test_what_is_shifted_around_comes_out_shifted_around(networks, name, axes):
    network, given, scale, stride = networks[name]
    network = make_circular(network, axes)
    for down, across in ((1, 0), (0, 1), (3, 2)):
        there = [down * stride, across * stride]
        back = network(given.roll(there, (2, 3))).roll([-int(n * scale) for n in there], (2, 3))
        apart = (back - network(given)).abs().max().item()
        if (not down or axes in ("y", "both")) and (not across or axes in ("x", "both")):
            assert apart <= EXACT
        else:
            assert apart > 0.01  # what is not tiled knows its edges: the test can fail


@torch.inference_mode()
def test_nothing_is_left_of_it(networks):
    """Not after an error, and not in another thread meanwhile."""
    network, given, *_ = networks["unet"]
    plain = network(given)
    with pytest.raises(RuntimeError), Circular("both"):
        network(given[:, :1])
    assert torch.equal(network(given), plain)

    found = []
    with Circular("both"):
        inside = network(given)
        other = threading.Thread(target=lambda: found.append(network(given)))
        other.start()
        other.join()
    assert torch.equal(found[0], plain)
    assert not torch.equal(inside, plain)


def test_between_the_steps_of_a_run_nothing_is_tiled(engine):
    x = randn(1, 4, 8, 8, seed=5).float()
    with torch.inference_mode():
        plain = engine.model.vae.to_image(x)
        seen = []
        for step in engine.steps("a cat", seed=1, tiling="both"):
            assert torch.equal(engine.model.vae.to_image(x), plain)
            seen.append(step.x)
    drawn = engine.generate("a cat", seed=1, tiling="both").tobytes()
    assert engine.pictures(seen[-1], "both")[0].tobytes() == drawn
    assert engine.pictures(seen[-1])[0].tobytes() != drawn


@pytest.mark.parametrize(
    "prompt", ["a cat", "a (cat:1.2) AND a dog :0.5", "a [cat:dog:0.5] BREAK in space"]
)
def test_with_the_language_of_prompts_and_in_batches(engine, prompt):
    def draw(**more):
        return engine.generate(prompt, tiling="both", **more)

    some = draw(seed=7, count=3)
    assert [p.tobytes() for p in some] == [draw(seed=s).tobytes() for s in (7, 8, 9)]
    noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels, shifted = (
        np.asarray(draw(latents=z, seed=1), int) for z in (noise, noise.roll((2, 4), (1, 2)))
    )
    # fp32 over a run, of pictures of 8 bits: a rounding may fall to the other side
    assert np.abs(np.roll(pixels, (8, 16), (0, 1)) - shifted).max() <= 1
    plain, moved = (
        np.asarray(engine.generate(prompt, latents=z, seed=1), int)
        for z in (noise, noise.roll(2, 1))
    )
    assert np.abs(np.roll(plain, 8, 0) - moved).max() > 20


def test_a_guide_is_tiled_as_well(tmp_path):
    model = fakes.model(tmp_path / "a", steps=3)
    weaker = fakes.model(tmp_path / "b")
    fakes.randomize(weaker.unet, 11)
    guided = Engine(model, guide=weaker)
    noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))
    there, here = (
        np.asarray(guided.generate("a cat", latents=z, seed=1, tiling="y", cfg=3.0), int)
        for z in (noise, noise.roll(2, 1))
    )
    assert np.abs(np.roll(there, 8, 0) - here).max() <= 1
    assert (
        there
        != np.asarray(Engine(model).generate("a cat", latents=noise, seed=1, tiling="y", cfg=3.0))
    ).any()


def test_edits_are_tiled_and_replayed(engine, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 8, 32, 24))
    image.save(tmp_path / "image.png")
    mask.save(tmp_path / "mask.png")
    drawn = {
        axes: engine.edit(image, "a cat", mask, seed=1, tiling=axes)
        for axes in ("none", "x", "both")
    }
    assert len({p.tobytes() for p in drawn.values()}) == 3
    for axes, picture in drawn.items():
        save_picture(picture, tmp_path / "a.png")
        assert ("Tiling" in picture.info["parameters"]) == (axes != "none")
        found = replay(
            tmp_path / "a.png",
            engine.model,
            engine.unet,
            tmp_path / "image.png",
            tmp_path / "mask.png",
        )
        assert found.verdict == "identical", axes
    with pytest.raises(BadInput, match="only_masked"):
        engine.edit(image, "a cat", mask, tiling="x", only_masked=True)
