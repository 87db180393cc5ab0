"""ControlNets and T2I-Adapters, one file or one folder each: ControlNet's own layout
(`control_model.…`), and that of diffusers.

A Union is read in diffusers' layout. What goes by the same name and is another network (LLLite,
Control-LoRA, difference models) is refused by its own name."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from fromnoise.checkpoints.configs import Fields, Rule, open_file, read_json
from fromnoise.checkpoints.foreign import CONTROLS
from fromnoise.checkpoints.formats import t2i_adapter
from fromnoise.checkpoints.formats.diffusers_configs import DOWN, read_unet
from fromnoise.checkpoints.formats.vae import open_weights
from fromnoise.checkpoints.keymap import WHOLE, Group, KeyMap, rule_unet
from fromnoise.checkpoints.library import shorten
from fromnoise.checkpoints.measures import LAYERS, count, find, measure_unet
from fromnoise.checkpoints.sources import TensorSource, open_tensors
from fromnoise.checkpoints.tensors import TensorFile, Unfilled, check_fit, fill
from fromnoise.errors import BadCheckpoint, BadInput, NotFound
from fromnoise.models.config import UNetConfig
from fromnoise.models.controlnet import ControlNet, ControlNetConfig
from fromnoise.runtime.control import Control

PREFIX = "control_model."
MOST_KINDS = 64  # of a Union's pictures; the published ones know 6 and 8
MOST = 10_000  # tensors: the largest published file holds a whole model beside its ControlNet
HINT = "input_hint_block."
HASHED_FROM, HASHED = 0x100000, 0x10000  # the bytes whose hash A1111 writes
# key of the original layout → ours
ENDS = {"middle_block_out.0": "controlnet_mid_block"}
# what foreign.CONTROLS names → what to do
REMEDIES = {
    "a ControlNet-LLLite": "give a ControlNet that was trained for the same thing",
    "a Control-LoRA": "give the whole ControlNet, not its LoRA",
    "a difference model": "it needs the U-Net that it was cut from: give the ControlNet as its "
    "authors published it",
    "a ControlNet Union": "give it in the layout of diffusers, or a ControlNet for one kind of "
    "picture",
    "a T2I-Adapter for styles": "give another adapter",
    "a ControlNet of another architecture": "give one that was made for Stable Diffusion 1, 2 or "
    "XL",
}
# what only a file that is meant to be a ControlNet is asked for: many models have such keys
OTHERS = CONTROLS | {
    "a T2I-Adapter for styles": r"^(?:style_embedding$|ln_post\.)",
    "a ControlNet of another architecture": r"^(?:controlnet_blocks|controlnet_x_embedder|"
    r"pos_embed_input|input_blocks_0|controlnet_mode_embedder|double_blocks|transformer_blocks)\.",
}
CLASSES = ("ControlNetModel", "T2IAdapter", "ControlNetUnionModel")
# our field → its key in config.json and what that may hold
FIELDS = {
    "picture_channels": Rule("conditioning_channels", int, 1, 16),
    "hint_widths": Rule("conditioning_embedding_out_channels", int, 1, 8192, per_level=True),
    "pooled": Rule("global_pool_conditions"),
}
ORDER = Rule("controlnet_conditioning_channel_order", str, choices=("rgb", "bgr"))
HEADS = Rule("num_trans_head", int, 1, 64)
# what the shapes of a Union's tensors tell too
TOLD_TWICE = {"num_control_type", "num_trans_channel", "num_trans_layer", "num_proj_channel"}
REMEDY = "give a ControlNet or a T2I-Adapter for Stable Diffusion 1, 2 or XL"
Network = ControlNet | t2i_adapter.T2IAdapter


class Opened(NamedTuple):
    """A network still in its file. `names`: our key of each tensor → its key in the file."""

    config: ControlNetConfig
    names: dict[str, str]


def open_network(path: Path, like: UNetConfig) -> tuple[Network, TensorSource, dict[str, str]]:
    """(the network of a file or a folder on the meta device; its tensors, which are not read yet;
    our key of each → its key there). Raises as `load`."""
    path = Path(path).expanduser()
    if not os.path.lexists(path):
        raise NotFound(f"there is no ControlNet {path}", "give a file, a folder, or a name")
    fields = read_json(path / "config.json") if path.is_dir() else None
    source = open_weights(path) if path.is_dir() else open_tensors(path)
    refuse_others(source)
    if fields:
        named = fields.get(Rule("_class_name", str), CLASSES[0])
        if named not in CLASSES:
            fields.refuse("_class_name", Rule("_class_name", str, choices=CLASSES))
    if t2i_adapter.is_one(source.stored):
        adapter, names = t2i_adapter.open_adapter(source, fields)
        with Unfilled():
            network: Network = t2i_adapter.T2IAdapter(adapter)
    else:
        config, names = open_folder(fields, source) if fields else open_controlnet(source, like)
        with Unfilled():
            network = ControlNet(config)
    stored = {ours: source.stored[key] for ours, key in names.items()}
    check_fit(network, stored, source.path)
    return network, source, names


def load(path: Path, like: UNetConfig) -> Control:
    """The network of a file or a folder, in fp32 on the CPU; of a pickle only tensors are read.

    like: the U-Net that it is for; its heads and norm groups hold where a file says none, since
    weights do not tell them. Raises NotFound, and BadCheckpoint for a damaged file or another
    architecture."""
    path = Path(path).expanduser()
    network, source, names = open_network(path, like)
    ours = {key: name for name, key in names.items()}
    digest = hashlib.sha256()
    plain = isinstance(source, TensorFile) and len(ours) == len(source.stored)
    pieces = source.stream(digest.update if plain else None, ours.keys())
    fill(network, ((ours[key], value) for key, value in pieces))
    if not plain:
        with open_file(source.path) as whole:
            digest = hashlib.file_digest(whole, "sha256")
    return Control(
        network, shorten(path.as_posix()), digest.hexdigest()[:10], hash_as_a1111(source.path)
    )


def find_weights_of(path: Path) -> Path:
    """The file of tensors of a file, or of a folder of diffusers."""
    return Path(open_weights(path).path) if path.is_dir() else path


def hash_as_a1111(path: Path) -> str:
    """The hash of 64 kB of a file that A1111's extension puts behind a network's name."""
    with open_file(path) as file:
        file.seek(HASHED_FROM)
        return hashlib.sha256(file.read(HASHED)).hexdigest()[:8]


def refuse_others(source: TensorSource) -> None:
    """Raises BadCheckpoint for what is no ControlNet of a kind that can be read, by its name."""
    if len(source.stored) > MOST:
        fault = f"{source.path} has {len(source.stored):,} tensors, {MOST:,} are most"
        raise BadCheckpoint(fault, REMEDY)
    plain = any("controlnet_cond_embedding." in key for key in source.stored)
    for name, pattern in OTHERS.items():
        if plain and name == "a ControlNet Union":
            continue  # in diffusers' layout it can be read
        if any(re.match(pattern, key) for key in source.stored):
            fault = f"{source.path} is {name}, which cannot be used here"
            raise BadCheckpoint(fault, REMEDIES[name])


def open_folder(fields: Fields, source: TensorSource) -> Opened:
    """A folder of diffusers. Raises BadCheckpoint."""
    own = {rule.key for rule in (*FIELDS.values(), ORDER, HEADS)} | TOLD_TWICE
    values = {key: value for key, value in fields.values.items() if key not in own}
    down = values.get("down_block_types")
    if isinstance(down, list) and all(isinstance(kind, str) for kind in down):
        # a U-Net's configuration says both ways, and this network has one
        values["up_block_types"] = [DOWN.get(kind, kind) for kind in reversed(down)]
    unet = read_unet(Fields(fields.file, values))
    more = {name: fields.get(rule) for name, rule in FIELDS.items()}
    shapes = {key: tuple(entry.shape) for key, entry in source.stored.items()}
    heads, blue_first = fields.get(HEADS, 8), fields.get(ORDER, "rgb") == "bgr"
    known = {name: value for name, value in more.items() if value is not None}
    try:
        known |= measure_union(shapes, "", heads)
        config = ControlNetConfig(unet, blue_first=blue_first, **known)
    except (BadCheckpoint, BadInput) as error:
        raise BadCheckpoint(f"{source.path}: {error.message}", REMEDY) from None
    return Opened(config, {key: key for key in source.stored})


def open_controlnet(source: TensorSource, like: UNetConfig) -> Opened:
    """A file in either layout. Raises BadCheckpoint."""
    shapes = {key: tuple(entry.shape) for key, entry in source.stored.items()}
    prefix = PREFIX if any(key.startswith(PREFIX) for key in shapes) else ""
    original = f"{prefix}input_blocks.0.0.weight" in shapes
    first = f"{prefix}input_blocks.0.0.weight" if original else f"{prefix}conv_in.weight"
    if first not in shapes:
        held = min(shapes, default="nothing")[:200]
        raise BadCheckpoint(f"{source.path} is no ControlNet: it has {held}", REMEDY)
    last = f"{prefix}out.2.weight" if original else f"{prefix}conv_out.weight"
    try:
        width, channels, *_ = find(shapes, first, 4)
        # a U-Net has a way up, whose last convolution says its channels
        unet = measure_unet({**shapes, last: (channels, width, 3, 3)}, prefix, original)
        widths = tuple(measure_hint(shapes, prefix, original))
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{source.path}: {error.message}", error.remedy) from None
    unet = replace(unet, upcast_attention=like.upcast_attention)
    if unet.block_out_channels == like.block_out_channels:
        known = {name: getattr(like, name) for name in ("heads", "norm_groups")}
        known |= {name: getattr(like, name) for name in ("flip_sin_to_cos", "freq_shift")}
        known |= {"time_id_dim": like.time_id_dim} if unet.added_dim and like.added_dim else {}
        unet = replace(unet, **known)
    embedding = f"{HINT}0" if original else "controlnet_cond_embedding.conv_in"
    picture = shapes[f"{prefix}{embedding}.weight"][1]
    if not FIELDS["picture_channels"].admits(picture):
        fault = f"{source.path} takes a picture of {picture} channels"
        raise BadCheckpoint(fault, "give a network for RGB pictures")
    try:
        config = ControlNetConfig(unet, picture, widths, **measure_union(shapes, prefix))
    except (BadCheckpoint, BadInput) as error:
        raise BadCheckpoint(f"{source.path}: {error.message}", REMEDY) from None
    if not original:
        names = {key.removeprefix(prefix): key for key in shapes if key.startswith(prefix)}
        return Opened(config, names)
    keymap = KeyMap([*rule_unet(unet, prefix), *rule_ends(config, prefix)])
    own = {key: shape for key, shape in shapes.items() if key.startswith(prefix)}
    parts, extras = keymap.to_parts(own, source.path)
    if extras:
        fault = f"{source.path}: no part of a ControlNet has a place for {min(extras)[:200]}"
        raise BadCheckpoint(fault, REMEDY)
    names = {key: keymap.homes["unet", key].single for key in parts["unet"]}
    return Opened(config, names)


def measure_union(
    shapes: Mapping[str, tuple[int, ...]], prefix: str, heads: int = 8
) -> dict[str, Any]:
    """What a Union has beside a ControlNet; nothing of other networks. Raises BadCheckpoint."""
    if f"{prefix}task_embedding" not in shapes:
        return {}
    kinds = find(shapes, f"{prefix}task_embedding", 2)[0]
    inputs = find(shapes, f"{prefix}control_add_embedding.linear_1.weight", 2)[1]
    if not 0 < kinds <= MOST_KINDS or inputs % kinds:
        fault = f"{prefix}task_embedding has {kinds} kinds of pictures, and {inputs} inputs"
        raise BadCheckpoint(fault, REMEDY)
    start = f"{prefix}transformer_layes."
    layers = count(shapes, LAYERS, lambda i: f"{start}{i}.attn.in_proj_weight")
    sizes = {"kinds": kinds, "kind_layers": layers, "kind_dim": inputs // kinds}
    return sizes | {"kind_heads": heads}


def measure_hint(
    shapes: Mapping[str, tuple[int, ...]], prefix: str, original: bool
) -> Iterator[int]:
    """The widths of what embeds the picture. Raises BadCheckpoint."""
    if original:  # a convolution, then one that keeps and one that halves the side, and the last
        count = sum(f"{prefix}{HINT}{2 * i}.weight" in shapes for i in range(18))
        keys = [f"{prefix}{HINT}{2 * i}.weight" for i in range(0, max(count - 1, 1), 2)]
    else:
        start = f"{prefix}controlnet_cond_embedding."
        count = sum(f"{start}blocks.{i}.weight" in shapes for i in range(16))
        keys = [f"{start}conv_in.weight"]
        keys += [f"{start}blocks.{i}.weight" for i in range(1, count, 2)]
    yield from (find(shapes, key, 4)[0] for key in keys)


def rule_ends(config: ControlNetConfig, prefix: str) -> Iterator[Group]:
    """The rules of what a ControlNet has beside a U-Net's way down."""
    unet, blocks = config.unet, 2 * (len(config.hint_widths) - 1)
    names = {**ENDS, f"{HINT}0": "controlnet_cond_embedding.conv_in"}
    names |= {f"{HINT}{2 * i + 2}": f"controlnet_cond_embedding.blocks.{i}" for i in range(blocks)}
    names[f"{HINT}{2 * blocks + 2}"] = "controlnet_cond_embedding.conv_out"
    skips = len(unet.block_out_channels) * (unet.layers_per_block + 1)
    names |= {f"zero_convs.{i}.0": f"controlnet_down_blocks.{i}" for i in range(skips)}
    for single, ours in names.items():
        for end in WHOLE:
            yield Group(f"{prefix}{single}.{end}", "unet", (f"{ours}.{end}",))
