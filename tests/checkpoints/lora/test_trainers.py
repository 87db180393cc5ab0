"""Files with the names that trainers and converters write: every tensor of them is placed, with its
value, or told of."""

from collections.abc import Callable
from pathlib import Path

import peers
import pytest
import torch
from loras import draw, list_modules, make_pairs, multiply, name_original, save
from torch import Tensor

from fromnoise.checkpoints.formats.lora import load
from fromnoise.checkpoints.hub import load_parts
from fromnoise.checkpoints.inspection import inspect
from fromnoise.checkpoints.lora.names import list_networks
from fromnoise.checkpoints.lora.place import place
from fromnoise.runtime.patches import Patch, patch_network

TOLERANCE = 2e-5  # of the weights' RMS: one product and one sum in fp32 beside float64
TYPES = (torch.float16, torch.bfloat16, torch.float32)
ALPHAS = (*TYPES, torch.float64, torch.int64, torch.int8, None)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("trainers")
    folders = {kind: peers.make_folder(kind, root / kind, torch.float32) for kind in ("sd1", "xl")}
    return {kind: load_parts(folder) for kind, folder in folders.items()}


@pytest.fixture(params=["sd1", "xl"])
def model(request, models):
    return models[request.param]


def underline(start: dict[str, str]) -> Callable[[str, str], str]:
    return lambda part, name: start[part] + name.replace(".", "_")


KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
COMFY = {"unet": "diffusion_model.", "text_encoder": "text_encoders.clip_l.transformer."}
COMFY |= {"text_encoder_2": "text_encoders.clip_g.transformer."}
PEFT = {part: f"{part}.base_model.model." for part in KOHYA}
LYCORIS = {"unet": "lycoris_", "text_encoder": "lycoris_text_encoder_"}
LYCORIS |= {"text_encoder_2": "lycoris_text_encoder_2_"}
KOHYA_ENDS = (".lora_up.weight", ".lora_down.weight")
LAYOUTS = {
    "kohya": (underline(KOHYA), *KOHYA_ENDS),
    "kohya, first text encoder": (underline(KOHYA | {"text_encoder": "lora_te_"}), *KOHYA_ENDS),
    "LyCORIS": (underline(LYCORIS), *KOHYA_ENDS),
    "OneTrainer": (lambda part, name: f"{part}.{name}", *KOHYA_ENDS),
    "PEFT": (lambda part, name: PEFT[part] + name, ".lora_B.weight", ".lora_A.weight"),
    "PEFT, named": (lambda p, name: f"{p}.{name}", ".lora_B.ab-c.weight", ".lora_A.ab-c.weight"),
    "diffusers": (lambda part, name: f"{part}.{name}", ".lora.up.weight", ".lora.down.weight"),
    "ComfyUI": (lambda part, name: COMFY[part] + name, *KOHYA_ENDS),
    "ComfyUI, PEFT": (lambda p, name: COMFY[p] + name, ".lora_B.weight", ".lora_A.weight"),
}


def sums(model, path: Path):
    """(the networks with the file, its placement)."""
    placement = place(load(path), model)
    return {
        part: patch_network(network, [Patch(*of) for of in placement.deltas[part]])
        for part, network in list_networks(model).items()
    }, placement


