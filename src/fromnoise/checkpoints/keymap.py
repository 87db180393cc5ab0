"""Key rules: the layout of single files (the original one of Stable Diffusion) ↔ the parts of a
diffusers folder. No torch: the rules work on tensors, on headers and on shapes alike.

A rule is a Group: one key of the single file, the keys of a part that hold the same numbers, and
an operation with an inverse. Both ways are the identity on every byte. A tensor without a rule goes
into the extras under its own key, and comes out again."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from fromnoise.errors import BadCheckpoint
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig

UNET, VAE = "model.diffusion_model.", "first_stage_model."  # what their keys begin with
WHOLE = ("weight", "bias")
# single file → folder, inside one module
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "time_embed.cond_proj": "time_embedding.cond_proj",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
TRANSFORMER = ("norm", "proj_in", "proj_out")
BLOCK = tuple(f"attn{i}.{name}" for i in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0"))
BLOCK += ("norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2")
VAE_RESNET = {name: name for name in ("norm1", "conv1", "norm2", "conv2")}
VAE_RESNET |= {"nin_shortcut": "conv_shortcut"}
VAE_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}  # 1×1 convolutions
CLIP_LAYER = tuple(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out"))
CLIP_LAYER += ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2")
OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
LAYERS, EMBEDDINGS = "text_model.encoder.layers.", "text_model.embeddings."


class Group(NamedTuple):
    """One key of a single file, and the keys of a part that hold the same numbers."""

    single: str
    part: str  # the name of its folder: unet, vae, text_encoder, …
    keys: tuple[str, ...]  # in the part's own file
    how: str = "same"  # from the single file to the part, see `forth`


class TextTower(NamedTuple):
    """A text encoder in a single file: the part it becomes, what its keys begin with, and whether
    they are OpenCLIP's."""

    part: str
    prefix: str
    config: CLIPTextConfig
    open_clip: bool
    flat: bool = False  # CLIP's keys without their "text_model."


def rule_unet(config: UNetConfig, prefix: str = UNET) -> Iterator[Group]:
    """The rules of a U-Net. Not every group has a tensor in every network: a shortcut is only where
    widths differ."""

    def pair(single: str, key: str) -> Iterator[Group]:
        for end in WHOLE:
            yield Group(f"{prefix}{single}.{end}", "unet", (f"{key}.{end}",))

    def resnet(single: str, key: str) -> Iterator[Group]:
        for theirs, ours in RESNET.items():
            yield from pair(f"{single}.{theirs}", f"{key}.{ours}")

    def transformer(single: str, key: str, depth: int) -> Iterator[Group]:
        blocks = (f"transformer_blocks.{i}.{name}" for i in range(depth) for name in BLOCK)
        for name in (*TRANSFORMER, *blocks):
            yield from pair(f"{single}.{name}", f"{key}.{name}")

    levels, n = len(config.block_out_channels), config.layers_per_block
    depths = config.transformer_depth
    for single, key in ENDS.items():
        yield from pair(single, key)
    place = 1  # in input_blocks
    for level in range(levels):
        for i in range(n):
            block = f"down_blocks.{level}"
            yield from resnet(f"input_blocks.{place}.0", f"{block}.resnets.{i}")
            if config.attention[level]:
                attention = f"{block}.attentions.{i}"
                yield from transformer(f"input_blocks.{place}.1", attention, depths[level])
            place += 1
        if level < levels - 1:
            downsample = f"down_blocks.{level}.downsamplers.0.conv"
            yield from pair(f"input_blocks.{place}.0.op", downsample)
            place += 1
    yield from resnet("middle_block.0", "mid_block.resnets.0")
    if config.mid_attention:
        yield from transformer("middle_block.1", "mid_block.attentions.0", depths[-1])
        yield from resnet("middle_block.2", "mid_block.resnets.1")
    for i in range(levels * (n + 1)):
        step, layer = divmod(i, n + 1)
        level, block = levels - 1 - step, f"up_blocks.{step}"
        yield from resnet(f"output_blocks.{i}.0", f"{block}.resnets.{layer}")
        if config.attention[level]:
            attention = f"{block}.attentions.{layer}"
            yield from transformer(f"output_blocks.{i}.1", attention, depths[level])
        if level and layer == n:
            upsample = f"output_blocks.{i}.{1 + config.attention[level]}.conv"
            yield from pair(upsample, f"{block}.upsamplers.0.conv")


