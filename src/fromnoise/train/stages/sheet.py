"""Contact sheets: many small pictures in one PNG."""

from pathlib import Path

import numpy as np
from torch import Tensor

from fromnoise.files import write_file
from fromnoise.train.results import REMEDY


def write_sheet(images: Tensor, path: Path, columns: int = 8, gap: int = 2) -> None:
    """Writes images (N, 3, H, W) in [−1, 1] as one PNG, row by row, `gap` pixels apart."""
    from PIL import Image

    pixels = images.float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    pictures = pixels.permute(0, 2, 3, 1).cpu().numpy()
    n, h, w, _ = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        sheet[y : y + h, x : x + w] = picture
    write_file(path, lambda part: Image.fromarray(sheet).save(part, "PNG"), remedy=REMEDY)
