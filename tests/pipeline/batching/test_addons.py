"""Runs with LoRA and ControlNets beside others, on two models at once: each draws what it draws
alone, and those with the same LoRA share their calls."""

import random
from collections import Counter

import control_nets as nets
import fakes
import numpy as np
import pytest
from loras import list_modules, make_pairs, save, write_kohya
from PIL import Image

from fromnoise.models.config import UNetConfig
from fromnoise.pipeline.batching.batcher import Batcher
from fromnoise.pipeline.editing.edit import edit
from fromnoise.pipeline.editing.request import EditRequest
from fromnoise.pipeline.generate import generate
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import prepare_model

LIKE = UNetConfig(4, 4, (16, 32), 1, (True, False), (2, 4), 16, (1,), 8, sample_size=8)
ALWAYS = {"cfg": 4.0, "cfg_sigma_max": float("inf")}
PAPER = {"name": "paper", "weight": 0.8}
INK = {"name": "ink", "weight": 0.5}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
# (model, kind, settings)
MIXED = [
    (0, "generate", {"steps": 8, **ALWAYS}),
    (1, "generate", {"steps": 8, **ALWAYS}),
    (0, "generate", {"steps": 8, "addons": {"loras": [PAPER]}, **ALWAYS}),
    (0, "generate", {"steps": 6, "prompt": "a cat <lora:paper:0.8>", "seed": 9, **ALWAYS}),
    (1, "generate", {"steps": 7, "addons": {"loras": [PAPER]}, "sampler": "heun", **ALWAYS}),
    (0, "generate", {"steps": 9, "addons": {"loras": [PAPER, INK]}, "cfg": 1.0}),
    (0, "generate", {"steps": 6, "prompt": "a cat <lora:ink:1:from=0.3:to=0.8>", **ALWAYS}),
    (0, "generate", {"steps": 6, "addons": {"controls": ["net"]}, **ALWAYS}),
    (0, "generate", {"steps": 8, "addons": {"controls": ["net"], "loras": [PAPER]}, **ALWAYS}),
    (1, "generate", {"steps": 5, "addons": {"controls": ["part"]}, "sampler": "dpmpp_2m"}),
    (0, "edit", {"steps": 10, "strength": 0.6, "addons": {"loras": [PAPER]}, **ALWAYS}),
    (1, "edit", {"steps": 8, "strength": 0.5, "prompt": "a red cat AND a dog"}),
]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Two models, two LoRA and a ControlNet that fit both."""
    monkeypatch.setenv("FROMNOISE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HOME", str(tmp_path))
    made = [fakes.model(tmp_path / f"w{i}", steps=4, sampler="euler") for i in range(2)]
    fakes.randomize(made[1].unet, 7)
    (tmp_path / "models" / "lora").mkdir(parents=True)
    names = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
    for seed, name in enumerate(("paper", "ink")):
        pairs = make_pairs(made[0], list_modules(made[0]), seed=seed)
        spelled = write_kohya(pairs, lambda part, module: names[part] + module.replace(".", "_"))
        save(tmp_path / "models" / "lora" / f"{name}.safetensors", spelled)
    net = nets.make_their_controlnet(LIKE, 1, (4, 8, 8))
    net.save_pretrained(tmp_path / "models" / "controlnet" / "net")
    PICTURE.save(tmp_path / "seen.png")
    return [(model, prepare_model(model)) for model in made], tmp_path / "seen.png"


def draw(models, job, run=None, watch=None):
    parts, seen = models
    which, kind, settings = job
    model, unet = parts[which]
    settings = {"prompt": "a neon cat", "seed": 3} | settings
    if controls := settings.get("addons", {}).get("controls"):
        one = {"name": "net", "file": seen.parent / "models/controlnet/net", "image": seen}
        one |= {"end": 0.5} if controls == ["part"] else {}
        settings["addons"] = settings["addons"] | {"controls": [one]}
    unet = run.share(unet) if run else unet
    if kind == "edit":
        [drawn] = edit(model, unet, EditRequest.of(**settings), PICTURE, None, watch)
    else:
        request = GenerationRequest.of(width=32, height=32, **settings)
        [drawn] = generate(model, unet, request, None, watch)
    return drawn.tobytes(), drawn.info["parameters"]


def test_each_draws_what_it_draws_alone(models):
    alone = [draw(models, job) for job in MIXED]
    assert len({pixels for pixels, _ in alone}) == len(MIXED)
    together, runs, chance = Counter(), {}, random.Random(2)
    batcher = Batcher()
    for i in chance.sample(range(len(MIXED)), len(MIXED)):

        def job(run, i=i):
            tell = lambda step: together.update([(i, run.together)])  # noqa: E731
            return draw(models, MIXED[i], run, tell)

        runs[i] = batcher.submit(job)
        for _ in range(chance.randrange(3)):
            batcher.step()
    while not all(run.future.done() for run in runs.values()):
        batcher.step()
    batcher.close()
    for i, before in enumerate(alone):
        assert runs[i].result() == before, MIXED[i]
    # what has the same LoRA on the same model shares, also where it was asked for in other words
    assert max(n for (i, n) in together if i in (2, 3, 10)) >= 2
    # and what has others, or another model, does not: a network answers its own runs alone
    assert all(n == 1 for (i, n) in together if i == 5)
