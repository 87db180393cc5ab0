"""Every sampler on the bundled model: with every spacing to a finite picture, and the same bits in
any batch."""

from typing import Any

import numpy as np
import pytest
import torch

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS

# A quarter of the model's own pixels, and a loose tolerance where the steps are chosen by it: the
# same code runs, in a quarter of the time.
SMALL: dict[str, Any] = {"steps": 3, "cfg": 2.0, "width": 64, "height": 64}
LOOSE = {"dpm_adaptive": {"sampler_options": {"rtol": 0.5, "atol": 0.5, "h_init": 2.0}}}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_spacing_leads_to_a_finite_picture(engine, sampler):
    settings = SMALL | LOOSE.get(sampler, {})
    for spacing in SPACINGS:
        *_, last = engine.steps(
            "a red rocket in the desert", seed=1, sampler=sampler, spacing=spacing, **settings
        )
        with torch.inference_mode():
            assert torch.isfinite(engine.model.vae.to_image(last.x)).all(), spacing


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_batch_of_eight_is_eight_single_pictures_bit_for_bit(engine, sampler):
    settings = SMALL | {"sampler": sampler} | LOOSE.get(sampler, {})
    *_, batch = engine.steps("a red rocket in the desert", seed=5, count=8, **settings)
    for i in range(8):
        *_, alone = engine.steps("a red rocket in the desert", seed=5 + i, **settings)
        assert torch.equal(batch.x[i : i + 1], alone.x)


def test_the_batched_plan_keeps_its_bound(engine):
    """What runtime.prepare says of it: 20 steps in fp32 differ by at most 2 of 255 levels."""
    settings = {"seed": 5, "count": 8, "sampler": "dpmpp_2m"}
    exact = engine.generate("a neon cat in space", **settings)
    fast = Engine(engine.model, batch=8).generate("a neon cat in space", **settings)
    apart = [
        np.abs(np.asarray(a).astype(int) - np.asarray(b)).max()
        for a, b in zip(exact, fast, strict=True)
    ]
    assert max(apart) <= 2
