"""Settings hidden in a picture's pixels, as NovelAI and an extension of A1111 write them.

The lowest bits of alpha (or of red, green and blue), down the columns, say: "stealth_pnginfo" or
"stealth_pngcomp" ("stealth_rgbinfo", "stealth_rgbcomp"), the number of bits that follow as 32 bits,
and the text in UTF-8, packed by gzip where the name ends in "comp".
"""

import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fromnoise.pipeline.decoding import open_picture

PIXELS = 1 << 24  # larger pictures are not decoded for this
TEXT = 4 << 20  # bytes of a text, unpacked
NAMES = {
    b"stealth_pnginfo": (True, False),  # (in alpha, packed)
    b"stealth_pngcomp": (True, True),
    b"stealth_rgbinfo": (False, False),
    b"stealth_rgbcomp": (False, True),
}
NAME = 15  # bytes of a name; four bytes of length follow


def read_hidden_text(place: Path | BinaryIO) -> str | None:
    """The hidden text; None where there is none. Raises as `decoding.open_picture`."""
    picture = open_picture(place)
    if picture.mode not in ("RGBA", "RGB"):
        return None
    pixels = np.asarray(picture)  # (H, W, 3 or 4)
    for alpha in (True, False) if picture.mode == "RGBA" else (False,):
        channels = pixels[..., 3:] if alpha else pixels[..., :3]
        head = _read_bytes(channels, NAME + 4)
        in_alpha, packed = NAMES.get(head[:NAME], (None, False))
        if in_alpha is not alpha:
            continue
        length = int.from_bytes(head[NAME:], "big") // 8
        if not 0 < length <= channels.size // 8:
            continue
        raw = _read_bytes(channels, NAME + 4 + length)[NAME + 4 :]
        if packed:
            try:
                raw = zlib.decompressobj(wbits=31).decompress(raw, TEXT)
            except zlib.error:
                continue
        return raw[:TEXT].decode("utf-8", "replace")
    return None


def _read_bytes(channels: np.ndarray, count: int) -> bytes:
    """The lowest bits of (H, W, C), down the columns, as bytes."""
    height, _, many = channels.shape
    columns = -(-count * 8 // (height * many))
    bits = channels[:, :columns].transpose(1, 0, 2).reshape(-1)[: count * 8] & 1
    return np.packbits(bits).tobytes()
