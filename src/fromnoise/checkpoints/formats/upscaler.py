"""Upscaling networks, one file each: ESRGAN in its three layouts of keys, Real-ESRGAN's
compact network.

The numbers of blocks, widths and doublings are read off the shapes. What one of these networks does
not have is an error that names its key: other architectures (SwinIR, DAT, ESRGAN+ …) are not
guessed at."""

import hashlib
import os
import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from fromnoise.checkpoints.sources import open_tensors
from fromnoise.checkpoints.tensors import Stored, TensorFile, Unfilled, check_fit, fill
from fromnoise.errors import BadCheckpoint, NotFound
from fromnoise.models.rrdb import Compact, RRDBNet
from fromnoise.runtime.upscaler import Upscaler

T = TypeVar("T")
# of Real-ESRGAN's training; where a file has both, the average (ema) is the better network
PREFIXES = ("params_ema.", "params.", "module.")
WIDEST, DEEPEST = 8192, 64  # channels, and blocks of ESRGAN; published ones have 64 and 23
MOST = 3 * 32 * DEEPEST  # tensors: a file may hold a network three times, see PREFIXES
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
    """The network of a .safetensors or .pth file, in fp32 on the CPU; of a pickle only tensors are
    read. Raises NotFound, and BadCheckpoint for a damaged file or another architecture."""
    path = Path(path).expanduser()
    if not os.path.lexists(path):
        raise NotFound(
            f"there is no upscaler {path}",
            "give a .safetensors or .pth file, or a method, such as lanczos",
        )
    file, digest = open_tensors(path), hashlib.sha256()
    if len(file.stored) > MOST:
        raise BadCheckpoint(f"{path} has {len(file.stored):,} tensors, {MOST:,} are most", REMEDY)
    stored = rename_tensors(file.stored, str(path))
    with Unfilled():
        network = build_network(stored, str(path))
    check_fit(network, stored, path)
    plain = isinstance(file, TensorFile)  # which is read from its first byte to its last
    fill(network, rename_tensors(file.read(digest.update if plain else None), str(path)).items())
    if not plain:
        with path.open("rb") as whole:
            digest = hashlib.file_digest(whole, "sha256")
    return Upscaler(network, path.stem, digest.hexdigest()[:10])


def rename_tensors(tensors: Mapping[str, T], name: str) -> dict[str, T]:
    """Tensors under the names of models.rrdb. Raises BadCheckpoint for a key that none of the
    layouts has."""
    groups = {
        prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        for prefix in PREFIXES
    }
    groups = {prefix: group for prefix, group in groups.items() if group}
    if groups:
        if stray := [k for k in tensors if not k.startswith(PREFIXES)]:
            raise BadCheckpoint(f"{name} has {stray[0]} beside {next(iter(groups))}…", REMEDY)
        tensors = next(iter(groups.values()))
        for prefix, group in groups.items():
            if group.keys() != tensors.keys():
                odd = min(group.keys() ^ tensors.keys())
                raise BadCheckpoint(
                    f"{name} has {odd} only with or only without {prefix}", "fetch the file again"
                )
    if any(k.startswith("model.") for k in tensors):
        return _first_layout(tensors, name)
    renamed: dict[str, T] = {}
    for key, value in tensors.items():
        old = next((old for old in RENAMED if key.startswith(old)), "")
        new = RENAMED.get(old, "") + key.removeprefix(old)
        new = new.replace(".RDB", ".rdb")
        if new in renamed:
            raise BadCheckpoint(f"{name} has {new} twice, once as {key}", REMEDY)
        renamed[new] = value
    return renamed


def _first_layout(tensors: Mapping[str, T], name: str) -> dict[str, T]:
    """The layout of ESRGAN's first files, one long sequence: model.0 the first convolution,
    model.1.sub the blocks and a convolution, then after every doubling one, at 3, 6, …, and the
    last two."""
    tail = sorted(
        {int(m[1]) for k in tensors if (m := re.fullmatch(r"model\.(\d{1,3})\.(?:weight|bias)", k))}
        - {0}
    )
    blocks = [int(m[1]) for k in tensors if (m := re.match(r"model\.1\.sub\.(\d{1,4})\.RDB", k))]
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
    for key, value in tensors.items():
        inside = re.fullmatch(r"model\.1\.sub\.(\d+)\.RDB([123])\.conv(\d)\.0\.(weight|bias)", key)
        outside = re.fullmatch(r"model\.(.+)\.(weight|bias)", key)
        if inside:
            renamed[f"body.{inside[1]}.rdb{inside[2]}.conv{inside[3]}.{inside[4]}"] = value
        elif outside and outside[1] in names:
            renamed[f"{names[outside[1]]}.{outside[2]}"] = value
        else:
            raise BadCheckpoint(f"{name}: {key} belongs to no part of ESRGAN", REMEDY)
    return renamed


def build_network(tensors: Mapping[str, Stored | Tensor], name: str) -> RRDBNet | Compact:
    """The network that tensors of these names and shapes fill, not yet filled. Raises
    BadCheckpoint."""

    def shape(key: str) -> tuple[int, ...]:
        value = tensors.get(f"{key}.weight")
        size = () if value is None else tuple(value.shape)
        if len(size) != 4 or not 1 <= min(size) <= max(size) <= WIDEST:
            raise BadCheckpoint(
                f"{name} has no convolution {key}: it is another architecture", REMEDY
            )
        return size

    def count(pattern: str) -> int:
        """1 + the highest number of what matches."""
        return 1 + max((int(m[1]) for k in tensors if (m := re.match(pattern, k))), default=-1)

    if "conv_first.weight" in tensors:
        width, channels, *_ = shape("conv_first")
        # no more blocks than have keys (30 each), so that no number in a name asks for memory
        blocks = min(count(r"body\.(\d{1,4})\.rdb"), len(tensors) // 30 + 1, DEEPEST)
        doublings = count(r"conv_up(\d{1,2})\.") - 1
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
    if "body.0.weight" in tensors:
        last = min(count(r"body\.(\d{1,4})\."), len(tensors), 4 * DEEPEST) - 1
        width, scale = shape("body.0")[0], isqrt(shape(f"body.{last}")[0] // 3)
        if last < 2 or last % 2 or not 1 <= scale <= 8:
            raise BadCheckpoint(
                f"{name}: body.{last} does not end a compact network of ×1 to ×8", REMEDY
            )
        return Compact(width, last // 2 - 1, scale)
    raise BadCheckpoint(
        f"{name} is no upscaling network that is known: it has {min(tensors, default='nothing')}",
        REMEDY,
    )
