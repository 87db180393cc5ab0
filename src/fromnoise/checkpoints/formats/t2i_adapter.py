"""T2I-Adapters: the layout of its authors (`body.…`), and that of diffusers (`adapter.…`)."""

import re
from collections.abc import Collection, Mapping

from fromnoise.checkpoints.configs import Fields, Rule
from fromnoise.checkpoints.measures import count, find
from fromnoise.checkpoints.sources import TensorSource
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.models.t2i_adapter import T2IAdapter as T2IAdapter
from fromnoise.models.t2i_adapter import T2IAdapterConfig

KINDS = ("full_adapter", "full_adapter_xl", "light_adapter")
# our field → its key in config.json and what that may hold
FIELDS = {
    "kind": Rule("adapter_type", str, choices=KINDS),
    "picture_channels": Rule("in_channels", int, 1, 16),
    "widths": Rule("channels", int, 1, 8192, per_level=True),
    "layers_per_block": Rule("num_res_blocks", int, 1, 16),
    "factor": Rule("downscale_factor", int, 1, 32),
}
# channels of the first convolution → (of the picture, pixels that become channels)
PIXELS = {64: (1, 8), 192: (3, 8), 256: (1, 16), 768: (3, 16)}
LEVELS, BLOCKS = 8, 16  # most that are counted; published adapters have 4 and 4
FULL = re.compile(r"body\.(\d{1,3})\.(in_conv|block1|block2)\.(weight|bias)")
LIGHT = re.compile(r"(body\.\d{1,3})\.body\.(\d{1,3}\.block[12]\.(?:weight|bias))")
REMEDY = "it is cut short, or of another architecture"


def is_one(keys: Collection[str]) -> bool:
    """Whether a file with these keys holds a T2I-Adapter."""
    starts = ("adapter.body.0.", "body.0.block1.", "body.0.in_conv.")
    return any(key.startswith(starts) for key in keys)


def open_adapter(
    source: TensorSource, fields: Fields | None
) -> tuple[T2IAdapterConfig, dict[str, str]]:
    """(the adapter's configuration; our key of each tensor → its key in the file). Raises
    BadCheckpoint."""
    names = rename(source.stored)
    try:
        if fields is None:
            shapes = {ours: source.stored[key].shape for ours, key in names.items()}
            return measure_adapter(shapes), names
        values = {name: fields.get(rule) for name, rule in FIELDS.items()}
        given = {name: value for name, value in values.items() if value is not None}
        return T2IAdapterConfig(**given), names
    except (BadInput, BadCheckpoint) as error:
        raise BadCheckpoint(f"{source.path}: {error.message}", error.remedy) from None


def rename(keys: Collection[str]) -> dict[str, str]:
    """Our key of each tensor → its key in the file."""
    if any(key.startswith("adapter.") for key in keys):
        return {key: key for key in keys}
    # a level begins where the width changes; two blocks make a level where none does
    starts = [int(m[1]) for k in keys if (m := FULL.fullmatch(k)) and m[2] == "in_conv"]
    size = min((start for start in starts if start), default=2)
    names: dict[str, str] = {}
    for key in keys:
        new = f"adapter.{key}"
        if match := FULL.fullmatch(key):
            place, inner = divmod(int(match[1]), size)
            part = "in_conv" if match[2] == "in_conv" else f"resnets.{inner}.{match[2]}"
            new = f"adapter.body.{place}.{part}.{match[3]}"
        elif match := LIGHT.fullmatch(key):
            new = f"adapter.{match[1]}.resnets.{match[2]}"
        names[key if new in names else new] = key
    return names


def measure_adapter(shapes: Mapping[str, tuple[int, ...]]) -> T2IAdapterConfig:
    """The configuration of an adapter with tensors of these shapes. Raises BadCheckpoint."""
    light = "adapter.body.0.out_conv.weight" in shapes
    first = "adapter.body.0.in_conv.weight" if light else "adapter.conv_in.weight"
    pixels = find(shapes, first, 4)[1]
    if pixels not in PIXELS:
        raise BadCheckpoint(f"its first convolution takes {pixels} channels", REMEDY)
    body = "adapter.body."
    levels = count(shapes, LEVELS, lambda i: f"{body}{i}.resnets.0.block1.weight")
    blocks = count(shapes, BLOCKS, lambda i: f"{body}0.resnets.{i}.block1.weight")
    end = "out_conv" if light else "resnets.0.block1"
    widths = tuple(find(shapes, f"{body}{i}.{end}.weight", 4)[0] for i in range(levels))
    channels, factor = PIXELS[pixels]
    kind = "light_adapter" if light else ("full_adapter" if factor == 8 else "full_adapter_xl")
    # a light adapter has one block more, as wide as the one before
    return T2IAdapterConfig(kind, channels, widths[:-1] if light else widths, blocks, factor)
