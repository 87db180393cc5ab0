"""Embeddings inside LoRA files draw what the same embedding in a file of its own draws."""

import fakes
import pytest
import torch
from loras import list_modules, make_pairs, save, write_kohya
from PIL import ImageChops
from safetensors.torch import save_file

from fromnoise.api import Engine
from fromnoise.checkpoints.hub import load_parts
from fromnoise.errors import BadCheckpoint
from fromnoise.pipeline.addon_fields.lora import Lora
from fromnoise.pipeline.addons.lora import collect_changes, put_on
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.saving import save_picture

KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_"}


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A model, a LoRA without and one with an embedding, and the embedding as a file."""
    engine = Engine(fakes.model(tmp_path, steps=2, cfg=3.0, sampler="euler"))
    monkeypatch.setenv("FROMNOISE_MODELS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lora").mkdir()
    (tmp_path / "embeddings").mkdir()
    modules = list_modules(engine.model)[::9]
    spell = lambda part, name: KOHYA[part] + name.replace(".", "_")  # noqa: E731
    tensors = write_kohya(make_pairs(engine.model, modules), spell)
    vectors = torch.randn(2, engine.model.text_encoder.config.dim)
    save(tmp_path / "lora" / "plain.safetensors", tensors)
    bundle = {"bundle_emb.mark.string_to_param.*": vectors}
    save(tmp_path / "lora" / "bundle.safetensors", tensors | bundle)
    save_file({"emb_params": vectors}, tmp_path / "embeddings" / "mark.safetensors")
    return engine


def differ(a, b):
    return ImageChops.difference(a, b).getbbox() is not None


def test_it_is_that_of_a_file_recorded_and_drawn_again(engine, tmp_path):
    prompt = "a (mark:1.2) cat"
    bundled = engine.generate(f"{prompt} <lora:bundle:0.5>", seed=1)
    addons = {"embeddings": [{"name": "mark"}]}
    alone = engine.generate(f"{prompt} <lora:plain:0.5>", seed=1, addons=addons)
    assert not differ(bundled, alone)
    words = engine.generate(f"{prompt} <lora:plain:0.5>", seed=1)
    assert differ(bundled, words)
    path = tmp_path / "x.png"
    save_picture(bundled, path)
    assert replay(path, engine.model, engine.unet).verdict == "identical"
    request = {"dialect": "comfy", "seed": 1}
    lora = {"loras": [{"name": "bundle"}]}
    marked = engine.generate("a embedding:mark cat", addons=lora, **request)
    assert differ(marked, engine.generate("a mark cat", addons=lora, **request))
    traced, _ = engine.trace(f"{prompt} <lora:bundle:0.5>", seed=1)
    assert not differ(traced, bundled)


def test_one_that_does_not_fit_is_told_and_one_that_is_broken_refused(engine, tmp_path):
    from safetensors.torch import load_file

    file = tmp_path / "lora" / "bundle.safetensors"
    tensors = load_file(file)
    key = "bundle_emb.mark.string_to_param.*"
    save(file, tensors | {key: torch.randn(2, 99)})
    with pytest.warns(UserWarning, match="mark is read as words"):
        engine.generate("a mark <lora:bundle:0.5>", seed=1)
    with pytest.warns(UserWarning, match="mark is read as words"):  # from the second one on, too
        engine.generate("a mark <lora:bundle:0.5>", seed=2)
    for broken in (torch.full((2, 16), torch.nan), torch.ones(1000, 16)):
        save(file, tensors | {key: broken})
        with pytest.raises(BadCheckpoint, match="string_to_param"):
            engine.generate("a mark <lora:bundle:0.5>", seed=1)
    many = {f"bundle_emb.m{i}.emb_params": torch.ones(1, 16) for i in range(99)}
    save(file, tensors | many)
    with pytest.raises(BadCheckpoint, match="100 embeddings"):
        engine.generate("a mark <lora:bundle:0.5>", seed=1)


def test_two_text_encoders_take_a_part_each(tmp_path):
    import peers

    model = load_parts(peers.make_folder("xl", tmp_path / "xl", torch.float32))
    dims = [encoder.network.config.dim for encoder in model.text_encoders]
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    spell = lambda part, name: "lora_unet_" + name.replace(".", "_")  # noqa: E731
    tensors = write_kohya(make_pairs(model, [("unet", name)]), spell)
    for part, dim in zip("lg", dims, strict=True):
        tensors[f"bundle_emb.mark.clip_{part}"] = torch.randn(3, dim)
    path = save(tmp_path / "x.safetensors", tensors)
    changes = collect_changes(model, [(Lora(name="x", file=path), [path])])
    assert changes.warnings == []
    [named] = changes.embeddings
    assert {part: tuple(v.shape) for part, v in named.parts.items()} == {
        "clip_l": (3, dims[0]),
        "clip_g": (3, dims[1]),
    }
    from fromnoise.runtime.prepare import prepare_model

    request = GenerationRequest.of(prompt="a mark")
    changed, _, _ = put_on(model, prepare_model(model), request, [Lora(name="x", file=path)])
    for part, encoder in zip("lg", changed.text_encoders, strict=True):
        ids = torch.tensor([encoder.tokenizer.encode("a mark")[0]])
        place = ids[0].tolist().index(max(ids[0].tolist()))
        states = encoder.network(ids).hidden_states[0][0]
        position = encoder.network.text_model.embeddings.position_embedding.weight[place]
        vector = tensors[f"bundle_emb.mark.clip_{part}"][2]
        assert torch.allclose(states[place] - position, vector, atol=1e-5)
