"""Upscaling networks, one safetensors file each: ESRGAN in its three layouts of keys, Real-ESRGAN's
compact network.

The numbers of blocks, widths and doublings are read off the shapes. What one of these networks does
not have is an error that names its key: other architectures (SwinIR, DAT, ESRGAN+ …) are not
guessed at."""

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path

from torch import Tensor

from fromnoise.checkpoints import tensors
from fromnoise.errors import BadCheckpoint, NotFound
from fromnoise.models.rrdb import Compact, RRDBNet
from fromnoise.runtime.upscaler import Upscaler

SUFFIX = ".safetensors"
PREFIXES = (
    "params_ema.",
    "params.",
    "module.",
)  # of Real-ESRGAN's training; the average before what it is of
# ESRGAN's own code called the parts so before BasicSR named them anew
RENAMED = {
    "RRDB_trunk.": "body.",
    "trunk_conv.": "conv_body.",
    "upconv": "conv_up",
    "HRconv.": "conv_hr.",
}
REMEDY = (
    "give an ESRGAN, Real-ESRGAN or SRVGGNetCompact network; other architectures cannot be read"
)


def load(path: str | Path) -> Upscaler:
    """The file's network, in fp32 on the CPU. Raises NotFound, and BadCheckpoint for a pickle, a
    damaged file or another architecture."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise NotFound(
            f"there is no upscaler {path}", "give a .safetensors file, or a method, such as lanczos"
        )
    if path.suffix.lower() != SUFFIX:
        raise BadCheckpoint(
            f"{path} is no {SUFFIX} file: opening a pickle (.pth, .pt) would run code from it",
            f"convert it to {SUFFIX} where you trust it, or fetch it in that form",
        )
    found = native(tensors.read(path), str(path))
    with tensors.Unfilled():
        network = build(found, str(path))
    tensors.fill(network, found, str(path))
    return Upscaler(network, path.stem, tensors.digest(path))


def native(found: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Tensors under the names of models.rrdb. Raises BadCheckpoint for a key that none of the
    layouts has."""
    groups = {
        prefix: {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        for prefix in PREFIXES
    }
    groups = {prefix: group for prefix, group in groups.items() if group}
    if groups:
        if stray := [k for k in found if not k.startswith(PREFIXES)]:
            raise BadCheckpoint(f"{name} has {stray[0]} beside {next(iter(groups))}…", REMEDY)
        first = next(iter(groups.values()))
        for prefix, group in groups.items():
            if group.keys() != first.keys():
                odd = min(group.keys() ^ first.keys())
                raise BadCheckpoint(
                    f"{name} has {odd} only with or only without {prefix}", "fetch the file again"
                )
        return native(first, name)
    if any(k.startswith("model.") for k in found):
        return _first_layout(found, name)
    for old, new in RENAMED.items():
        found = {re.sub(rf"^{re.escape(old)}", new, k): v for k, v in found.items()}
    return {k.replace(".RDB", ".rdb"): v for k, v in found.items()}


def _first_layout(found: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The layout of ESRGAN's first files, one long sequence: model.0 the first convolution,
    model.1.sub the blocks and a convolution, then after every doubling one, at 3, 6, …, and the
    last two."""
    tail = sorted(
        {int(m[1]) for k in found if (m := re.fullmatch(r"model\.(\d{1,3})\.(?:weight|bias)", k))}
        - {0}
    )
    blocks = [int(m[1]) for k in found if (m := re.match(r"model\.1\.sub\.(\d{1,4})\.RDB", k))]
    doublings = len(tail) - 2
    end = 3 * doublings + 2
    if doublings < 0 or not blocks or tail != [*range(3, end, 3), end, end + 2]:
        raise BadCheckpoint(
            f"{name} is not ESRGAN's sequence: {len({*blocks})} blocks, then {tail}", REMEDY
        )
    names = {
        "0": "conv_first",
        f"1.sub.{max(blocks) + 1}": "conv_body",
        str(end): "conv_hr",
        str(end + 2): "conv_last",
    }
    names |= {str(3 * i): f"conv_up{i}" for i in range(1, doublings + 1)}
    renamed = {}
    for key, value in found.items():
        inside = re.fullmatch(r"model\.1\.sub\.(\d+)\.RDB([123])\.conv(\d)\.0\.(weight|bias)", key)
        outside = re.fullmatch(r"model\.(.+)\.(weight|bias)", key)
        if inside:
            renamed[f"body.{inside[1]}.rdb{inside[2]}.conv{inside[3]}.{inside[4]}"] = value
        elif outside and outside[1] in names:
            renamed[f"{names[outside[1]]}.{outside[2]}"] = value
        else:
            raise BadCheckpoint(f"{name}: {key} belongs to no part of ESRGAN", REMEDY)
    return renamed


def build(found: Mapping[str, Tensor], name: str) -> RRDBNet | Compact:
    """The network that tensors of these names and shapes fill, not yet filled. Raises
    BadCheckpoint."""

    def shape(key: str) -> tuple[int, ...]:
        value = found.get(f"{key}.weight")
        if value is None or value.ndim != 4:
            raise BadCheckpoint(
                f"{name} has no convolution {key}: it is another architecture", REMEDY
            )
        return tuple(value.shape)

    def count(pattern: str) -> int:
        """1 + the highest number of what matches; no more than there are keys, so that no number
        asks for memory."""
        numbers = {int(m[1]) for k in found if (m := re.match(pattern, k))}
        return min(max(numbers, default=-1) + 1, len(found))

    if "conv_first.weight" in found:
        width, channels, *_ = shape("conv_first")
        blocks, doublings = count(r"body\.(\d{1,4})\.rdb"), count(r"conv_up(\d{1,2})\.") - 1
        unshuffle, growth = isqrt(channels // 3), shape("body.0.rdb1.conv1")[0]
        if (
            3 * unshuffle**2 != channels
            or unshuffle not in (1, 2, 4)
            or 2 ** max(doublings, 0) % unshuffle
        ):
            raise BadCheckpoint(
                f"{name}: conv_first takes {channels} channels", "give a network for RGB pictures"
            )
        if doublings > 3:
            raise BadCheckpoint(
                f"{name} doubles the side {doublings} times", "give a network of ×8 at most"
            )
        return RRDBNet(width, blocks, growth, max(doublings, 0), unshuffle)
    if "body.0.weight" in found:
        last = count(r"body\.(\d{1,4})\.") - 1
        width, scale = shape("body.0")[0], isqrt(shape(f"body.{last}")[0] // 3)
        if last < 2 or last % 2 or not 1 <= scale <= 8:
            raise BadCheckpoint(
                f"{name}: body.{last} does not end a compact network of ×1 to ×8", REMEDY
            )
        return Compact(width, last // 2 - 1, scale)
    raise BadCheckpoint(
        f"{name} is no upscaling network that is known: it has {min(found, default='nothing')}",
        REMEDY,
    )
