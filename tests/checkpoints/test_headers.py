"""Headers read without torch: they say what the safetensors library says."""

import json
import struct
import subprocess
import sys

import pytest
import torch
from hostile_files import BROKEN
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fromnoise.checkpoints.headers import BITS, peek
from fromnoise.checkpoints.sources import open_tensors
from fromnoise.checkpoints.tensors import DTYPES, TensorFile
from fromnoise.errors import BadCheckpoint

TENSORS = {
    "a.weight": torch.arange(12, dtype=torch.float32).view(3, 4),
    "a.bias": torch.ones(3, dtype=torch.bfloat16),
    "empty": torch.zeros(0, 5),
    "one": torch.tensor(7),
}


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt", "x"])
def test_a_header_is_read_by_content(tmp_path, name):
    save_file(TENSORS, tmp_path / name, {"format": "pt"})
    header = peek(tmp_path / name)
    assert (header.kind, header.metadata) == ("safetensors", {"format": "pt"})
    assert header.shapes == {key: tuple(t.shape) for key, t in TENSORS.items()}
    assert {k: e.dtype for k, e in header.entries.items()} == {
        "a.weight": "F32",
        "a.bias": "BF16",
        "empty": "F32",
        "one": "I64",
    }
    data = (tmp_path / name).read_bytes()
    entry = header.entries["a.weight"]
    assert data[entry.start : entry.end] == TENSORS["a.weight"].numpy().tobytes()
    source = open_tensors(tmp_path / name)
    for key, tensor in source.read().items():
        assert torch.equal(tensor, TENSORS[key])
        assert source.stored[key][:2] == (tensor.dtype, tensor.shape)


# well-formed, each in its way: what is in them is the reader's concern
WELL_FORMED = ("complex", "size zero", "name of 1 MB", "other tensors")


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_header_is_refused(tmp_path, what):
    path = tmp_path / "x.safetensors"
    path.write_bytes(BROKEN[what])
    if what in WELL_FORMED:
        peek(path)
        return
    with pytest.raises(BadCheckpoint, match=r"x\.safetensors"):
        peek(path)
    with pytest.raises(BadCheckpoint, match=r"x\.safetensors"):
        open_tensors(path)


ENTRIES = {
    "a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]},
    "c": {"dtype": "U8", "shape": [0], "data_offsets": [16, 16]},
    "__metadata__": {"format": "pt"},
}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_the_library_refuses_is_refused(tmp_path_factory, data):
    """One field of a good header becomes another value. Ours may refuse more: a key that stands
    twice, more than eight dimensions."""
    key = data.draw(st.sampled_from([*ENTRIES]))
    field = data.draw(st.sampled_from([*ENTRIES[key]]))
    number = st.integers(-2, 20) | st.sampled_from([2**31, 2**32, 2**63, 2**64])
    value = data.draw(st.sampled_from([*BITS, "x"]) | number | st.lists(number, max_size=3))
    header = ENTRIES | {key: ENTRIES[key] | {field: value}}
    text = json.dumps(header).encode()
    path = tmp_path_factory.mktemp("x") / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    try:
        with safe_open(path, "pt"):
            right = True
    except (SafetensorError, OSError):
        right = False
    if right:
        peek(path)
    else:
        with pytest.raises(BadCheckpoint):
            peek(path)


def test_a_choice_of_keys_is_read(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors")
    seen = []
    found = TensorFile(tmp_path / "x.safetensors").read(
        lambda data: seen.append(len(data)), ["one"]
    )
    assert [*found] == ["one"]
    assert found["one"] == 7
    assert seen[1:] == [8]


def test_a_type_that_torch_lacks_is_named(tmp_path):
    text = json.dumps({"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(2))
    assert peek(path).entries["a"].dtype == "F4"
    with pytest.raises(BadCheckpoint, match="'a' has the dtype F4, not one of"):
        TensorFile(path)
    assert set(DTYPES) <= set(BITS)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\n <!DOCTYPE html><html>", "a page of the web"),
        (b"7z\xbc\xaf'\x1c" + bytes(100), "a 7z archive"),
        (bytes(257) + b"ustar" + bytes(300), "a tar archive"),
        (bytes(1000), "it is empty"),
    ],
)
def test_what_is_something_else_is_named(tmp_path, data, said):
    (tmp_path / "x.safetensors").write_bytes(data)
    for read in (peek, TensorFile):
        with pytest.raises(BadCheckpoint, match=said):
            read(tmp_path / "x.safetensors")


def test_headers_load_no_torch():
    code = "import sys, fromnoise.checkpoints.headers, fromnoise.checkpoints.refusals\n"
    code += "print({'torch', 'numpy', 'safetensors'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
