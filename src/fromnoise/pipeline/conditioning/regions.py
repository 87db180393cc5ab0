"""Masks by name, a prompt's IMASK(name): picture files → where a part of the prompt holds, and
how a replay recognizes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.pipeline import pictures
from fromnoise.prompt.tree import Box, Mask


def read_region_masks(
    masks: Mapping[str, Path], height: int, width: int, notes: dict[str, None]
) -> dict[str, Tensor]:
    """Name → weights in [0, 1], (1, 1, height, width) of latents: white is 1, and each weight is
    the average over the pixels of its latent.

    A mask is stretched over the whole picture; a note says so where that changes its shape. Raises
    NotFound and BadInput."""
    weights = {}
    for name, path in masks.items():
        picture = pictures.read_soft_mask(path, notes)
        if not picture.getbbox():
            raise BadInput(
                f"the mask {name!r} is black, so its part would hold nowhere",
                "paint white where it does",
            )
        if not 0.95 < picture.width * height / (picture.height * width) < 1.05:
            notes[f"the mask {name!r} is {picture.width}x{picture.height}: it is stretched"] = None
        shares = np.asarray(picture.convert("F").resize((width, height), Image.Resampling.BOX))
        weights[name] = torch.from_numpy(shares / np.float32(255)).clamp(0, 1)[None, None]
    return weights


def describe_masks(masks: Mapping[str, Path]) -> dict[str, str | None]:
    """What a picture says of the masks that it is drawn with: their names and hashes."""
    hashes = {
        name: pictures.hash_pixels(pictures.read_soft_mask(path)) for name, path in masks.items()
    }
    return {"Masks": json.dumps(hashes)}


def check_replayed_masks(
    path: Path, fields: Mapping[str, str], masks: Mapping[str, Path]
) -> dict[str, Path]:
    """The masks for drawing the picture at `path` again; `fields` is what it says of itself. Raises
    BadInput where other masks, more or fewer are given than it was drawn with."""
    try:
        recorded = json.loads(fields.get("Masks", "{}"))
    except (ValueError, RecursionError):
        recorded = None
    then = recorded if isinstance(recorded, dict) else {}
    if lost := then.keys() - masks.keys():
        raise BadInput(
            f"{path} was drawn with masks by name: {', '.join(sorted(then))}",
            "give each again: " + " ".join(f"--mask-file {name}=…" for name in sorted(lost)),
        )
    if more := masks.keys() - then.keys():
        raise BadInput(
            f"{path} was drawn without a mask called {', '.join(sorted(more))}", "leave it out"
        )
    for name, source in masks.items():
        if (now := pictures.hash_pixels(pictures.read_soft_mask(source))) != then[name]:
            raise BadInput(
                f"{source} is not the mask {name!r} of {path} (hash {now}, then {then[name]})",
                "give the very same pixels",
            )
    return dict(masks)


def place_regions(
    regions: Sequence[Box | Mask],
    height: int,
    width: int,
    factor: int,
    masks: Mapping[str, Tensor] = MappingProxyType({}),
) -> Tensor | float:
    """Where a part of the prompt holds: (1, 1, height, width) of latents that are `factor` pixels a
    side, the weights of its regions multiplied; 1 where it has no region.

    masks: weights by name, of that shape. Raises BadInput for a region that covers nothing, and for
    a mask that is not among them."""
    whole: Tensor | float = 1.0
    for region in regions:
        if isinstance(region, Mask):
            if region.name not in masks:
                raise BadInput(
                    f"the prompt names a mask {region.name!r}, and none was given",
                    f"give --mask-file {region.name}=FILE, or say where: MASK(x1 x2, y1 y2)",
                )
            whole = whole * masks[region.name] * region.weight
            continue
        per = (1 / factor, 1 / factor) if region.pixels else (width, height)
        (x1, x2), (y1, y2) = (
            [min(max(round(v * scale), 0), end) for v in side]
            for side, scale, end in zip((region.x, region.y), per, (width, height), strict=True)
        )
        if x1 >= x2 or y1 >= y2:
            raise BadInput(
                f"MASK of {region.x}, {region.y} covers nothing",
                "give it room: x1 < x2 and y1 < y2",
            )
        inside = torch.zeros(1, 1, height, width)
        inside[..., y1:y2, x1:x2] = region.weight
        whole = whole * inside
    return whole
