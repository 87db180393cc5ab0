"""The number format that a stage computes in: its `precision`, or the best one for "auto"."""

from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fromnoise.errors import BadInput, UnknownName

PRECISIONS = ("auto", "no", "bf16", "fp16")


def choose_precision(name: str, cpu: bool) -> str:
    """Accelerate's name of the format.

    "auto" is bf16 where the hardware has it, else fp32: a CPU without AVX512-BF16 emulates bf16,
    five times slower than fp32. Raises UnknownName, and BadInput for fp16 on a CPU.
    """
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    if name == "fp16" and cpu:
        raise BadInput("precision = fp16 needs a GPU", 'use "auto", "bf16" or "no" on a CPU')
    if name != "auto":
        return name
    if cpu:
        return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"
    # on Apple's GPUs the question itself would fail
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


class Fp32Attention(TorchFunctionMode):
    """Inside it attention runs in fp32, also under autocast.

    On CPUs the gradient of attention in bf16 takes two to seven times as long as in fp32 (16
    pictures, 256 × 256 and 256 × 32 tokens, torch 2.13).
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            full = (
                x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
                for x in args
            )
            return func(*full, **kwargs)
