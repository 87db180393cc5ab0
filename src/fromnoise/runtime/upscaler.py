"""A prepared upscaling network: pictures of any size, tile by tile, within bounded memory."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.models.rrdb import Compact, RRDBNet

# Pixels of the input: with these a ×4 RRDB network of 64 channels needs about 1 GB.
TILE, OVERLAP = 256, 32
PIXELS = 100_000_000  # limit for the output: 300 MB as RGB, 1.2 GB during the computation


@dataclass(frozen=True, eq=False)
class Upscaler:
    """The network of a file. `name` and `digest` (the start of the file's SHA-256) are what
    pictures record."""

    network: RRDBNet | Compact
    name: str
    digest: str = ""

    @property
    def scale(self) -> int:
        return self.network.scale

    @torch.inference_mode()
    def __call__(self, image: Tensor, tile: int = TILE, overlap: int = OVERLAP) -> Tensor:
        """Image (3, H, W) in [0, 1] → (3, scale·H, scale·W), not clipped, in the network's dtype on
        the CPU.

        Each tile of `tile` × `tile` pixels is computed with `overlap` more pixels around it, as far
        as the picture goes; these are then cut off. With overlap ≥ network.reach this is the whole
        picture's own result except for the order of sums. Deep networks reach further (23 blocks:
        350 pixels), but such distant pixels hardly matter. tile, overlap: multiples of 4. Raises
        BadInput for more than PIXELS pixels of output."""
        (height, width), scale = image.shape[-2:], self.scale
        if height * width * scale**2 > PIXELS:
            raise BadInput(
                f"{width}x{height} pixels times {scale} are more than {PIXELS:,}",
                "use a smaller picture",
            )
        weight = next(self.network.parameters())
        whole = torch.empty(3, height * scale, width * scale, dtype=weight.dtype)
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                y, x = max(top - overlap, 0), max(left - overlap, 0)
                bottom, right = top + tile, left + tile
                piece = image[None, :, y : bottom + overlap, x : right + overlap]
                piece = piece.to(weight.device, weight.dtype)
                fine = self.network(piece)[0, :, (top - y) * scale :, (left - x) * scale :]
                target = whole[:, top * scale : bottom * scale, left * scale : right * scale]
                target.copy_(fine[:, : target.shape[1], : target.shape[2]])
        return whole