def rule_vae(config: VAEConfig, prefix: str = VAE) -> Iterator[Group]:
    """The rules of a KL autoencoder."""
    levels, n = len(config.block_out_channels), config.layers_per_block

    def pair(single: str, key: str, how: str = "same") -> Iterator[Group]:
        yield Group(f"{prefix}{single}.weight", "vae", (f"{key}.weight",), how)
        yield Group(f"{prefix}{single}.bias", "vae", (f"{key}.bias",))

    def resnet(single: str, key: str) -> Iterator[Group]:
        for theirs, ours in VAE_RESNET.items():
            yield from pair(f"{single}.{theirs}", f"{key}.{ours}")

    for name in ("quant_conv", "post_quant_conv"):
        yield from pair(name, name)
    for side, single, block, change in (
        ("encoder", "down", "down_blocks", ("downsample.conv", "downsamplers.0.conv")),
        ("decoder", "up", "up_blocks", ("upsample.conv", "upsamplers.0.conv")),
    ):
        for theirs, ours in (
            ("conv_in", "conv_in"),
            ("norm_out", "conv_norm_out"),
            ("conv_out", "conv_out"),
        ):
            yield from pair(f"{side}.{theirs}", f"{side}.{ours}")
        for i in range(2):
            yield from resnet(f"{side}.mid.block_{i + 1}", f"{side}.mid_block.resnets.{i}")
        attention = f"{side}.mid_block.attentions.0"
        yield from pair(f"{side}.mid.attn_1.norm", f"{attention}.group_norm")
        for theirs, ours in VAE_ATTENTION.items():
            yield from pair(f"{side}.mid.attn_1.{theirs}", f"{attention}.{ours}", "flatten")
        for level in range(levels):
            # the original counts the decoder's levels from the finest one too
            place = level if side == "encoder" else levels - 1 - level
            for i in range(n + (side == "decoder")):
                theirs, ours = f"{side}.{single}.{place}", f"{side}.{block}.{level}"
                yield from resnet(f"{theirs}.block.{i}", f"{ours}.resnets.{i}")
                yield from pair(f"{theirs}.{change[0]}", f"{ours}.{change[1]}")


def rule_text(tower: TextTower) -> Iterator[Group]:
    """The rules of a text encoder: CLIP's keys only get a prefix; OpenCLIP fuses q, k and v, and
    its projection is transposed."""
    part, prefix, config = tower.part, tower.prefix, tower.config
    if not tower.open_clip:
        keys = [f"{EMBEDDINGS}{kind}_embedding.weight" for kind in ("token", "position")]
        keys += [f"{EMBEDDINGS}position_ids"]  # of older files: a table 0, 1, 2, … and no weight
        names = [f"{LAYERS}{i}.{name}" for i in range(config.layers) for name in CLIP_LAYER]
        names += ["text_model.final_layer_norm"]
        keys += [f"{name}.{end}" for name in names for end in WHOLE]
        keys += ["text_projection.weight"] if config.projection_dim else []
        drop = "text_model." if tower.flat else ""
        yield from (Group(prefix + key.removeprefix(drop), part, (key,)) for key in keys)
        return
    position = f"{EMBEDDINGS}position_embedding.weight"
    yield Group(f"{prefix}positional_embedding", part, (position,))
    token = f"{EMBEDDINGS}token_embedding.weight"
    yield Group(f"{prefix}token_embedding.weight", part, (token,))
    if config.projection_dim:
        projection = ("text_projection.weight",)
        yield Group(f"{prefix}text_projection", part, projection, "transpose")
    for end in WHOLE:
        yield Group(f"{prefix}ln_final.{end}", part, (f"text_model.final_layer_norm.{end}",))
        for i in range(config.layers):
            block, layer = f"{prefix}transformer.resblocks.{i}.", f"{LAYERS}{i}."
            keys = tuple(f"{layer}self_attn.{name}_proj.{end}" for name in "qkv")
            yield Group(f"{block}attn.in_proj_{end}", part, keys, "split")
            for theirs, ours in OPEN_CLIP_LAYER.items():
                yield Group(f"{block}{theirs}.{end}", part, (f"{layer}{ours}.{end}",))


