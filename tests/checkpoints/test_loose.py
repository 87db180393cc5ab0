"""A U-Net alone, with its VAE and text encoders in other files."""

import logging
from pathlib import Path

import peers
import pytest
import torch
from safetensors.torch import load_file, save_file

from fromnoise.checkpoints import families, hub, measures
from fromnoise.checkpoints.convert import convert
from fromnoise.checkpoints.formats import published, single_file
from fromnoise.errors import BadCheckpoint, BadInput

UNET = "model.diffusion_model."
KINDS = ("sd1", "sd2", "xl", "refiner")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Of each kind: its folder, and the tensors of the single file made of it."""
    logging.disable(logging.WARNING)
    root = tmp_path_factory.mktemp("loose")
    found = {}
    for kind in KINDS:
        folder = peers.make_folder(kind, root / kind)
        convert(folder, root / f"{kind}.safetensors", "single-file")
        found[kind] = folder, load_file(root / f"{kind}.safetensors")
    return found


def part(tensors: dict, prefix: str, new: str = "") -> dict:
    return {new + k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def shrink(monkeypatch: pytest.MonkeyPatch, kind: str, model) -> None:
    """These models are small: they have other widths, which tell the base, and fewer words."""
    monkeypatch.setattr(families, "CONTEXTS", {model.unet.config.context_dim: kind})
    if size := model.unet.config.time_id_dim:
        monkeypatch.setattr(measures, "TIME_ID", size)
    names = {"refiner": ["text_encoder_2"], "xl": ["text_encoder", "text_encoder_2"]}
    words = {
        n: e.tokenizer
        for n, e in zip(names.get(kind, ["text_encoder"]), model.text_encoders, strict=True)
    }
    for module in (published, single_file):
        monkeypatch.setattr(module, "make_tokenizers", lambda family: words)


@pytest.mark.filterwarnings("ignore:.*is a guess")  # of a Stable Diffusion 2 without a scheduler
@pytest.mark.parametrize("layout", ["whole keys", "bare keys", "diffusers"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_together_are_the_model(models, kind, layout, tmp_path: Path, monkeypatch):
    folder, tensors = models[kind]
    weights = "diffusion_pytorch_model.safetensors"
    unet = {
        "whole keys": part(tensors, UNET, UNET),
        "bare keys": part(tensors, UNET),
        "diffusers": load_file(folder / "unet" / weights),
    }[layout]
    vae = part(tensors, "first_stage_model.")
    save_file(unet, tmp_path / "unet.safetensors")
    save_file(
        load_file(folder / "vae" / weights) if layout == "diffusers" else vae,
        tmp_path / "vae.safetensors",
    )
    others = [tmp_path / "vae.safetensors"]
    prefixes = {
        "sd1": ("cond_stage_model.transformer.",),
        "sd2": ("cond_stage_model.model.",),
        "xl": ("conditioner.embedders.1.model.", "conditioner.embedders.0.transformer."),
        "refiner": ("conditioner.embedders.0.model.",),
    }
    names = [f"text_encoder{n}" for n in ("_2", "") if (folder / f"text_encoder{n}").is_dir()]
    for name, prefix in zip(names, prefixes[kind], strict=True):
        text = part(tensors, prefix)
        if layout == "diffusers":
            text = load_file(folder / name / "model.safetensors")
        save_file({k: v.contiguous() for k, v in text.items()}, tmp_path / f"{name}.safetensors")
        others.append(tmp_path / f"{name}.safetensors")
    wanted = hub.load_parts(folder)
    shrink(monkeypatch, kind, wanted)
    ours = hub.load_parts(tmp_path / "unet.safetensors", others=[*map(str, others)])
    pairs = [(ours.unet, wanted.unet), (ours.vae, wanted.vae)]
    encoders = zip(ours.text_encoders, wanted.text_encoders, strict=True)
    pairs += [(a.network, b.network) for a, b in encoders]
    for one, two in pairs:
        one, two = one.state_dict(), two.state_dict()
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], value) for key, value in two.items())
    for a, b in zip(ours.text_encoders, wanted.text_encoders, strict=True):
        assert (a.layer, a.final_norm, a.network.config.activation) == (
            b.layer,
            b.final_norm,
            b.network.config.activation,
        )
    assert ours.vae.config.scaling_factor == wanted.vae.config.scaling_factor


def test_what_is_missing_or_wrong_is_said(models, tmp_path: Path, monkeypatch):
    folder, tensors = models["xl"]
    shrink(monkeypatch, "xl", hub.load_parts(folder))
    path = tmp_path / "unet.safetensors"
    save_file(part(tensors, UNET, UNET), path)
    weights = str(folder / "vae/diffusion_pytorch_model.safetensors")
    with pytest.raises(BadCheckpoint, match="--part") as refused:
        hub.load_parts(path)
    assert "holds no VAE" in str(refused.value)
    with pytest.raises(BadCheckpoint, match="a text encoder and a text encoder is missing"):
        hub.load_parts(path, others=[weights])
    with pytest.raises(BadInput, match="no part that is wanted here"):
        hub.load_parts(path, others=[weights, weights])
    with pytest.raises(BadInput, match="has all parts of its own"):
        hub.load_parts(folder, others=[weights])
    with pytest.raises(BadInput, match="without variants"):
        hub.load_parts(path, variant="fp16")