def compare(found: Tensor, expected: Tensor) -> None:
    error = (found.double() - expected).pow(2).mean().sqrt()
    assert error <= TOLERANCE * expected.pow(2).mean().sqrt()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_types_and_alphas(model, tmp_path, layout):
    """Factors and alphas of all types beside each other, alphas that are not there, and factors of
    1×1 convolutions as matrices."""
    spell, up_end, down_end = LAYOUTS[layout]
    tensors, expected, networks = {}, {}, list_networks(model)
    pairs = make_pairs(model, list_modules(model))
    for i, ((part, name), (up, down, alpha)) in enumerate(pairs.items()):
        up, down = up.to(TYPES[i % 3]), down.to(TYPES[i // 3 % 3])
        if i % 2 and up.ndim == 4 and down.shape[2:] == (1, 1):
            up, down = up.flatten(1), down.flatten(1)
        kind = ALPHAS[i % len(ALPHAS)]
        stem = spell(part, name)
        tensors |= {stem + up_end: up, stem + down_end: down}
        if kind is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(alpha).to(kind)
        weight = networks[part].get_submodule(name).weight
        delta = multiply(up, down, alpha if kind is not None else len(down))
        expected[part, name] = weight.double() + delta.reshape(weight.shape)
    path = save(tmp_path / "x.safetensors", tensors)
    merged, placement = sums(model, path)
    assert (placement.unplaced, load(path).unknown) == ([], ())
    assert sum(placement.counts.values()) == len(pairs)
    for (part, name), value in expected.items():
        compare(merged[part].get_submodule(name).weight, value)
    report = inspect(path).lora
    assert report is not None
    assert (sum(report.modules.values()), report.unknown) == (len(pairs), 0)


def test_a_merge_that_was_taken_apart(model, tmp_path):
    """ComfyUI's and LyCORIS's extractors: differences of weights, biases and norms beside pairs."""
    tensors, generator, names = {}, torch.Generator().manual_seed(0), name_original(model)
    expected, modules = {}, dict(model.unet.named_modules())
    for (part, name), single in names.items():
        module = modules.get(name) if part == "unet" else None
        if module is None or getattr(module, "bias", None) is None:
            continue
        norm = module.weight.ndim == 1
        ends = ("w_norm", "b_norm") if norm else ("diff", "diff_b")
        for end, value in zip(ends, (module.weight, module.bias), strict=True):
            noise = 0.1 * draw(tuple(value.shape), generator)
            tensors[f"diffusion_model.{single}.{end}"] = noise
            last = "weight" if value is module.weight else "bias"
            expected[f"{name}.{last}"] = value.double() + noise
    path = save(tmp_path / "x.safetensors", tensors)
    merged, placement = sums(model, path)
    assert (placement.unplaced, load(path).unknown) == ([], ())
    assert len(placement.deltas["unet"]) == len(expected) > 50
    for name, value in expected.items():
        compare(merged["unet"].get_parameter(name), value)


def test_what_is_not_read_is_told_by_name(model, tmp_path):
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    stem = "lora_unet_" + layer.replace(".", "_")
    out, wide = model.unet.get_submodule(layer).weight.shape
    tensors = {
        f"{stem}.lora_up.weight": torch.ones(out, 2),
        f"{stem}.lora_down.weight": torch.ones(2, wide),
        f"{stem}.scalar": torch.ones(1),
        f"unet.{layer.replace('to_q', 'to_k')}.boft_R": torch.ones(1, 2, 4, 4),
        f"unet.{layer.replace('to_q', 'to_k')}.boft_s": torch.ones(out, 1),
        f"base_model.model.{layer.replace('to_q', 'to_v')}.ia3_l": torch.ones(1, wide),
        f"{stem.replace('to_q', 'to_out_0')}.oft_diag": torch.ones(2, 4, 4),
        "lora_unet_time_embed_9.alpha": torch.ones(()),
        "unet.conv_in.weight": torch.ones(1),
        "nothing that is known": torch.ones(1),
    }
    path = save(tmp_path / "x.safetensors", tensors)
    lora = load(path)
    placement = place(lora, model)
    assert placement.counts == {"unet": 1}
    told = " ".join([*placement.unplaced, *lora.unknown])
    words = (
        "scalar",
        "boft_R",
        "boft_s",
        "ia3_l",
        "oft_diag",
        "time_embed_9",
        "conv_in",
        "nothing",
    )
    assert [word for word in words if word not in told] == []
    report = inspect(path).lora
    assert report is not None
    assert "of a kind that is not read" in report.kinds
