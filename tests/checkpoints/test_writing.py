"""Files written as a stream have the bytes that the library writes."""

import pytest
import torch
from safetensors.torch import save_file

from fromnoise.checkpoints.tensors import DTYPES, Stored, TensorFile
from fromnoise.checkpoints.writing import plan_header, write_stream
from fromnoise.errors import BadInput


def make_tensors():
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for i, dtype in enumerate(DTYPES.values()):
        for name, shape in (("b", (3, 2)), ('a.é"\\\n', (1,)), ("none", (0, 4)), ("one", ())):
            values = torch.rand(shape, generator=generator) * 3
            tensors[f"{(i * 7) % 5}.{name}.{i}"] = values.to(dtype)
    return tensors


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_bytes_are_those_of_the_library(tmp_path, metadata):
    tensors = make_tensors()
    save_file(tensors, tmp_path / "theirs", metadata)
    entries = {key: Stored(t.dtype, tuple(t.shape), 0, 0) for key, t in tensors.items()}
    header = plan_header(entries, metadata)
    write_stream(tmp_path / "ours", header, reversed(tensors.items()))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    again = TensorFile(tmp_path / "ours").read()
    assert again.keys() == tensors.keys()


def test_types_are_cast_as_the_header_says(tmp_path):
    tensors = {"a": torch.rand(5, 3), "n": torch.arange(4)}
    header = plan_header(
        {"a": Stored(torch.bfloat16, (5, 3), 0, 0), "n": Stored(torch.int64, (4,), 0, 0)}
    )
    write_stream(tmp_path / "f", header, tensors.items())
    again = TensorFile(tmp_path / "f").read()
    assert torch.equal(again["a"], tensors["a"].bfloat16())
    assert torch.equal(again["n"], tensors["n"])


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    header = plan_header({"a": Stored(torch.float32, (5,), 0, 0)})

    def fail():
        yield "a", torch.zeros(5)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_stream(tmp_path / "f", header, fail())
    assert not [*tmp_path.iterdir()]
    with pytest.raises(BadInput, match="complex64"):
        plan_header({"c": Stored(torch.complex64, (1,), 0, 0)})
