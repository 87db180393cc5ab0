"""Whole models in one file: the same parts as their folder, faults by name."""

import hashlib
import json
import logging
import sys

import peers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fromnoise.checkpoints.convert import convert
from fromnoise.checkpoints.formats import diffusers_folder, single_file
from fromnoise.checkpoints.formats.contents import read_contents
from fromnoise.checkpoints.tensors import TensorFile
from fromnoise.cli import main
from fromnoise.errors import BadCheckpoint, FromnoiseError, NotFound, UnknownName


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Of each kind: a folder, and the single file made of it."""
    logging.disable(logging.WARNING)
    root = tmp_path_factory.mktemp("peers")
    found = {}
    for kind in peers.KINDS:
        folder = peers.make_folder(kind, root / kind)
        convert(folder, root / f"{kind}.safetensors", "single-file")
        found[kind] = folder, root / f"{kind}.safetensors"
    return found


@pytest.mark.parametrize("kind", peers.KINDS)
def test_the_file_is_the_model_of_the_folder(pairs, kind):
    folder, path = pairs[kind]
    one, two = diffusers_folder.load(folder), single_file.load(path)
    for name in ("unet", "vae"):
        network, other = getattr(one, name), getattr(two, name)
        assert network.config == other.config
        assert_same(network, other)
    for encoder, other in zip(one.text_encoders, two.text_encoders, strict=True):
        assert encoder.network.config == other.network.config
        assert_same(encoder.network, other.network)
        assert (encoder.layer, encoder.final_norm) == (other.layer, other.final_norm)
        text = "a neon cat"
        assert encoder.tokenizer.encode(text) == other.tokenizer.encode(text)
    for name in ("prediction", "concat", "zero_empty_negative", "dtypes", "defaults"):
        assert getattr(one, name) == getattr(two, name), name
    assert torch.equal(one.schedule.alpha_bar, two.schedule.alpha_bar)
    assert two.digest == hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    assert two.source == kind


def assert_same(one, two):
    one, two = one.state_dict(), two.state_dict()
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


@pytest.mark.parametrize("kind", ["sd1", "inpainting", "xl"])
def test_drawing_leaves_out_what_it_does_not_need(pairs, kind):
    for read, path in zip((diffusers_folder.load, single_file.load), pairs[kind], strict=True):
        model = read(path, False, False)
        assert (model.vae.encoder is None) == (kind != "inpainting")


def test_what_a_file_is_and_lacks_is_said(pairs, tmp_path):
    path, tensors = tmp_path / "x.safetensors", load_file(pairs["sd1"][1])
    unet = "model.diffusion_model."

    def refuse(found, words, texts=None):
        save_file(found, path, texts)
        with pytest.raises(BadCheckpoint, match=words):
            single_file.load(path)

    only = {k: v for k, v in tensors.items() if k.startswith(unet)}
    refuse(only, "not a whole model: it holds no VAE")
    refuse({k: v for k, v in tensors.items() if "cond_stage" not in k}, "holds no text encoder")
    refuse({"lora_unet_x.lora_up.weight": torch.zeros(2)}, "is a LoRA, not a whole model")
    refuse({"double_blocks.0.img_attn.x": torch.zeros(2)}, "is FLUX, not a whole model")
    refuse({"x": torch.zeros(2)}, "is unknown, not a whole model")
    refuse(tensors | {f"{unet}input_blocks.1.0.odd": torch.zeros(2)}, r"place for .*odd \(1 such")
    key = f"{unet}input_blocks.1.0.out_layers.3.bias"
    texts = TensorFile(pairs["sd1"][1]).metadata
    rest = {k: v for k, v in tensors.items() if k != key}
    refuse(rest, "missing down_blocks.0.resnets.0.conv2", texts)
    with pytest.raises(NotFound):
        single_file.load(tmp_path / "none.safetensors")
    with pytest.raises(NotFound, match=r"no model in .*: it has no model_index\.json"):
        single_file.load(tmp_path)
    with pytest.raises(UnknownName, match="unknown prediction 'w'"):
        single_file.load(pairs["sd1"][1], prediction="w")


def test_a_guess_is_said_and_the_user_has_the_last_word(pairs, tmp_path):
    """Without its texts a Stable Diffusion 2 does not say what it predicts."""
    path = tmp_path / "x.safetensors"
    whole = load_file(pairs["sd2-v"][1])
    save_file({k: v for k, v in whole.items() if not k.startswith("fromnoise.")}, path)
    contents = read_contents(path)
    assert contents.derived
    assert (contents.family.prediction, contents.family.guessed) == ("", True)
    with pytest.warns(UserWarning, match="eps is a guess .* give --prediction v"):
        single_file.check_whole(contents)
    single_file.check_whole(read_contents(path, "v"))  # and no warning
    (tmp_path / "x.yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    told = read_contents(path)
    single_file.check_whole(told)
    assert told.family.prediction == "v"
    assert b"v_prediction" in told.texts["scheduler/scheduler_config.json"]
    assert single_file.load(pairs["sd2-v"][1], prediction="eps").prediction == "eps"


def test_tensors_that_nobody_knows_are_named(pairs, tmp_path):
    path, tensors = tmp_path / "x.safetensors", load_file(pairs["sd1"][1])
    texts = {"fromnoise.model_index.json": "{}"}
    save_file(tensors | {"\x1b[1mzzz": torch.zeros(2)}, path, texts)
    with pytest.warns(UserWarning, match=r"1 tensors are not used: \\x1b\[1mzzz"):
        single_file.check_whole(read_contents(path))


def test_the_command_line_draws_replays_and_converts(pairs, tmp_path, monkeypatch, capsys):
    """The same picture from folder and file; what the user says of the prediction is recorded."""
    monkeypatch.setattr(main, "prepare_streams", lambda: None)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["fromnoise", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main.main()
        assert end.value.code == 0, capsys.readouterr()
        return capsys.readouterr().out

    settings = ("--steps", 2, "--seed", 1, "--out")
    for i, path in enumerate(pairs["sd2-v"]):
        run("generate", "a neon cat", "--model", path, *settings, tmp_path / f"{i}.png")
    one, two = (Image.open(tmp_path / f"{i}.png") for i in range(2))
    assert one.tobytes() == two.tobytes()
    out = tmp_path / "eps.png"
    run("generate", "cat", "--model", pairs["sd2-v"][1], "--prediction", "eps", *settings, out)
    assert "Prediction: eps" in Image.open(out).text["parameters"]
    assert "identical" in run("replay", out, "--model", pairs["sd2-v"][1])
    shown = run("convert", pairs["sd2-v"][1], tmp_path / "folder")
    assert "Stable Diffusion 2" in shown
    assert (tmp_path / "folder" / "model_index.json").is_file()


@pytest.mark.filterwarnings("ignore")  # of what such a text asks for
def test_hostile_texts_and_keys_are_refused_in_words(pairs, tmp_path):
    """Each text of the metadata in turn is missing, empty, cut, of another kind or full of odd
    values; keys of ours name places that no folder has. Nothing but an error with a remedy comes
    out, and nothing is written anywhere."""
    tensors, texts = load_file(pairs["sd1"][1]), TensorFile(pairs["sd1"][1]).metadata
    path, remedies = tmp_path / "x.safetensors", list[str]()
    odd = {"../x": torch.zeros(1), "tokenizer/../../x": torch.zeros(1), "unet:": torch.zeros(1)}
    odd |= {"unet:odd": torch.zeros(1), "clip_head:logit_scale": torch.zeros(2)}
    odd |= {"tokenizer/merges.txt": torch.zeros(2, 2), "model_index.json": torch.zeros(3)}
    cases = [(tensors | {f"fromnoise.{key}": value}, texts) for key, value in odd.items()]
    cases += [(tensors, texts | {"fromnoise.../../x": "x", "fromnoise.tokenizer/vocab.json": "x"})]
    for key, text in texts.items():
        values = json.loads(text) if text.startswith("{") else {}
        worst = dict.fromkeys(values, -(10**400))
        changed = (None, text[:-2], json.dumps(worst), '{"a":' * 50_000)
        for value in changed:
            others = {k: v for k, v in texts.items() if k != key}
            cases.append((tensors, others if value is None else others | {key: value}))
    for found, metadata in cases:
        save_file(found, path, metadata)
        try:
            single_file.load(path)
        except FromnoiseError as error:
            remedies.append(error.remedy)
    print(f"{len(cases)} files, {len(remedies)} refused")
    assert len(remedies) > len(cases) // 2
    assert all(remedies)
    assert [*tmp_path.iterdir()] == [path]
