"""Whole models in one file: the same parts as their folder, faults by name."""

import hashlib
import logging

import peers
import pytest
import torch

from fromnoise.checkpoints.convert import convert
from fromnoise.checkpoints.formats import diffusers_folder, single_file


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
