"""Folder ↔ single file ↔ folder is the identity on keys, shapes, types and bytes; diffusers opens
what comes out; what a layout cannot hold is said."""

import logging

import peers
import pytest
import torch
from safetensors.torch import load_file, save_file

from fromnoise.checkpoints.convert import convert


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    logging.disable(logging.WARNING)
    root = tmp_path_factory.mktemp("peers")
    return {kind: peers.make_folder(kind, root / kind) for kind in peers.KINDS}


def list_files(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def same_folders(one, two):
    files, others = list_files(one), list_files(two)
    assert files.keys() == others.keys()
    for name, path in files.items():
        assert path.read_bytes() == others[name].read_bytes(), name


@pytest.mark.parametrize("kind", peers.KINDS)
def test_a_folder_comes_back_to_the_byte(folders, tmp_path, kind):
    report = convert(folders[kind], tmp_path / "single.safetensors", "single-file")
    assert report.notes == []
    convert(tmp_path / "single.safetensors", tmp_path / "folder", "folder")
    same_folders(folders[kind], tmp_path / "folder")
    convert(tmp_path / "folder", tmp_path / "again.safetensors", "single-file")
    one, two = (tmp_path / f"{name}.safetensors" for name in ("single", "again"))
    assert one.read_bytes() == two.read_bytes()


def make_foreign(folder, path, kind):
    """A single file as others make them: no texts of ours, other metadata, other order, and tensors
    that no part has."""
    convert(folder, path, "single-file")
    tensors = {k: v for k, v in load_file(path).items() if not k.startswith("fromnoise.")}
    query = "first_stage_model.encoder.mid.attn_1.q.weight"
    tensors[query] = tensors[query][:, :, 0, 0]
    weight = tensors["model.diffusion_model.out.2.weight"]
    tensors |= {"model_ema.diffusion_modelout2weight": weight.float() + 1}
    tensors |= {"model_ema.num_updates": torch.tensor(7, dtype=torch.int32)}
    tensors |= {
        "betas": torch.linspace(0, 1, 1000),
        "first_stage_model.loss.logvar": weight[0, 0] + 1,
    }
    if kind in ("sd2", "sd2-v", "depth"):
        layers = {k: v for k, v in tensors.items() if ".resblocks.1." in k}
        tensors |= {k.replace(".1.", ".2.", 1): v + 1 for k, v in layers.items()}
        for number in range(3, 24):
            tensors |= {k.replace(".1.", f".{number}.", 1): v * 1 for k, v in layers.items()}
        tensors["cond_stage_model.model.text_projection"] = torch.rand(16, 16).half()
    if kind == "xl":
        tensors["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6).half()
    if kind == "depth":
        tensors["depth_model.model.scratch.layer1_rn.weight"] = torch.rand(4, 4)
    metadata = {"modelspec.title": 'a "model" of é', "format": "pt", "sd_merge_models": "{}"}
    save_file(tensors, path, metadata)
    return tensors


@pytest.mark.parametrize("kind", peers.KINDS)
def test_a_single_file_comes_back_to_the_byte(folders, tmp_path, kind):
    path, again = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    tensors = make_foreign(folders[kind], path, kind)
    convert(path, tmp_path / "folder", "folder")
    convert(tmp_path / "folder", again, "single-file")
    assert again.read_bytes() == path.read_bytes()
    extras = load_file(tmp_path / "folder" / "extras.safetensors")
    assert "model_ema.num_updates" in extras
    # another type: the header is written anew, and what others wrote in it stays
    convert(tmp_path / "folder", again, "single-file", "fp32")
    other = load_file(again)
    assert tensors.keys() == other.keys()
    for key, tensor in tensors.items():
        expected = tensor.float() if tensor.is_floating_point() else tensor
        assert torch.equal(other[key], expected), key
    # and from there to the file that it was
    convert(again, tmp_path / "third.safetensors", "single-file", "fp16")
    half = load_file(tmp_path / "third.safetensors")
    for key, tensor in tensors.items():
        if tensor.dtype == torch.float16:
            assert torch.equal(half[key], tensor), key


def test_a_changed_folder_does_not_take_the_old_header(folders, tmp_path):
    path, again = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    make_foreign(folders["sd1"], path, "sd1")
    folder = tmp_path / "folder"
    convert(path, folder, "folder")
    convert(path, tmp_path / "v", "folder", prediction="v")
    settings = (tmp_path / "v" / "scheduler" / "scheduler_config.json").read_text()
    assert '"prediction_type": "v_prediction"' in settings
    convert(tmp_path / "v", again, "single-file")
    convert(again, tmp_path / "v2", "folder")
    for name in ("v", "v2"):  # each has the header of the file that it came from
        (tmp_path / name / "extras.safetensors").unlink()
    same_folders(tmp_path / "v", tmp_path / "v2")
    with_text = load_file(again)
    assert with_text.keys() == load_file(path).keys()


def test_a_pickle_becomes_a_safetensors_file(folders, tmp_path):
    path = tmp_path / "in.safetensors"
    tensors = make_foreign(folders["sd1"], path, "sd1")
    torch.save({"state_dict": tensors, "global_step": 7}, tmp_path / "in.ckpt")
    convert(tmp_path / "in.ckpt", tmp_path / "out.safetensors", "single-file")
    again = load_file(tmp_path / "out.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[key], value) for key, value in tensors.items())
