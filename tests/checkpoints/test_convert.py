"""Folder ↔ single file ↔ folder is the identity on keys, shapes, types and bytes; diffusers opens
what comes out; what a layout cannot hold is said."""

import json
import logging
import shutil

import diffusers
import fakes
import peers
import pytest
import torch
from safetensors.torch import load_file, save_file

from fromnoise.checkpoints.convert import convert
from fromnoise.checkpoints.formats import diffusers_folder, diffusers_folder_save, single_file
from fromnoise.errors import BadCheckpoint, BadInput, NotFound, UnknownName


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


@pytest.mark.parametrize("kind", [kind for kind in peers.KINDS if kind != "depth"])
def test_diffusers_opens_our_single_file(folders, tmp_path, kind):
    """Without the hub, with the folder's configurations. (Its depth pipeline opens no file.)"""
    path = tmp_path / "single.safetensors"
    convert(folders[kind], path, "single-file")
    pipeline = getattr(diffusers, peers.KINDS[kind][0])
    ours = pipeline.from_single_file(path, config=str(folders[kind]), local_files_only=True)
    theirs = pipeline.from_pretrained(folders[kind])
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (network := getattr(theirs, name, None)) is not None:
            weights = getattr(ours, name).state_dict()
            assert weights.keys() == network.state_dict().keys()
            for key, value in network.state_dict().items():
                assert torch.equal(weights[key], value.to(weights[key].dtype)), key


def test_a_model_of_ours_keeps_its_towers_and_its_vocabulary(tmp_path):
    diffusers_folder_save.save(
        fakes.model(tmp_path / "w", steps=20, spacing="trailing"), tmp_path / "a"
    )
    convert(tmp_path / "a", tmp_path / "b.safetensors", "single-file")
    convert(tmp_path / "b.safetensors", tmp_path / "c", "folder")
    same_folders(tmp_path / "a", tmp_path / "c")
    one, two = diffusers_folder.load(tmp_path / "a"), single_file.load(tmp_path / "b.safetensors")
    assert torch.equal(one.text_projection, two.text_projection)
    assert torch.equal(one.logit_scale, two.logit_scale)
    assert (one.defaults, one.vision.config) == (two.defaults, two.vision.config)
    for key, value in one.vision.state_dict().items():
        assert torch.equal(value, two.vision.state_dict()[key]), key


def test_older_keys_of_a_folder_come_back(folders, tmp_path):
    """Keys of the VAE's attention before diffusers 0.18, a table of positions, and what a part
    holds that no layout has a rule for."""
    folder = shutil.copytree(folders["sd1"], tmp_path / "old")
    vae, text = folder / "vae/diffusion_pytorch_model.safetensors", folder / "text_encoder"
    tensors = load_file(vae)
    for new, old in (
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "proj_attn"),
    ):
        tensors = {k.replace(f".{new}.", f".{old}."): v for k, v in tensors.items()}
    save_file(tensors, vae, {"format": "pt"})
    tensors = load_file(text / "model.safetensors")
    tensors["embeddings.position_ids"] = torch.arange(16)[None]
    tensors["odd.weight"] = torch.rand(3)
    save_file(tensors, text / "model.safetensors", {"format": "pt"})
    convert(folder, tmp_path / "single.safetensors", "single-file")
    single = load_file(tmp_path / "single.safetensors")
    assert "first_stage_model.encoder.mid.attn_1.q.weight" in single
    assert "cond_stage_model.transformer.text_model.embeddings.position_ids" in single
    convert(tmp_path / "single.safetensors", tmp_path / "new", "folder")
    same_folders(folder, tmp_path / "new")


