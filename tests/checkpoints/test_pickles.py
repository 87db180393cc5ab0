"""Pickles of torch are read without torch's machine: the same tensors as torch itself reads."""

import pickle
import sys
import types
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from fromnoise.checkpoints.headers import peek
from fromnoise.checkpoints.sources import open_tensors
from fromnoise.errors import BadCheckpoint

BASE = torch.arange(24, dtype=torch.float32).view(4, 6)
TENSORS = {
    "a": BASE,
    "transposed": BASE.T,
    "row": BASE[1],
    "every other": BASE[:, ::2],
    "part": BASE[1:3, 2:5],
    "fp16": torch.ones(3).half(),
    "bf16": torch.randn(2, 2).bfloat16(),
    "fp8": torch.ones(4).to(torch.float8_e4m3fn),
    "empty": torch.zeros(0, 3),
    "one": torch.tensor(5),
    "flags": torch.tensor([True, False]),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "expanded": torch.ones(1).expand(5),
    "array": np.arange(6.0).reshape(2, 3),
    "by column": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
}


NETWORK = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.BatchNorm1d(2))


@pytest.fixture
def framework(monkeypatch):
    """A class of a training framework, which is not there when the file is read."""
    module = types.ModuleType("lightning.callbacks")
    module.Callback = type("Callback", (), {"__module__": "lightning.callbacks"})
    monkeypatch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.callbacks", module)
    return module.Callback


def same(ours: torch.Tensor, theirs) -> bool:
    theirs = (
        torch.from_numpy(np.ascontiguousarray(theirs)) if isinstance(theirs, np.ndarray) else theirs
    )
    alike = (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    return alike and ours.is_contiguous() and torch.equal(ours.float(), theirs.float())


@pytest.mark.parametrize(
    ("zipped", "protocol"),
    [(True, 2), (True, 3), (True, 4), (True, 5), (False, 2), (False, 4)],
)
def test_tensors_are_those_that_torch_wrote(tmp_path, framework, zipped, protocol):
    state = OrderedDict(TENSORS)
    state._metadata = {"": {"version": 1}}
    callback = framework()
    callback.best = [1, torch.ones(2)]
    whole = {
        "state_dict": state,
        "epoch": 3,
        "global_step": np.int64(7),
        "pytorch-lightning_version": "2.1",
        "callbacks": {framework: callback, "names": np.zeros(3)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
    }
    path = tmp_path / "x.ckpt"
    torch.save(whole, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    header = peek(path)
    assert header.metadata == {"epoch": "3", "global_step": "7", "pytorch-lightning_version": "2.1"}
    assert header.placeholders == ("lightning.callbacks.Callback",)
    assert header.notes == ("not read: callbacks, optimizer_states",)
    source = open_tensors(path)
    found = source.read()
    assert found.keys() == TENSORS.keys() == source.stored.keys()
    for key, tensor in found.items():
        assert same(tensor, TENSORS[key]), key
        assert source.stored[key][:2] == (tensor.dtype, tensor.shape)
    assert [*source.read(keys=["row"])] == ["row"]


def test_a_tensor_has_memory_of_its_own(tmp_path):
    torch.save({"a": BASE, "b": BASE, "c": BASE[1]}, tmp_path / "x.bin")
    found = open_tensors(tmp_path / "x.bin").read()
    for key in found:
        found[key] += 1
        assert not (found[key] == {k: BASE[1] if k == "c" else BASE for k in found}[key]).any()
    assert torch.equal(found["a"], BASE + 1)


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ({"params_ema": {"w": torch.ones(1)}, "params": {}}, {"params_ema.w"}),
        ({"model": {"w": torch.ones(1)}, "step": 5}, {"w"}),
        ({"state_dict": {"state_dict": {"w": torch.ones(1)}}}, {"w"}),
        ({"w": torch.ones(1), "model": {"v": torch.ones(1)}}, {"w", "model.v"}),
        ({0: torch.ones(1), "a": [torch.ones(1)]}, {"0"}),
        (NETWORK, set(NETWORK.state_dict())),
    ],
)
def test_nested_tensors_have_keys_with_dots(tmp_path, value, keys):
    torch.save(value, tmp_path / "x.pt")
    assert set(open_tensors(tmp_path / "x.pt").stored) == keys


def test_a_file_of_any_name_is_read(tmp_path):
    for name in ("model", "archive.x", "a b"):
        torch.save(TENSORS, tmp_path / name)
        assert open_tensors(tmp_path / name).stored.keys() == TENSORS.keys()


def test_a_large_state_is_read_as_torch_reads_it(tmp_path):
    """The keys of a real network with all their kinds, and its optimizer beside it."""
    network = torch.nn.TransformerEncoderLayer(16, 2, 32)
    torch.save(
        {
            "state_dict": network.state_dict(),
            "optimizer": torch.optim.AdamW(network.parameters()).state_dict(),
        },
        tmp_path / "x.ckpt",
    )
    theirs = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]
    ours = open_tensors(tmp_path / "x.ckpt").read()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


class Bomb:
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return (open, (str(self.canary), "w"))


def test_code_is_not_run_and_its_name_is_said(tmp_path):
    torch.save({"w": torch.ones(2), "b": Bomb(tmp_path / "canary")}, tmp_path / "x.ckpt")
    with pytest.warns(UserWarning, match=r"names io\.open, which could run code"):
        source = open_tensors(tmp_path / "x.ckpt")
    assert [*source.read()] == ["w"]
    assert source.placeholders == ("io.open",)
    assert not (tmp_path / "canary").exists()


def test_a_pickle_without_tensors_is_refused(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(BadCheckpoint, match="not one of torch"):
        peek(tmp_path / "x.ckpt")
    torch.save({"a": 1}, tmp_path / "x.ckpt")
    with pytest.raises(BadCheckpoint, match="no tensors in it"), warnings.catch_warnings():
        peek(tmp_path / "x.ckpt")
