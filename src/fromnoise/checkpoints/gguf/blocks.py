"""Blocks of GGUF → numbers, in fp32.

A block holds 32 or 256 values as whole numbers of few bits, with a scale d, and sometimes a least
value m; K blocks have 8 or 16 small blocks inside, each with a scale of its own. The layouts are
those of ggml (ggml-quants.c, `dequantize_row_*`); products are formed in the same order, so that
the numbers are the same to the bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fromnoise.checkpoints.gguf.header import SIZES

Bytes = NDArray[np.uint8]  # (N, bytes of a block)
Values = NDArray[Any]  # (N, values of a block); the last step makes fp32 of them


def half(blocks: Bytes, place: int) -> Values:
    """An fp16 number of every block, (N, 1)."""
    return blocks[:, place : place + 2].copy().view(np.float16).astype(np.float32)


def nibbles(data: Bytes) -> Values:
    """(N, 16) → (N, 32): the low four bits of all bytes, then the high ones."""
    return np.concatenate((data & 15, data >> 4), axis=1)


def fifth_bits(data: Bytes) -> Values:
    """(N, 4) → (N, 32): bit after bit, moved to where a fifth bit stands."""
    return np.unpackbits(data, axis=1, bitorder="little") << 4


def q4_0(b: Bytes) -> Values:
    return (nibbles(b[:, 2:]).astype(np.int8) - 8) * half(b, 0)


def q4_1(b: Bytes) -> Values:
    return nibbles(b[:, 4:]) * half(b, 0) + half(b, 2)


def q5_0(b: Bytes) -> Values:
    return ((nibbles(b[:, 6:]) | fifth_bits(b[:, 2:6])).astype(np.int8) - 16) * half(b, 0)


def q5_1(b: Bytes) -> Values:
    return (nibbles(b[:, 8:]) | fifth_bits(b[:, 4:8])) * half(b, 0) + half(b, 2)


def q8_0(b: Bytes) -> Values:
    return b[:, 2:].view(np.int8) * half(b, 0)


def pairs(data: Bytes) -> Values:
    """(N, 64) → (N, 256), two bits each: of every 32 bytes the lowest pairs, then the next, …"""
    shifts = np.arange(0, 8, 2, dtype=np.uint8).reshape(1, 1, 4, 1)
    return (data.reshape(-1, 2, 1, 32) >> shifts & 3).reshape(-1, 256)


def spread(scales: Values, count: int) -> Values:
    """Each scale for so many values."""
    return np.repeat(scales, count, axis=1)


def q2_k(b: Bytes) -> Values:
    scales, d, least = b[:, :16], half(b, 80), half(b, 82)
    return spread(d * (scales & 15), 16) * pairs(b[:, 16:80]) - spread(least * (scales >> 4), 16)


def q3_k(b: Bytes) -> Values:
    third = np.unpackbits(b[:, :32], axis=1, bitorder="little").reshape(-1, 32, 8)
    # bit k of byte l belongs to value l of the k-th 32; where it is 0, 4 is taken off
    high = third.transpose(0, 2, 1).reshape(-1, 256)
    low, two = b[:, 96:104], b[:, 104:108]
    shifts = np.arange(0, 8, 2, dtype=np.uint8).reshape(1, 4, 1)
    scales = np.concatenate((low & 15, low >> 4), axis=1)
    scales = scales | ((two[:, None] >> shifts & 3) << 4).reshape(-1, 16)
    d = half(b, 108) * (scales.astype(np.int8) - 32)
    return spread(d, 16) * (pairs(b[:, 32:96]).astype(np.int8) - ((high ^ 1) << 2).astype(np.int8))


def scales_of_six_bits(b: Bytes) -> tuple[Values, Values]:
    """(scales, least values) of the eight small blocks, from 12 bytes."""
    first, second, rest = b[:, :4], b[:, 4:8], b[:, 8:]
    scales = np.concatenate((first & 63, (rest & 15) | (first >> 6 << 4)), axis=1)
    least = np.concatenate((second & 63, (rest >> 4) | (second >> 6 << 4)), axis=1)
    return scales.astype(np.float32), least.astype(np.float32)


def fours(data: Bytes) -> Values:
    """(N, 128) → (N, 256), four bits each: of every 32 bytes the low ones, then the high ones."""
    data = data.reshape(-1, 4, 32)
    return np.stack((data & 15, data >> 4), axis=2).reshape(-1, 256)


def q4_k(b: Bytes) -> Values:
    scales, least = scales_of_six_bits(b[:, 4:16])
    return spread(half(b, 0) * scales, 32) * fours(b[:, 16:]) - spread(half(b, 2) * least, 32)


def q5_k(b: Bytes) -> Values:
    scales, least = scales_of_six_bits(b[:, 4:16])
    shifts = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    fifth = ((b[:, None, 16:48] >> shifts & 1) << 4).reshape(-1, 256)
    values = fours(b[:, 48:]) | fifth
    return spread(half(b, 0) * scales, 32) * values - spread(half(b, 2) * least, 32)


def q6_k(b: Bytes) -> Values:
    low = b[:, :128].reshape(-1, 2, 64)
    low = np.concatenate((low & 15, low >> 4), axis=2).reshape(-1, 256)
    values = (low | pairs(b[:, 128:192]) << 4).astype(np.int8) - 32
    return spread(half(b, 208) * b[:, 192:208].view(np.int8), 16) * values


BLOCKS: dict[str, Callable[[Bytes], Values]] = {
    "Q4_0": q4_0,
    "Q4_1": q4_1,
    "Q5_0": q5_0,
    "Q5_1": q5_1,
    "Q8_0": q8_0,
    "Q2_K": q2_k,
    "Q3_K": q3_k,
    "Q4_K": q4_k,
    "Q5_K": q5_k,
    "Q6_K": q6_k,
}
AT_ONCE = 1 << 20  # values, so that what is in between needs little memory


def dequantize(kind: str, data: Bytes) -> Values:
    """The values of whole blocks, (count,)."""
    (values, size), read = SIZES[kind], BLOCKS[kind]
    blocks = data.reshape(-1, size)
    found = np.empty((len(blocks), values), np.float32)
    step = AT_ONCE // values
    with np.errstate(all="ignore"):  # a scale may be infinite; the pipeline says what is not finite
        for i in range(0, len(blocks), step):
            found[i : i + step] = read(blocks[i : i + step])
    return found.reshape(-1)