def test_shards_and_pickles_of_a_folder_become_one_file(folders, tmp_path):
    folder = shutil.copytree(folders["xl"], tmp_path / "x")
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(unet)
    names = [
        unet.with_name(f"diffusion_pytorch_model-0000{i}-of-00002.safetensors") for i in (1, 2)
    ]
    places = {key: names[i % 2].name for i, key in enumerate(tensors)}
    for name in names:
        save_file({k: v for k, v in tensors.items() if places[k] == name.name}, name)
    index = {"metadata": {}, "weight_map": places}
    unet.with_suffix(".safetensors.index.json").write_text(json.dumps(index))
    unet.unlink()
    text = folder / "text_encoder" / "model.safetensors"
    torch.save(load_file(text), text.with_name("pytorch_model.bin"))
    text.unlink()
    convert(folder, tmp_path / "single.safetensors", "single-file")
    convert(tmp_path / "single.safetensors", tmp_path / "new", "folder")
    same_folders(folders["xl"], tmp_path / "new")
    convert(folder, tmp_path / "copy", "folder", "bf16")  # and a folder as a folder of another type
    half = load_file(tmp_path / "copy" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {key: value.bfloat16().tolist() for key, value in tensors.items()} == {
        key: value.tolist() for key, value in half.items()
    }


def test_what_a_layout_cannot_hold_is_said(folders, tmp_path):
    folder = shutil.copytree(folders["sd1"], tmp_path / "x")
    (folder / "safety_checker").mkdir()
    save_file({"a": torch.zeros(2)}, folder / "safety_checker" / "model.safetensors")
    (folder / "README.md").write_text("words")
    index = json.loads((folder / "model_index.json").read_text())
    write = (folder / "model_index.json").write_text
    write(json.dumps(index | {"safety_checker": ["x", "StableDiffusionSafetyChecker"]}))
    out = tmp_path / "out.safetensors"
    [note] = convert(folder, out, "single-file").notes
    assert "README.md, safety_checker/model.safetensors: left out" in note
    convert(out, tmp_path / "back", "folder")  # which diffusers still opens
    diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "back")
    convert(folder, tmp_path / "copy", "folder")  # a folder holds it all
    same_folders(folder, tmp_path / "copy")
    write(json.dumps(index | {"prior": ["diffusers", "PriorTransformer"]}))
    with pytest.raises(BadInput, match="no place is known for its part prior"):
        convert(folder, out, "single-file")
    before = out.read_bytes()
    for source, target, to, error, words in (
        (folders["sd1"], tmp_path, "single-file", BadInput, "is a folder"),
        (folders["sd1"], tmp_path / "a.ckpt", "single-file", BadInput, "not end in .safetensors"),
        (folders["sd1"], tmp_path / "a", "zip", UnknownName, "layout 'zip'"),
        (out, folder.parent, "folder", BadInput, "already and is no model"),
        (tmp_path / "none", tmp_path / "a", "folder", NotFound, "none"),
    ):
        with pytest.raises(error, match=words):
            convert(source, target, to)
    with pytest.raises(UnknownName, match="type of weights 'fp8'"):
        convert(folders["sd1"], out, "single-file", "fp8")
    assert out.read_bytes() == before


def test_other_files_change_their_container_only(tmp_path):
    """A LoRA or a VAE in a pickle becomes safetensors; neither becomes a pipeline."""
    tensors = {
        "lora_unet_x.lora_up.weight": torch.rand(4, 2),
        "lora_unet_x.alpha": torch.tensor(2.0),
    }
    torch.save(tensors, tmp_path / "lora.pt")
    convert(tmp_path / "lora.pt", tmp_path / "lora.safetensors", "single-file")
    again = load_file(tmp_path / "lora.safetensors")
    assert all(torch.equal(again[key], value) for key, value in tensors.items())
    with pytest.raises(BadCheckpoint, match="cannot become the folder of a pipeline: it is a LoRA"):
        convert(tmp_path / "lora.pt", tmp_path / "folder", "folder")
    assert not (tmp_path / "folder").exists()


def test_extras_with_a_header_that_lies_are_refused(folders, tmp_path):
    path, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    make_foreign(folders["sd1"], path, "sd1")
    convert(path, tmp_path / "folder", "folder")
    extras = tmp_path / "folder" / "extras.safetensors"
    tensors = load_file(extras)
    whole = bytes(tensors["fromnoise.header"].tolist())
    for fault in (b'"data_offsets":[0', b'"shape":[', b'"dtype":"F'):
        place = whole.rindex(fault) + len(fault)
        odd = whole[:place] + b"9" + whole[place + 1 :]
        save_file(tensors | {"fromnoise.header": torch.tensor([*odd], dtype=torch.uint8)}, extras)
        with pytest.raises(BadCheckpoint, match="header of the single file"):
            convert(tmp_path / "folder", out, "single-file")
    assert not out.exists()
