"""Conditioning: all that a network is shown beside x and t."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What B rows of a U-Net's input are shown beside x and t; None where it lacks the slot."""

    context: Tensor  # (B, N, context_dim) states of the text encoders, for cross-attention
    pooled: Tensor | None = None  # (B, D) pooled text (SDXL)
    time_ids: Tensor | None = None  # (B, n) fp32: sizes and crop in pixels (SDXL)
    concat: Tensor | None = None  # (B or 1, C, H, W) channels that follow those of x (inpainting)
    image_tokens: Tensor | None = None  # (B, M, context_dim) of an image prompt (IP-Adapter)
    guidance: Tensor | None = None  # (B,) fp32, its scale, for a network distilled with it (LCM)
    negative: Tensor | None = None  # (B,) 1 for the negative prompt's rows, see runtime.control

    @property
    def names(self) -> set[str]:
        """Of the slots that are filled."""
        return {name for name, value in vars(self).items() if value is not None}

    def map(self, change: Callable[[str, Tensor], Tensor]) -> "Conditioning":
        """`change` of the name and the value of every slot that is filled."""
        return Conditioning(**{name: change(name, getattr(self, name)) for name in self.names})

    def rows(self, rows: Sequence[int]) -> "Conditioning":
        """Those rows; what has a single row has it in their places."""
        return self.map(lambda _, v: v[list(rows) if len(v) > 1 else [0] * len(rows)])


def stack(parts: Sequence[Conditioning]) -> Conditioning:
    """The rows of all of them. They fill the same slots, with contexts of one length."""
    return parts[0].map(lambda name, _: torch.cat([getattr(part, name) for part in parts]))
