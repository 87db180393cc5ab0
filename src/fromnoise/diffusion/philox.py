"""Philox 4x32-10, the counter-based generator of NVIDIA GPUs: any machine can draw their pictures.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", with the constants of cuRAND."""

import math
from collections.abc import Callable, Sequence
from itertools import count

import torch
from torch import Tensor

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
# Each round adds these to the key: the golden ratio and √3 − 1, as fractions of 2³².
WEYL = 0x9E3779B9, 0xBB67AE85
WORD = 2**32 - 1
TWO_PI = 6.2831854820251465  # 2π in float32, as cuRAND has it


def run_philox(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Ten rounds of Philox 4x32: counter (4, n) → random words (4, n). All are int64 tensors with
    values in [0, 2³²).

    A product of two words overflows int64, but it wraps to the right 64 bits; the mask removes the
    sign bits that >> copies."""
    a, b, c, d = counter
    k, l = key
    for _ in range(10):
        p, q = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (q >> 32 & WORD) ^ b ^ k, q & WORD, (p >> 32 & WORD) ^ d ^ l, p & WORD
        k, l = k + WEYL[0] & WORD, l + WEYL[1] & WORD
    return torch.stack([a, b, c, d])


def randn(seed: int, call: int, shape: Sequence[int]) -> Tensor:
    """The numbers of the call-th call (from 0) of `torch.randn(shape, device="cuda")` after
    `manual_seed(seed)`, float32.

    Element i belongs to thread i of the GPU: its counter is (call, 0, i, 0), its key the (low,
    high) word of the seed. Only the first two of its four words are used, in the sine half of Box
    and Muller: √(−2 ln u) · sin v, u = (word + ½)/2³², v = 2π · (word + ½)/2³². This function
    computes in float64 and rounds once to float32, which gives the bits of the A1111 web UI's "NV".
    A GPU computes in float32 with a fast sine, so its own numbers differ from both by rounding. All
    this holds while the tensor has no more elements than the GPU has threads at a time (270,336 on
    an H100; the latent of a picture of 512 × 512 has 16,384). Above that, a thread makes several
    elements, and the GPU's size decides which."""
    counter = torch.zeros(4, math.prod(shape), dtype=torch.int64)
    counter[0] = call
    counter[2] = torch.arange(counter.shape[1])
    x, y, _, _ = (run_philox(counter, (seed & WORD, seed >> 32)).double() + 0.5) / 2**32
    return ((-2 * x.log()).sqrt() * (TWO_PI * y).sin()).float().reshape(tuple(shape))


def open_stream(seed: int) -> Callable[[Sequence[int]], Tensor]:
    """Shape → the next unit noise of a seed, one for each call."""
    calls = count()
    return lambda shape: randn(seed, next(calls), shape)
