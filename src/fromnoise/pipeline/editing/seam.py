"""Where what is drawn meets what stays: how free each latent is, and colours that agree along a
mask's edge."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

# of a 3×3 mean, each of variance 2/3: a difference at the edge fades over √(64 · 2/3) = 6.5 pixels
ROUNDS = 64
FINE = 8  # pixels


def measure_freedom(mask: Image.Image, cell: int) -> Tensor:
    """How far each latent, of `cell` pixels a side, may leave the picture's own: (1, 1, h, w), 0
    without white, 1 where all is white. Between, the white share of the greatest one around, so
    that a thin stroke is free as well.

    With latents that are free as soon as a pixel is, an edge in the midst of them parts pixels of
    two pictures: gradients across it are twice as high (benchmarks/seams.py)."""
    white = torch.from_numpy(np.asarray(mask) > 0)[None, None].float()
    share = F.avg_pool2d(white, cell)
    return share / F.max_pool2d(share, 3, 1, 1).clamp(min=1e-9)


def match_seam(drawn: Image.Image, picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture outside of the mask; inside what was drawn, plus the difference that they have at
    the edge, as it spreads inwards and fades: seamless cloning (Pérez et al. 2003 "Poisson image
    editing", eq. 4) stopped early, so that it reaches no farther than an edge is seen. Fine
    differences, which such spreading loses at the first pixel, fade over FINE of them. All are of
    one size."""
    box = mask.getbbox()
    if box is None:
        return picture
    box = (
        max(box[0] - 1, 0),
        max(box[1] - 1, 0),
        min(box[2] + 1, mask.width),
        min(box[3] + 1, mask.height),
    )
    new, old = (
        torch.from_numpy(np.asarray(p.crop(box), np.float32)).permute(2, 0, 1)
        for p in (drawn, picture)
    )
    outside = torch.from_numpy(np.asarray(mask.crop(box)) == 0)
    apart = (old - new) * outside  # (3, h, w)
    spread = apart
    for _ in range(ROUNDS):
        spread = torch.where(outside, apart, F.avg_pool2d(spread, 3, 1, 1, count_include_pad=False))
    copied, share = _carried(apart, outside)
    spread = torch.lerp(spread, copied, share)
    pixels = (
        (new + spread).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    )
    whole = picture.copy()
    whole.paste(Image.fromarray(pixels), box[:2])
    return whole


def _carried(apart: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """(differences (3, h, w), each copied inwards pixel by pixel; the share of these, (1, h, w),
    from 1 outside down to 0 at FINE + 1 pixels)."""
    cross = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]])
    known = outside[None].float()
    copied, share = apart, known
    for depth in range(1, FINE + 1):
        near = F.conv2d(torch.cat((copied, known))[:, None], cross, padding=1)[
            :, 0
        ]  # sums of neighbours, their number
        layer = (known == 0) & (near[3:] > 0)
        copied = torch.where(layer, near[:3] / near[3:].clamp(min=1), copied)
        share = torch.where(layer, 1 - depth / (FINE + 1), share)
        known = known.masked_fill(layer, 1.0)
    return copied, share
