"""CLIP's image tower as people have it: folders of transformers, whole or the tower alone, and
OpenCLIP's files."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from fromnoise.checkpoints.formats.image_encoder import measure_tower, open_encoder
from fromnoise.errors import BadCheckpoint, NotFound
from fromnoise.models.clip_vision import CLIPVision

SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "hidden_act": "gelu"}
EXACT = 2e-5  # fp32, of the RMS


def rename(state, layers=3):
    """The tower of a CLIPVisionModelWithProjection in OpenCLIP's layout."""
    state = {f"vision_model.{k.removeprefix('vision_model.')}": v for k, v in state.items()}
    get = lambda name: state[f"vision_model.{name}"]  # noqa: E731
    found = {
        "visual.class_embedding": get("embeddings.class_embedding"),
        "visual.positional_embedding": get("embeddings.position_embedding.weight"),
        "visual.conv1.weight": get("embeddings.patch_embedding.weight"),
        "visual.proj": get("visual_projection.weight").T,
    }
    for end in ("weight", "bias"):
        found[f"visual.ln_pre.{end}"] = get(f"pre_layrnorm.{end}")
        found[f"visual.ln_post.{end}"] = get(f"post_layernorm.{end}")
        for i in range(layers):
            ours, theirs = f"encoder.layers.{i}.", f"visual.transformer.resblocks.{i}."
            parts = [get(f"{ours}self_attn.{name}_proj.{end}") for name in "qkv"]
            found[f"{theirs}attn.in_proj_{end}"] = torch.cat(parts)
            for name, other in (
                ("attn.out_proj", "self_attn.out_proj"),
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                found[f"{theirs}{name}.{end}"] = get(f"{ours}{other}.{end}")
    return {key: value.clone().contiguous() for key, value in found.items()}


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """The same tower in a whole CLIP of transformers, alone, and in OpenCLIP's files."""
    torch.manual_seed(0)
    where = tmp_path_factory.mktemp("towers")
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    text |= {"intermediate_size": 16}
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=SIZES, projection_dim=12)).eval()
    for p in whole.parameters():
        p.data = torch.randn(p.shape) * (0.2 if p.ndim > 1 else 0.5) + (p.ndim == 1)
    whole.save_pretrained(where / "whole")
    alone = CLIPVisionModelWithProjection(CLIPVisionConfig(**SIZES, projection_dim=12)).eval()
    state = whole.state_dict()
    prefix = (
        "" if any(k.startswith("vision_model.") for k in alone.state_dict()) else "vision_model."
    )
    wanted = {k: state[k if k.startswith("visual") else prefix + k] for k in alone.state_dict()}
    alone.load_state_dict(wanted)
    alone.save_pretrained(where / "alone")
    (where / "open").mkdir()
    renamed = rename(alone.state_dict())
    text = {
        "text_projection": torch.zeros(4, 4),
        "transformer.resblocks.0.ln_1.bias": torch.ones(4),
    }
    torch.save(renamed | text, where / "open" / "open_clip_pytorch_model.bin")
    told = {"embed_dim": 12, "vision_cfg": {"width": 24, "head_width": 12, "layers": 3}}
    config = {"model_cfg": told, "preprocess_cfg": {}}
    (where / "open" / "open_clip_config.json").write_text(json.dumps(config | {"quick_gelu": 1}))
    told["quick_gelu"] = False
    (where / "open" / "open_clip_config.json").write_text(json.dumps(config))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        return where, pixels, alone(pixels).image_embeds


@pytest.mark.parametrize("place", ["whole", "alone", "open"])
@torch.inference_mode()
def test_a_tower_computes_what_transformers_does(towers, place):
    where, pixels, wanted = towers
    tower = open_encoder(where / place).load()
    found = tower(pixels).embeds
    assert (found - wanted).abs().max() / wanted.square().mean().sqrt() < EXACT


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("ViT-H", {"dim": 1280, "layers": 32, "mlp_dim": 5120, "projection_dim": 1024}),
        ("ViT-g", {"dim": 1408, "layers": 40, "mlp_dim": 6144, "projection_dim": 1024}),
        ("ViT-bigG", {"dim": 1664, "layers": 48, "mlp_dim": 8192, "projection_dim": 1280}),
    ],
)
def test_towers_of_open_clip_at_their_true_sizes(tmp_path, name, sizes):
    """From the shapes of the published files: every tensor of the network has its place."""
    config = CLIPVisionConfig(
        hidden_size=sizes["dim"],
        intermediate_size=sizes["mlp_dim"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=16,
        projection_dim=sizes["projection_dim"],
        image_size=224,
        patch_size=14,
    )
    with torch.device("meta"):
        theirs = CLIPVisionModelWithProjection(config).state_dict()
    renamed = rename(theirs, sizes["layers"])
    shapes = {key: tuple(value.shape) for key, value in renamed.items()}
    rules, measured = measure_tower(shapes, tmp_path / name)
    told = {key: getattr(measured, key) for key in sizes}
    assert told == sizes
    assert (measured.heads, measured.activation) == (16, "gelu")
    assert (measured.image_size, measured.patch_size) == (224, 14)
    with torch.device("meta"):
        network = CLIPVision(measured)
    assert {key for rule in rules for key in rule.keys} == {*network.state_dict()}
    assert {rule.single for rule in rules} == {*shapes}


def test_what_is_no_tower_says_what_to_give(towers, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no weights"):
        open_encoder(tmp_path / "empty")
    save_file({"a.weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(BadCheckpoint, match="no image tower") as refused:
        open_encoder(tmp_path / "x.safetensors")
    assert "image_encoder" in refused.value.remedy
    where = towers[0] / "open"
    (tmp_path / "open").mkdir()
    for file in where.iterdir():
        (tmp_path / "open" / file.name).write_bytes(file.read_bytes())
    config = {"model_cfg": {"vision_cfg": {"head_width": 7}}}
    (tmp_path / "open" / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(BadCheckpoint, match="head_width"):
        open_encoder(tmp_path / "open")
