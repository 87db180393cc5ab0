"""Larger pictures: UPSCALERS, which are formulas for pixels or for latents, and networks from a
file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fromnoise import __version__
from fromnoise.errors import BadInput, UnknownName
from fromnoise.pipeline import decoding
from fromnoise.pipeline.images import to_picture
from fromnoise.pipeline.provenance.read import read_text
from fromnoise.pipeline.provenance.write import format_number, format_pairs
from fromnoise.runtime.upscaler import PIXELS, Upscaler


@dataclass(frozen=True)
class Method:
    """A way to enlarge that needs no network."""

    label: str  # A1111's name
    mode: str  # a name of Pillow's Resampling; for latents, of torch's interpolate
    latent: bool = False
    antialias: bool = False


UPSCALERS = {
    method.label.lower(): method
    for method in (
        Method("Nearest", "nearest"),
        Method("Bilinear", "bilinear"),
        Method("Bicubic", "bicubic"),
        Method("Lanczos", "lanczos"),
        Method("Latent", "bilinear", True),
        Method("Latent (antialiased)", "bilinear", True, True),
        Method("Latent (bicubic)", "bicubic", True),
        Method("Latent (bicubic antialiased)", "bicubic", True, True),
        Method("Latent (nearest)", "nearest", True),
        Method("Latent (nearest-exact)", "nearest-exact", True),
    )
}


def find_upscaler(name: str) -> Method | None:
    """The method of that name; None for what looks like a file. Raises UnknownName for anything
    else."""
    method = UPSCALERS.get(name.strip().lower())
    if (
        method is None
        and not (Path(name).suffix and not name.endswith(")"))
        and not Path(name).is_file()
    ):
        raise UnknownName("upscaler", name, [*UPSCALERS, "a .safetensors or .pth file"])
    return method


def count_passes(size: tuple[int, int], to: tuple[int, int], upscaler: Method | Upscaler) -> int:
    """How often a network is applied to a picture of `size`, until it covers `to`: one to three
    times, as in A1111; 0 for a method. Raises BadInput where this makes more pixels than are
    allowed."""
    if to[0] * to[1] > decoding.PIXELS or min(to) < 1:
        raise BadInput(
            f"{to[0]}x{to[1]} pixels cannot be made", f"ask for 1 to {decoding.PIXELS:,} in all"
        )
    if isinstance(upscaler, Method):
        return 0
    (width, height), scale = size, upscaler.scale
    enough = (n for n in (1, 2) if width * scale**n >= to[0] and height * scale**n >= to[1])
    found = 1 if scale == 1 else next(enough, 3)
    if width * height * scale ** (2 * found) > PIXELS:
        raise BadInput(
            f"{upscaler.name} makes {width * scale**found}x{height * scale**found} pixels on "
            "the way",
            f"start from fewer, or ask for fewer: {PIXELS:,} are the most",
        )
    return found


def upscale_picture(
    picture: Image.Image, size: tuple[int, int], upscaler: Method | Upscaler
) -> Image.Image:
    """Enlarges an RGB picture to `size`, a (width, height). A network is applied as often as
    `count_passes` says, and Lanczos resizes the result to the exact size. Raises BadInput for a
    method of latents, and as `count_passes`."""
    count = count_passes(picture.size, size, upscaler)
    if isinstance(upscaler, Method):
        if upscaler.latent:
            raise BadInput(
                f"{upscaler.label} enlarges latents, and this is a finished picture",
                "choose one of: "
                f"{', '.join(n for n, m in UPSCALERS.items() if not m.latent)}, or a file",
            )
        return picture.resize(size, Image.Resampling[upscaler.mode.upper()])
    for _ in range(count):
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
        picture = to_picture(upscaler(pixels) * 2 - 1)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def scale_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """`scale` times a (width, height). Raises BadInput for a scale that leaves no pixel, or that is
    out of range."""
    if not 0 < scale <= 64 or min(size) * scale < 1:
        raise BadInput(
            f"a picture of {size[0]}x{size[1]} cannot be {scale} times as large",
            "give a scale such as 2",
        )
    return int(size[0] * scale), int(size[1] * scale)


def describe_upscaling(
    source: Path, scale: float | None, size: tuple[int, int], upscaler: Method | Upscaler
) -> str:
    """The settings in the picture at `source`, and behind them, in the words of A1111's "Extras",
    that it was enlarged: by `scale`, or where that is None, to `size`."""
    added = format_pairs(
        {
            "Postprocess upscale by": None if scale is None else format_number(scale),
            "Postprocess upscale to": None if scale is not None else f"{size[0]}x{size[1]}",
            "Postprocess upscaler": upscaler.label
            if isinstance(upscaler, Method)
            else upscaler.name,
            "Postprocess upscaler hash": None if isinstance(upscaler, Method) else upscaler.digest,
        }
    )
    lines = (read_text(source) or "").rstrip().split("\n")
    if lines == [""]:
        return f"{added}, Version: fromnoise {__version__}"
    at = next(
        (i for i in reversed(range(len(lines))) if lines[i].lstrip().startswith("Steps:")),
        len(lines) - 1,
    )
    return "\n".join([*lines[:at], f"{lines[at]}, {added}", *lines[at + 1 :]])


def enlarge_latents(latents: Tensor, size: tuple[int, int], method: Method) -> Tensor:
    """Latents (B, C, h, w) → (B, C, *size); size is (height, width). They are enlarged one by one,
    so that each has the bits that it has alone."""
    smooth = {"antialias": method.antialias} if method.mode in ("bilinear", "bicubic") else {}
    return torch.cat(
        [F.interpolate(one, size, mode=method.mode, **smooth) for one in latents.split(1)]
    )
