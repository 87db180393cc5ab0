"""What `fromnoise inspect` tells of a LoRA, and what `fromnoise convert --lora` writes."""

import json

import peers
import torch
from loras import list_modules, make_pairs, multiply, save, write_kohya

from fromnoise.checkpoints.hub import load_parts
from fromnoise.checkpoints.inspection import inspect
from fromnoise.checkpoints.lora.names import list_networks
from fromnoise.cli.merge import write_merged

KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_"}


def spell(part, name):
    return KOHYA[part] + name.replace(".", "_")


def test_modules_ranks_tags_and_hashes_are_told(tmp_path):
    folder = peers.make_folder("sd1", tmp_path, torch.float32)
    pairs = make_pairs(model := load_parts(folder), list_modules(model))
    tags = json.dumps({"10_x": {"paper": 7, "cat": 2}, "5_y": {"cat": 1}})
    metadata = {"ss_tag_frequency": tags, "ss_base_model_version": "sd_v1"}
    bundle = {"bundle_emb.mark.string_to_param.*": torch.ones(1, 16)}
    tensors = write_kohya(pairs, spell) | bundle
    report = inspect(save(tmp_path / "x.safetensors", tensors, metadata), hashes=True)
    lora = report.lora
    assert lora is not None
    parts = [part for part, _ in pairs]
    assert lora.modules == {part: parts.count(part) for part in ("unet", "text_encoder")}
    assert (lora.kinds, lora.ranks) == ({"LoRA": len(pairs)}, {3: len(pairs)})
    assert lora.alphas.keys() == {"1", "2", "3", "4"}
    assert (lora.embeddings, lora.unknown) == (["mark"], 0)
    assert lora.tags == {"paper": 7, "cat": 3}
    assert lora.facts["base"] == "sd_v1"
    assert len(report.hashes["AutoV3"]) == 12
    broken = {"ss_tag_frequency": "[" * 10_000}
    assert inspect(save(tmp_path / "y.safetensors", tensors, broken)).lora.tags == {}


def test_a_merged_model_is_the_sum(tmp_path):
    folder = peers.make_folder("sd1", tmp_path, torch.float32)
    pairs = make_pairs(model := load_parts(folder), list_modules(model))
    path = save(tmp_path / "x.safetensors", write_kohya(pairs, spell))
    for to, out in (("folder", tmp_path / "out"), ("single-file", tmp_path / "o.safetensors")):
        write_merged(folder, out, to, "keep", None, [f"{path}:0.5"])
        merged = list_networks(load_parts(out))
        for (part, name), pair in pairs.items():
            weight = list_networks(model)[part].get_submodule(name).weight
            expected = weight + 0.5 * multiply(*pair).reshape(weight.shape)
            found = merged[part].get_submodule(name).weight
            assert (found - expected).pow(2).mean().sqrt() <= 2e-5 * expected.pow(2).mean().sqrt()
