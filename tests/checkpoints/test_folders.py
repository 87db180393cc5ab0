"""Folders as others save them: shards, variants, pickles, tokenizer.json alone, pipelines of any
class whose parts are known; and what is wrong with them, by file and field."""

import json
import shutil
import warnings
from pathlib import Path

import fakes
import peers
import pytest
import torch
from safetensors.torch import load_file

from fromnoise.checkpoints.configs import read_tokenizer
from fromnoise.checkpoints.formats import diffusers_folder as folders
from fromnoise.checkpoints.tokenizer_json import extract_tables
from fromnoise.errors import BadCheckpoint, NotFound


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return peers.make_pipeline("xl", tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "m"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def same(one, other) -> bool:
    a, b = one.unet.state_dict(), other.unet.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_shards_are_one_file(pipeline, saved, tmp_path):
    pipeline.save_pretrained(tmp_path / "m", max_shard_size="40KB")
    index = tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    assert len({*json.loads(index.read_text())["weight_map"].values()}) > 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = folders.load(tmp_path / "m")
    assert same(model, folders.load(saved))
    places = json.loads(index.read_text())["weight_map"]
    first = sorted({*places.values()})[0]
    for bad, words in (
        ({"weight_map": 5}, "weight_map is 5"),
        ({"weight_map": dict.fromkeys(places, "../x.safetensors")}, "without folders"),
        ({"weight_map": {"a": first}}, "has also|lacks"),
        ({"weight_map": places | {"more": first}}, "lacks more"),
    ):
        copy = shutil.copytree(tmp_path / "m", tmp_path / "bad")
        rewrite(copy / "unet" / index.name, **bad)
        with pytest.raises((BadCheckpoint, NotFound), match=words):
            folders.load(copy)
        shutil.rmtree(copy)
    (tmp_path / "m" / "unet" / first).unlink()
    with pytest.raises(NotFound, match="00001-of"):
        folders.load(tmp_path / "m")


def test_a_variant_is_taken_where_it_is_asked_for_or_all_there_is(pipeline, saved, tmp_path):
    half = peers.make_pipeline("xl", tmp_path / "words").to(torch.float16)
    half.save_pretrained(tmp_path / "m", variant="fp16")
    with pytest.warns(UserWarning, match="the variant fp16 only, not of full precision"):
        model = folders.load(tmp_path / "m")
    assert model.dtypes["unet"] == torch.float16
    assert next(model.unet.parameters()).dtype == torch.float32
    pipeline.save_pretrained(tmp_path / "m")  # beside it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = folders.load(tmp_path / "m")
        again = folders.load(tmp_path / "m", variant="fp16")
    assert whole.dtypes["unet"] == torch.float32
    assert same(whole, folders.load(saved))
    assert same(again, model)
    assert not same(whole, model)
    with pytest.warns(UserWarning, match="full precision only, not of the variant bf16"):
        assert same(folders.load(tmp_path / "m", variant="bf16"), whole)


def test_pickles_of_tensors_are_read(copied, saved):
    for name in ("unet", "vae"):
        path = copied / name / "diffusion_pytorch_model.safetensors"
        torch.save(load_file(path), path.with_suffix(".bin"))
        path.unlink()
    path = copied / "text_encoder" / "model.safetensors"
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()
    assert same(folders.load(copied), folders.load(saved))


def test_the_parts_decide_not_the_class(copied):
    index = copied / "model_index.json"
    rewrite(index, _class_name="SomeoneElsesPipeline", safety_checker=["a", "B"], own_setting=3)
    assert folders.load(copied).zero_empty_negative
    rewrite(index, force_zeros_for_empty_prompt=False)
    assert not folders.load(copied).zero_empty_negative
    rewrite(index, controlnet=["diffusers", "ControlNetModel"])
    with pytest.raises(BadCheckpoint, match=r"part controlnet, 'ControlNetModel'"):
        folders.load(copied)
    rewrite(index, controlnet=None, text_encoder=["transformers", "T5EncoderModel"])
    with pytest.raises(BadCheckpoint, match=r"'T5EncoderModel': only CLIPTextModel or"):
        folders.load(copied)
    rewrite(index, text_encoder=[None, None], text_encoder_2=[None, None])
    with pytest.raises(BadCheckpoint, match="cannot be without it"):
        folders.load(copied)


def test_parts_of_different_models_are_refused(copied):
    config = copied / "unet" / "config.json"
    rewrite(config, projection_class_embeddings_input_dim=33)
    with pytest.raises(BadCheckpoint, match=r"input_dim is 33, not 32 or 28: the pooled text's 8"):
        folders.load(copied)
    rewrite(config, projection_class_embeddings_input_dim=None)
    with pytest.raises(BadCheckpoint, match="where addition_embed_type is text_time"):
        folders.load(copied)
    rewrite(config, addition_embed_type="text_image")
    with pytest.raises(BadCheckpoint, match="'text_image', not one of text_time"):
        folders.load(copied)
    rewrite(config, addition_embed_type=None, transformer_layers_per_block=[[1], [2]])
    with pytest.raises(BadCheckpoint, match="transformer_layers_per_block"):
        folders.load(copied)


def test_tokenizer_json_is_read_as_the_two_tables(tmp_path):
    words = fakes.tokenizer(tmp_path / "two")
    vocabulary = json.loads((tmp_path / "two" / "vocab.json").read_text())
    merges = [pair.split(" ") for pair in fakes.MERGES]
    model = {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocabulary, "merges": merges}
    added = [{"id": words.bos_id, "content": "<|startoftext|>", "special": True}]
    good = {"model": model, "added_tokens": added}
    for form in (merges, fakes.MERGES):  # older files have strings
        (tmp_path / "one").mkdir(exist_ok=True)
        text = json.dumps(good | {"model": model | {"merges": form}})
        (tmp_path / "one" / "tokenizer.json").write_text(text)
        again = read_tokenizer(tmp_path / "one", 16)
        assert again.encode("a neon cat in SPACE!") == words.encode("a neon cat in SPACE!")
    for changes, fault in (
        ({"model": {}}, "do not end with"),
        ({"model": model | {"type": "Unigram"}}, "no byte-pair encoding"),
        ({"model": model | {"vocab": []}}, "no vocab and merges"),
        ({"model": model | {"merges": [["a", "b", "c"]]}}, "not a pair"),
        ({"model": model | {"merges": [["a b", "c"]]}}, "not a pair"),
        ({"model": model | {"merges": [["a\n", "c"]]}}, "not a pair"),
        ({"added_tokens": [5]}, "no list of objects"),
        ({"added_tokens": [{"id": 9, "content": "<new>"}]}, "added token <new>"),
    ):
        with pytest.raises(BadCheckpoint, match=fault):
            extract_tables("tokenizer.json", good | changes)
