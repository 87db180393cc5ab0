"""Where the drawn part meets the rest: how free each latent is, and colours that agree along a
mask's edge."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

# of a 3×3 mean, each of variance 2/3: a difference at the edge fades over √(64 · 2/3) = 6.5 pixels
ROUNDS = 64
FINE = 8  # pixels
TILE = 1024  # pixels a side that are matched at once: 50 MB of floats, however large a mask is


def measure_freedom(mask: Image.Image, cell: int) -> Tensor:
    """How far each latent, of `cell` pixels a side, may leave the picture's own: (1, 1, h, w), 0
    without white, 1 where all is white. Between, it is the white share of the latent, divided by
    the greatest share around it, so that a thin stroke is free as well.

    If latents were free as soon as one pixel is, an edge inside of a latent would part pixels of
    two pictures: gradients across it are twice as high (benchmarks/seams.py)."""
    white = torch.from_numpy(np.asarray(mask) > 0)[None, None].float()
    share = F.avg_pool2d(white, cell)
    return share / F.max_pool2d(share, 3, 1, 1).clamp(min=1e-9)


def match_seam(drawn: Image.Image, picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture outside of the mask, and inside the drawn one, its colours matched at the edge.

    Inside, the difference that both have at the edge is added. It spreads inwards and fades: this
    is seamless cloning (Pérez et al. 2003 "Poisson image editing", eq. 4) stopped early, so that
    it reaches no farther than an edge is seen. Fine differences, which such spreading loses at the
    first pixel, fade over FINE pixels. All three are of one size; "RGB", "RGB" and "L"."""
    box = mask.getbbox()
    if box is None:
        return picture
    left, top = max(box[0] - 1, 0), max(box[1] - 1, 0)
    right, bottom = min(box[2] + 1, mask.width), min(box[3] + 1, mask.height)
    result = picture.copy()
    for y in range(top, bottom, TILE):
        for x in range(left, right, TILE):
            tile = (x, y, min(x + TILE, right), min(y + TILE, bottom))
            result.paste(_match_tile(drawn, picture, mask, tile, (left, top, right, bottom)), tile)
    return result


def _match_tile(
    drawn: Image.Image,
    picture: Image.Image,
    mask: Image.Image,
    tile: tuple[int, int, int, int],
    box: tuple[int, int, int, int],
) -> Image.Image:
    """One tile of `match_seam`, computed with as many pixels around it, inside `box`, as a
    difference can spread: every tiling gives the same bits."""
    reach = ROUNDS + FINE + 1
    wide = (
        max(tile[0] - reach, box[0]),
        max(tile[1] - reach, box[1]),
        min(tile[2] + reach, box[2]),
        min(tile[3] + reach, box[3]),
    )
    inner = (tile[0] - wide[0], tile[1] - wide[1], tile[2] - wide[0], tile[3] - wide[1])
    outside = torch.from_numpy(np.asarray(mask.crop(wide)) == 0)
    if not outside.any():
        return drawn.crop(tile)
    if outside.all():
        return picture.crop(tile)
    new, old = (
        torch.from_numpy(np.asarray(p.crop(wide), np.float32)).permute(2, 0, 1)
        for p in (drawn, picture)
    )
    apart = (old - new) * outside  # (3, h, w)
    spread = apart
    for _ in range(ROUNDS):
        spread = torch.where(outside, apart, F.avg_pool2d(spread, 3, 1, 1, count_include_pad=False))
    copied, share = _carry_inwards(apart, outside)
    spread = torch.lerp(spread, copied, share)
    pixels = (new + spread).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(pixels.contiguous().numpy()).crop(inner)


def _carry_inwards(apart: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """(differences (3, h, w), each copied inwards pixel by pixel; how much each of them counts,
    (1, h, w), from 1 outside down to 0 at FINE + 1 pixels)."""
    cross = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]])
    known = outside[None].float()
    copied, share = apart, known
    for depth in range(1, FINE + 1):
        # sums of the neighbours that are known, and in the last channel their number
        near = F.conv2d(torch.cat((copied, known))[:, None], cross, padding=1)[:, 0]
        layer = (known == 0) & (near[3:] > 0)
        copied = torch.where(layer, near[:3] / near[3:].clamp(min=1), copied)
        share = torch.where(layer, 1 - depth / (FINE + 1), share)
        known = known.masked_fill(layer, 1.0)
    return copied, share
