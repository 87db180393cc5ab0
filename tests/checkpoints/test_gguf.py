"""GGUF and scaled fp8 are read as the numbers that others make of them."""

import gguf
import numpy as np
import pytest
import torch
from gguf import quants
from safetensors.torch import save_file

from fromnoise.checkpoints.gguf.blocks import BLOCKS, dequantize
from fromnoise.checkpoints.gguf.header import SIZES, TYPES
from fromnoise.checkpoints.headers import peek
from fromnoise.checkpoints.sources import open_tensors
from fromnoise.errors import BadCheckpoint

KINDS = gguf.GGMLQuantizationType


def draw_blocks(kind: str, count: int) -> np.ndarray:
    """Random blocks whose scales are finite."""
    blocks = np.random.default_rng(0).integers(0, 256, (count, SIZES[kind][1]), dtype=np.uint8)
    places = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,)}.get(kind, (0, 2))
    for place in places if kind != "Q8_0" and not kind.endswith("_0") else places[:1]:
        blocks[:, place + 1] &= 0xBB  # fp16 with a small exponent
    return blocks


def write(path, tensors, facts=(), **options):
    """tensors: key → (blocks or numbers, kind)."""
    writer = gguf.GGUFWriter(path, "sdxl", **options)
    for key, value in facts:
        writer.add_array(key, value)
    for key, (data, kind) in tensors.items():
        writer.add_tensor(key, data, raw_dtype=kind and KINDS[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_are_the_numbers_of_ggml(kind):
    """To the bit: the same products, in the same order."""
    blocks = draw_blocks(kind, 5000)
    theirs = quants.dequantize(blocks, KINDS[kind]).reshape(-1)
    ours = dequantize(kind, blocks.reshape(-1))
    assert np.isfinite(theirs).all()
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_sizes_are_those_of_ggml():
    assert all(gguf.GGML_QUANT_SIZES[KINDS(n)] == entry[1:] for n, entry in TYPES.items())
    assert all(KINDS(n).name == entry[0] for n, entry in TYPES.items())


def test_a_file_is_read_with_types_and_shapes(tmp_path):
    path = tmp_path / "unet.gguf"
    rng = np.random.default_rng(1)
    conv = rng.standard_normal((320, 4, 3, 3), dtype=np.float32)
    blocks = draw_blocks("Q4_K", 4 * 3)
    tensors = {
        "conv.weight": (conv.astype(np.float16), None),
        "proj.weight": (blocks.reshape(4, -1), "Q4_K"),
        "bias": (conv[:, 0, 0, 0].copy(), None),
        "cut.weight": (quants.quantize(conv.reshape(-1, 32), KINDS.Q8_0), "Q8_0"),
        "bf16": (torch.ones(3, 2).bfloat16().view(torch.uint8).numpy(), "BF16"),
    }
    write(path, tensors, [("comfy.gguf.orig_shape.cut.weight", list(conv.shape))])
    header = peek(path)
    assert (header.kind, header.metadata["general.architecture"]) == ("gguf", "sdxl")
    assert header.shapes == {
        "conv.weight": (320, 4, 3, 3),
        "proj.weight": (4, 768),
        "bias": (320,),
        "cut.weight": (320, 4, 3, 3),
        "bf16": (3, 2),
    }
    assert [entry.dtype for entry in header.entries.values()] == [
        "F16",
        "Q4_K",
        "F32",
        "Q8_0",
        "BF16",
    ]
    source = open_tensors(path)
    found = source.read()
    assert found.keys() == tensors.keys()
    for key, tensor in found.items():
        assert source.stored[key][:2] == (tensor.dtype, tensor.shape)
    assert torch.equal(found["conv.weight"], torch.from_numpy(conv).half())
    assert torch.equal(found["bias"], torch.from_numpy(conv)[:, 0, 0, 0])
    theirs = quants.dequantize(blocks.reshape(4, -1), KINDS.Q4_K)
    assert torch.equal(found["proj.weight"], torch.from_numpy(theirs))
    # Q8_0 keeps a 127th of the largest of 32 values, and fp16 a scale to 2^-11
    assert (found["cut.weight"] - torch.from_numpy(conv)).abs().max() < np.abs(conv).max() / 200
    assert torch.equal(found["bf16"], torch.ones(3, 2).bfloat16())
    assert [*source.read(keys={"bias"})] == ["bias"]


def test_a_type_that_is_not_read_is_named(tmp_path):
    write(tmp_path / "x.gguf", {"w": (np.zeros((1, 66), np.uint8), "IQ2_XXS")})
    assert peek(tmp_path / "x.gguf").entries["w"].dtype == "IQ2_XXS"
    with pytest.raises(BadCheckpoint, match="w has the type IQ2_XXS, not one of"):
        open_tensors(tmp_path / "x.gguf")


@pytest.mark.parametrize("word", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_weights_of_eight_bits_are_scaled(tmp_path, word, kind):
    weight = (torch.randn(4, 3) * 20).to(kind)
    rows = torch.tensor([1.0, 2.0, 3.0, 4.0])
    save_file(
        {
            "scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn),
            "a.weight": weight.clone(),
            f"a.{word}": torch.tensor(0.3),
            "a.scale_input": torch.tensor(1.0),
            "b.weight": weight.clone(),
            f"b.{word}": torch.tensor([0.3]),
            "c.weight": weight.clone(),
            f"c.{word}": rows,
            "d.weight": weight.clone(),
            f"d.{word}": rows[:, None].half(),
            "plain.weight": torch.ones(2).half(),
        },
        tmp_path / "x.safetensors",
    )
    source = open_tensors(tmp_path / "x.safetensors")
    keys = {"a.weight", "b.weight", "c.weight", "d.weight", "plain.weight"}
    assert source.stored.keys() == keys == peek(tmp_path / "x.safetensors").shapes.keys()
    found = source.read()
    assert found.keys() == keys
    for key, tensor in found.items():
        assert source.stored[key][:2] == (tensor.dtype, tensor.shape)
    assert torch.equal(found["a.weight"], weight.float() * 0.3)
    assert torch.equal(found["b.weight"], weight.float() * 0.3)
    assert torch.equal(found["c.weight"], weight.float() * rows[:, None])
    assert torch.equal(found["d.weight"], weight.float() * rows[:, None])
    assert found["plain.weight"].dtype == torch.float16
    assert torch.equal(source.read(keys=["c.weight"])["c.weight"], found["c.weight"])


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a.weight_scale": torch.ones(1)}, "a.weight_scale has no weight beside it"),
        ({"a.weight": torch.ones(4, 8), "a.weight_scale": torch.ones(4, 2)}, r"shape \(4, 2\)"),
        ({"a.weight": torch.ones(4, 8), "a.weight_scale": torch.ones(3)}, r"shape \(3,\)"),
    ],
)
def test_scales_that_do_not_fit_are_named(tmp_path, tensors, said):
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(BadCheckpoint, match=said):
        open_tensors(tmp_path / "x.safetensors")
