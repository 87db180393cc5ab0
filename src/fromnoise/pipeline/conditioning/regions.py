"""Masks by name, a prompt's IMASK(name): picture files → where a part holds, and how a replay knows
them again."""

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
    """Name → weights in [0, 1], (1, 1, height, width) of latents: white is 1, grey between, each
    the average over its place, the mask stretched over the whole picture (which is noted where it
    changes its shape). Raises NotFound and BadInput."""
    found = {}
    for name, path in masks.items():
        picture = pictures.read_soft_mask(path)
        if not picture.getbbox():
            raise BadInput(
                f"the mask {name!r} is black, so its part would hold nowhere",
                "paint white where it does",
            )
        if not 0.95 < picture.width * height / (picture.height * width) < 1.05:
            notes[f"the mask {name!r} is {picture.width}x{picture.height}: it is stretched"] = None
        shares = np.asarray(picture.convert("F").resize((width, height), Image.Resampling.BOX))
        found[name] = torch.from_numpy(shares / np.float32(255)).clamp(0, 1)[None, None]
    return found


def describe_masks(masks: Mapping[str, Path]) -> dict[str, str | None]:
    """What the file says of the masks that it was drawn with: their names and hashes."""
    return {
        "Masks": json.dumps(
            {k: pictures.hash_pixels(pictures.read_soft_mask(v)) for k, v in masks.items()}
        )
    }


def check_replayed_masks(
    path: Path, fields: Mapping[str, str], masks: Mapping[str, Path]
) -> dict[str, Path]:
    """The masks for drawing the picture at `path`, which says these fields, again. Raises BadInput
    where others, more or fewer are given than it was drawn with."""
    try:
        said = json.loads(fields.get("Masks", "{}"))
    except (ValueError, RecursionError):
        said = None
    then = said if isinstance(said, dict) else {}
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
    """Where a part holds, its regions' weights multiplied: (1, 1, height, width) of latents that
    are `factor` pixels a side; 1 for no region. masks: by name, of that shape. Raises BadInput for
    a region without any place, and for a mask that is not among them."""
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