class KeyMap:
    """The rules of one model, both ways. A tensor may be a torch.Tensor, an entry of a header
    (headers.Entry, tensors.Stored), or a shape alone."""

    def __init__(self, groups: Iterator[Group] | list[Group]):
        self.groups = {group.single: group for group in groups}
        self.homes = {(g.part, key): g for g in self.groups.values() for key in g.keys}

    def to_parts(
        self, tensors: Mapping[str, Any], file: object = "the file"
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """The tensors of a single file → ({part: {its key: tensor}}, what no rule knows). Raises
        BadCheckpoint for a shape that an operation cannot take."""
        parts: dict[str, dict[str, Any]] = {}
        extras: dict[str, Any] = {}
        for key, value in tensors.items():
            if (group := self.groups.get(key)) is None:
                extras[key] = value
                continue
            found = forth(group, value, f"{file}: {key[:200]}")
            parts.setdefault(group.part, {}).update(zip(group.keys, found, strict=True))
        return parts, extras

    def to_single(
        self,
        parts: Mapping[str, Mapping[str, Any]],
        extras: Mapping[str, Any] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> dict[str, Any]:
        """The inverse. shapes: of the single file's tensors, where they are known: some files hold
        a 1×1 convolution as a matrix. Raises BadCheckpoint for a key without a rule, for one of q,
        k and v without the others, and for a key of the extras that a part has too."""
        tensors: dict[str, Any] = {}
        for part, values in parts.items():
            for key in values:
                if (group := self.homes.get((part, key))) is None:
                    remedy = "a single file has no place for it; fetch the model again"
                    raise BadCheckpoint(f"{part} holds {key[:200]}, an unknown key", remedy)
                if missing := [k for k in group.keys if k not in values]:
                    fault = f"{part} holds {key}, but no {missing[0]}"
                    raise BadCheckpoint(fault, "fetch the model again")
                if group.single not in tensors:
                    found = [values[k] for k in group.keys]
                    tensors[group.single] = back(group, found, (shapes or {}).get(group.single))
        if both := tensors.keys() & (extras or {}).keys():
            fault = f"the extras hold {min(both)[:200]}, which a part holds too"
            raise BadCheckpoint(fault, "remove the file of the extras")
        return tensors | dict(extras or {})


def find_shape(value: Any) -> tuple[int, ...]:
    return value if type(value) is tuple else tuple(value.shape)


def forth(group: Group, value: Any, name: str) -> list[Any]:
    """The tensor of a single file → those of the part."""
    shape = find_shape(value)
    if group.how == "split":
        n, rest = divmod(shape[0] if shape else 1, len(group.keys))
        if rest:
            raise _refuse(name, shape, f"{len(group.keys)} equal matrices, one under the other")
        places = (slice(i * n, i * n + n) for i in range(len(group.keys)))
        return [_change(value, (n, *shape[1:]), lambda v, p=p: v[p].clone()) for p in places]
    if group.how == "transpose":
        if len(shape) != 2:
            raise _refuse(name, shape, "a matrix")
        return [_change(value, shape[::-1], lambda v: v.T.contiguous())]
    if group.how == "flatten":
        if len(shape) < 2 or any(n != 1 for n in shape[2:]):
            raise _refuse(name, shape, "a 1×1 convolution")
        return [_change(value, shape[:2], lambda v: v.reshape(shape[:2]))]
    return [value]


def back(group: Group, values: list[Any], wanted: tuple[int, ...] | None = None) -> Any:
    """The tensors of a part → the one of the single file, of the shape `wanted` where the operation
    leaves a choice."""
    value, shape = values[0], find_shape(values[0])
    if group.how == "split":
        if len({(str(getattr(v, "dtype", "")), find_shape(v)) for v in values}) > 1:
            names = ", ".join(group.keys)
            fault = f"{group.part}: {names} differ in shape or type"
            raise BadCheckpoint(fault, "a single file holds them as one tensor")
        whole = (len(values) * shape[0], *shape[1:])
        return _change(value, whole, lambda _: _join(values))
    if group.how == "transpose":
        return _change(value, shape[::-1], lambda v: v.T.contiguous())
    if group.how == "flatten":
        whole = wanted if wanted and wanted[:2] == shape[:2] else (*shape, 1, 1)
        return _change(value, whole, lambda v: v.reshape(whole))
    return value


def _join(values: list[Any]) -> Any:
    import torch

    return torch.cat(values)


def _change(value: Any, shape: tuple[int, ...], operation: Any) -> Any:
    """A shape, an entry of a header, or a tensor after the operation."""
    if type(value) is tuple:
        return shape
    if hasattr(value, "reshape"):
        return operation(value)
    change = value._replace if isinstance(value, tuple) else partial(replace, value)  # type: ignore
    return change(shape=shape)


def _refuse(name: str, shape: tuple[int, ...], expected: str) -> BadCheckpoint:
    return BadCheckpoint(f"{name} is {shape}, not {expected}", "fetch the file again")
