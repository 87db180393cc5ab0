"""Embeddings (textual inversion): parity with diffusers, names in prompts, exactness."""

from pathlib import Path
from typing import Any

import fakes
import numpy as np
import peers
import pytest
import torch
from safetensors.torch import save_file

from fromnoise.api import load
from fromnoise.errors import BadInput, NotFound

PICTURE = (
    1e-4  # of a picture in [0, 1], after ten steps; a fault is off by more than ten times that
)


class Case:
    """A small pipeline of diffusers that knows two vectors by a name, the folder with it, and the
    file of the vectors."""

    def __init__(self, base: str, folder: Path):
        self.pipeline: Any = peers.make_pipeline(base, folder)
        names = [n for n in ("text_encoder", "text_encoder_2") if hasattr(self.pipeline, n)]
        draw = torch.Generator().manual_seed(5)
        parts = {}
        for i, (name, part) in enumerate(zip(names, ("clip_l", "clip_g"), strict=False)):
            encoder = getattr(self.pipeline, name)
            fakes.randomize(encoder, 10 + i)
            parts[part] = torch.randn(2, encoder.config.hidden_size, generator=draw)
        self.pipeline.save_pretrained(folder / "m")
        self.engine = load(folder / "m")
        # read again, so that each text encoder has a tokenizer of its own
        self.pipeline = type(self.pipeline).from_pretrained(folder / "m")
        self.file = folder / "paper.safetensors"
        save_file(parts if len(parts) == 2 else {"emb_params": parts["clip_l"]}, self.file)
        for name, vectors in zip(names, parts.values(), strict=True):
            self.pipeline.load_textual_inversion(
                vectors,
                token="paper",
                text_encoder=getattr(self.pipeline, name),
                tokenizer=getattr(self.pipeline, name.replace("text_encoder", "tokenizer")),
            )
        self.pipeline.set_progress_bar_config(disable=True)

    @property
    def addons(self) -> dict[str, Any]:
        return {"embeddings": [{"name": "paper", "file": self.file}]}

    def compare(self, ours: str, theirs: str | None = None, negative: str = "a dog") -> float:
        """How far our picture of one prompt and diffusers' of another are apart."""
        first, last = [], []
        unet = self.engine.model.unet
        hook = unet.conv_in.register_forward_pre_hook(lambda _, given: first.append(given[0][:1]))
        settings = {"steps": 10, "seed": 1, "cfg": 5.0, "addons": self.addons}
        self.engine.generate(ours, negative_prompt=negative, watch=last.append, **settings)
        hook.remove()
        with torch.inference_mode():
            image = self.engine.model.vae.to_image(last[-1].x)[0].permute(1, 2, 0).numpy()
        options = {"guidance_scale": 5.0, "num_inference_steps": 10, "output_type": "np"}
        drawn = self.pipeline(
            theirs or ours,
            negative_prompt=negative,
            latents=first[0].clone(),
            height=16,
            width=16,
            **options,
        ).images[0]
        return float(np.abs((image / 2 + 0.5).clip(0, 1) - drawn).max())


@pytest.fixture(scope="module", params=["sd1", "xl"])
def case(request, tmp_path_factory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param))


def test_the_picture_is_that_of_diffusers(case):
    assert case.compare("a paper cat") < PICTURE
    assert case.compare("a cat, paper", negative="paper, a dog") < PICTURE
    assert case.compare("a paper cat", "a cat") > 10 * PICTURE


@pytest.mark.parametrize(
    "prompt", ["a (paper:1.0) cat", "a embedding:paper cat", "a PAPER cat", "a [paper:dog:1.0] cat"]
)
def test_a_name_is_one_however_it_stands_in_the_prompt(case, prompt):
    assert case.compare(prompt, "a paper cat") < PICTURE


def test_a_weight_and_a_schedule_act_on_it(case):
    for prompt in ("a (paper:1.5) cat", "a [paper:dog:0.5] cat", "a paper AND a cat"):
        assert case.compare(prompt, "a paper cat") > 10 * PICTURE


def test_pictures_of_a_batch_and_a_trace_are_those_drawn_alone(case):
    draw, more = case.engine.generate, {"steps": 3, "addons": case.addons}
    both = draw("a paper cat", seed=4, count=2, **more)
    alone = [draw("a paper cat", seed=seed, **more) for seed in (4, 5)]
    assert [p.tobytes() for p in both] == [p.tobytes() for p in alone]
    traced, _ = case.engine.trace("a paper cat", seed=4, **more)
    assert traced.tobytes() == both[0].tobytes()
    assert "TI hashes" in both[0].info["parameters"]


def test_the_model_knows_nothing_of_it_afterwards(case):
    draw = case.engine.generate
    before = draw("a paper cat", seed=4, steps=2).tobytes()
    with_it = draw("a paper cat", seed=4, steps=2, addons=case.addons).tobytes()
    assert draw("a paper cat", seed=4, steps=2).tobytes() == before != with_it


def test_what_cannot_be_used_says_why(case, tmp_path):
    wide = tmp_path / "wide.safetensors"
    save_file({"emb_params": torch.zeros(1, 768)}, wide)
    addons = {"embeddings": [{"name": "wide", "file": wide}]}
    with pytest.raises(BadInput, match="wide"):
        case.engine.generate("a wide cat", steps=1, addons=addons)
    with pytest.raises(NotFound, match="absent"):
        case.engine.generate("absent", steps=1, addons={"embeddings": [{"name": "absent"}]})
