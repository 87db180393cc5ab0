"""What a network attends to, as one value: text states and every other condition, unused slots None."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Residuals(NamedTuple):
    """What a ControlNet adds: to each skip connection in the order they are made, and to the middle."""

    skips: tuple[Tensor, ...]
    middle: Tensor


@dataclass(frozen=True)
class Conditioning:
    """All that a U-Net is told beside x and t. A slot that the network has no use for must stay None."""

    context: Tensor  # (B, N, context_dim) states of the text encoder, for cross-attention
    pooled: Tensor | None = None  # (B, D) pooled text (SDXL)
    time_ids: Tensor | None = None  # (B, 6) original size, crop, target size (SDXL)
    concat: Tensor | None = None  # (B, C, H, W) channels put behind those of x (inpainting)
    residuals: Residuals | None = None  # ControlNet
    image_tokens: Tensor | None = None  # (B, M, context_dim) of an image prompt (IP-Adapter)
