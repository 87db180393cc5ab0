"""CLIP's image tower alone: a folder as transformers writes it, or one file in the layout of
transformers or of OpenCLIP. Other parts of CLIP in the file are left unread."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

from fromnoise.checkpoints.configs import Fields, Rule, read_json
from fromnoise.checkpoints.download import choose_weights
from fromnoise.checkpoints.formats.contents import Mapped
from fromnoise.checkpoints.formats.diffusers_towers import read_vision
from fromnoise.checkpoints.keymap import CLIP_LAYER, OPEN_CLIP_LAYER, WHOLE, Group
from fromnoise.checkpoints.measures import LAYERS, Shapes, count, find
from fromnoise.checkpoints.sources import TensorSource, open_tensors
from fromnoise.checkpoints.tensors import Unfilled, check_fit, fill
from fromnoise.errors import BadCheckpoint, BadInput, NotFound
from fromnoise.models.clip_vision import CLIPVision, CLIPVisionConfig

# dim → heads, and the activation of its training: OpenAI's towers B and L, OpenCLIP's H, g and
# bigG
PUBLISHED = {
    768: (12, "quick_gelu"),
    1024: (16, "quick_gelu"),
    1280: (16, "gelu"),
    1408: (16, "gelu"),
    1664: (16, "gelu"),
}
# OpenCLIP's own files in a folder: the weights, safetensors first, and their configuration
OPEN_FILES = "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"
OPEN_FILES += ("open_clip_pytorch_model.bin",)
OPEN_CONFIG = "open_clip_config.json"
TOWER, STEM = "vision_model.", "vision_model.embeddings."
PART = "image_encoder"
REMEDY = "give CLIP's image tower: a folder image_encoder, or a file of ComfyUI's clip_vision"


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """A tower still in its file."""

    config: CLIPVisionConfig
    source: TensorSource

    def load(self) -> CLIPVision:
        """The tower in fp32 on the CPU. Raises BadCheckpoint."""
        with Unfilled():
            network = CLIPVision(self.config)
        check_fit(network, self.source.stored, self.source.path)
        fill(network, self.source.stream())
        return network


def open_encoder(path: Path) -> ImageEncoder:
    """The tower of a folder or a file, from its header. Raises NotFound, and BadCheckpoint for what
    is none."""
    file, config = path, None
    if path.is_dir():
        here = [one.name for one in path.iterdir()]
        names = choose_weights(here) or [name for name in OPEN_FILES if name in here][:1]
        if len(names) != 1:
            raise NotFound(
                f"no weights in {path}",
                "it holds a model.safetensors, or OpenCLIP's open_clip_pytorch_model.bin",
            )
        file = path / names[0]
        config = path / (OPEN_CONFIG if names[0] in OPEN_FILES else "config.json")
    source = open_tensors(file)
    shapes = {key: entry.shape for key, entry in source.stored.items()}
    rules, measured = measure_tower(shapes, file)
    groups = {group.single: group for group in rules if group.single in shapes}
    if config is not None and os.path.lexists(config):
        measured = read_config(config, measured)
    return ImageEncoder(measured, Mapped(source, groups))


def read_config(file: Path, measured: CLIPVisionConfig) -> CLIPVisionConfig:
    """The configuration that a file tells: of transformers, where it is the tower's own or that of
    a whole CLIP, or of OpenCLIP, which tells what `measured` lacks. Raises BadCheckpoint."""
    fields = read_json(file)
    if file.name == OPEN_CONFIG:
        whole = fields.values.get("model_cfg")
        whole = whole if isinstance(whole, dict) else {}
        tower = whole.get("vision_cfg")
        tower = Fields(file, tower if isinstance(tower, dict) else {})
        head = tower.get(Rule("head_width", int, 1, 4096), measured.dim // measured.heads)
        if measured.dim % head:
            tower.refuse("head_width", f"a divisor of the width {measured.dim}")
        quick = Fields(file, whole).get(Rule("quick_gelu"), measured.activation == "quick_gelu")
        heads, activation = measured.dim // head, "quick_gelu" if quick else "gelu"
        return replace(measured, heads=heads, activation=activation)
    inner = fields.values.get("vision_config")
    if isinstance(inner, dict) and "projection_dim" in fields.values:
        own = {"projection_dim": fields.values["projection_dim"], "model_type": "clip_vision_model"}
        fields = Fields(file, inner | own)
    return read_vision(fields)


def measure_tower(shapes: Shapes, file: Path) -> tuple[list[Group], CLIPVisionConfig]:
    """(the rules of its keys, its configuration by its shapes). Raises BadCheckpoint."""
    open_clip = "visual.conv1.weight" in shapes
    flat = "embeddings.class_embedding" in shapes  # transformers 5 leaves out "vision_model."
    prefix = "" if flat else TOWER
    names = f"{prefix}embeddings.patch_embedding.weight", "visual_projection.weight"
    places = f"{prefix}embeddings.position_embedding.weight"
    layer, inner = f"{prefix}encoder.layers", "mlp.fc1"
    if open_clip:
        names, places = ("visual.conv1.weight", "visual.proj"), "visual.positional_embedding"
        layer, inner = "visual.transformer.resblocks", "mlp.c_fc"
    if names[0] not in shapes:
        raise BadCheckpoint(f"{file} is no image tower of CLIP: it has no {names[0]}", REMEDY)
    try:
        dim, _, patch, _ = find(shapes, names[0], 4)
        layers = count(shapes, LAYERS, lambda i: f"{layer}.{i}.{inner}.weight")
        heads, activation = PUBLISHED.get(dim, (max(dim // 64, 1), "quick_gelu"))
        config = CLIPVisionConfig(
            image_size=isqrt(max(find(shapes, places, 2)[0] - 1, 0)) * patch,
            patch_size=patch,
            dim=dim,
            layers=layers,
            heads=heads,
            mlp_dim=find(shapes, f"{layer}.0.{inner}.weight", 2)[0],
            activation=activation,
            projection_dim=find(shapes, names[1], 2)[1 if open_clip else 0],
        )
    except (BadCheckpoint, BadInput) as error:
        raise BadCheckpoint(f"{file}: {error.message}", REMEDY) from None
    rules = rule_open_clip(layers) if open_clip else rule_tower(layers, prefix)
    return [*rules], config


def rule_tower(layers: int, prefix: str) -> Iterator[Group]:
    """The rules of a file of transformers: its keys are ours, or lack the beginning."""
    names = [f"encoder.layers.{i}.{name}" for i in range(layers) for name in CLIP_LAYER]
    names += ["pre_layrnorm", "post_layernorm"]
    keys = [f"{name}.{end}" for name in names for end in WHOLE]
    keys += ["embeddings.class_embedding"]
    keys += [f"embeddings.{kind}_embedding.weight" for kind in ("patch", "position")]
    yield from (Group(prefix + key, PART, (TOWER + key,)) for key in keys)
    yield Group("visual_projection.weight", PART, ("visual_projection.weight",))


def rule_open_clip(layers: int) -> Iterator[Group]:
    """The rules of OpenCLIP's layout: q, k and v are one matrix, the projection is transposed."""
    yield Group("visual.class_embedding", PART, (f"{STEM}class_embedding",))
    yield Group("visual.positional_embedding", PART, (f"{STEM}position_embedding.weight",))
    yield Group("visual.conv1.weight", PART, (f"{STEM}patch_embedding.weight",))
    yield Group("visual.proj", PART, ("visual_projection.weight",), "transpose")
    for end in WHOLE:
        yield Group(f"visual.ln_pre.{end}", PART, (f"{TOWER}pre_layrnorm.{end}",))
        yield Group(f"visual.ln_post.{end}", PART, (f"{TOWER}post_layernorm.{end}",))
        for i in range(layers):
            block, ours = f"visual.transformer.resblocks.{i}.", f"{TOWER}encoder.layers.{i}."
            keys = tuple(f"{ours}self_attn.{name}_proj.{end}" for name in "qkv")
            yield Group(f"{block}attn.in_proj_{end}", PART, keys, "split")
            for theirs, name in OPEN_CLIP_LAYER.items():
                yield Group(f"{block}{theirs}.{end}", PART, (f"{ours}{name}.{end}",))
