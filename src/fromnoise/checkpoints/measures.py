"""Names and shapes of tensors → the configuration of the network that they belong to. No torch.

What shapes do not tell (heads, norm groups, activation) is what all published models of that kind
have."""

from collections.abc import Callable, Mapping
from math import gcd
from typing import Any

from fromnoise.checkpoints.keymap import BLOCK, TextTower
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig

Shapes = Mapping[str, tuple[int, ...]]
HEAD = 64  # channels of an attention head, in CLIP and in Stable Diffusion 2 and XL
TIME_ID = 256  # channels of one size or crop that is an input of SDXL
LEVELS, BLOCKS, DEPTH = 8, 8, 24  # most that are counted; published models have 4, 3 and 10
LAYERS, WIDEST = 64, 1 << 17
# of a text encoder: words, positions, layers, the first matrix of a layer's MLP, projection
CLIP = (
    "embeddings.token_embedding.weight",
    "embeddings.position_embedding.weight",
    "encoder.layers",
    "mlp.fc1",
    "text_projection.weight",
)
OPEN_CLIP = (
    "token_embedding.weight",
    "positional_embedding",
    "transformer.resblocks",
    "mlp.c_fc",
    "text_projection",
)
REMEDY = "it is cut short, or of another architecture"


def find(shapes: Shapes, key: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor. Raises BadCheckpoint where it is missing or of another kind."""
    shape = shapes.get(key)
    if shape is None:
        raise BadCheckpoint(f"there is no {key}", REMEDY)
    if len(shape) != dimensions or not all(0 < n <= WIDEST for n in shape):
        expected = f"{dimensions} sizes from 1 to {WIDEST:,}"
        raise BadCheckpoint(f"{key} has the shape {shape}, not {expected}", REMEDY)
    return shape


def count(shapes: Shapes, most: int, name: Callable[[int], str]) -> int:
    """How many of the names are there, from the first one on."""
    return next((i for i in range(most) if name(i) not in shapes), most)


def choose_groups(widths: tuple[int, ...]) -> int:
    """32 norm groups as in every published model; fewer where 32 do not divide the widths."""
    return gcd(32, *widths)


def measure_unet(shapes: Shapes, prefix: str, original: bool) -> UNetConfig:
    """The U-Net whose keys begin with `prefix`, in the original layout or that of diffusers. Raises
    BadCheckpoint for another architecture."""
    p, names = prefix, ("input_blocks.0.0", "out.2", "time_embed.cond_proj", "label_emb.0.0")
    middle = f"{p}middle_block.1."
    if not original:
        names = ("conv_in", "conv_out", "time_embedding.cond_proj", "add_embedding.linear_1")
        middle = f"{p}mid_block.attentions.0."
    first, last, guided, added = (f"{p}{name}.weight" for name in names)

    def depth(block: str) -> int:
        return count(shapes, DEPTH, lambda i: f"{block}transformer_blocks.{i}.{BLOCK[0]}.weight")

    levels: list[list[tuple[int, int]]] = [[]]  # of each block: its width and its depth
    if original:
        for place in range(1, LEVELS * (BLOCKS + 1)):
            block = f"{p}input_blocks.{place}."
            if f"{block}0.op.weight" in shapes:
                levels.append([])
            elif f"{block}0.in_layers.2.weight" in shapes:
                width = find(shapes, f"{block}0.in_layers.2.weight", 4)[0]
                levels[-1].append((width, depth(f"{block}1.")))
            else:
                break
    else:
        blocks = [f"{p}down_blocks.{n}." for n in range(LEVELS)]
        keys = [[f"{b}resnets.{i}.conv1.weight" for i in range(BLOCKS)] for b in blocks]
        levels = [
            [
                (find(shapes, key, 4)[0], depth(f"{block}attentions.{i}."))
                for i, key in enumerate(level)
                if key in shapes
            ]
            for block, level in zip(blocks, keys, strict=True)
            if level[0] in shapes
        ] or [[]]
    if not all(level and level == [level[0]] * len(levels[0]) for level in levels):
        raise BadCheckpoint("the levels of the U-Net differ in their number of blocks", REMEDY)
    widths = tuple(level[0][0] for level in levels)
    depths = [level[0][1] for level in levels]
    attends = (*(n > 0 for n in depths), depth(middle) > 0)
    if attends[-1] and depths[-1] not in (0, depth(middle)):
        raise BadCheckpoint("the middle of the U-Net is deeper than its last level", REMEDY)
    depths[-1] = depths[-1] or depth(middle)
    usual = {n for n in depths if n}  # a level without transformers has the number of the others
    rest = usual.pop() if len(usual) == 1 else 1
    transformers = [key for key in shapes if key.startswith(p) and key.endswith(".proj_in.weight")]
    linear = any(len(shapes[key]) == 2 for key in transformers)
    context = (key for key in shapes if key.startswith(p) and key.endswith("attn2.to_k.weight"))
    key = next(context, None)
    # Stable Diffusion 1 has 8 heads on every level, later ones have heads of 64 channels
    heads = tuple(max(w // HEAD, 1) if linear or w % 8 else 8 for w in widths)
    heads = tuple(n if w % n == 0 else 1 for n, w in zip(heads, widths, strict=True))
    sizes: dict[str, Any] = {
        "in_channels": find(shapes, first, 4)[1],
        "out_channels": find(shapes, last, 4)[0],
        "block_out_channels": widths,
        "layers_per_block": len(levels[0]),
        "attention": attends[:-1],
        "heads": heads,
        "context_dim": find(shapes, key, 2)[1] if key else 768,
        "transformer_depth": tuple(n or rest for n in depths),
        "norm_groups": choose_groups(widths),
        "linear_projection": linear,
        "mid_attention": attends[-1],
        "guidance_dim": find(shapes, guided, 2)[1] if guided in shapes else None,
    }
    if added in shapes:
        sizes |= {"added_dim": find(shapes, added, 2)[1], "time_id_dim": TIME_ID}
    try:
        return UNetConfig(**sizes)
    except BadInput as error:
        raise BadCheckpoint(error.message, REMEDY) from None


def measure_vae(shapes: Shapes, prefix: str, original: bool) -> VAEConfig:
    """The KL autoencoder whose keys begin with `prefix`; only its decoder is looked at. Raises
    BadCheckpoint for another architecture."""
    p = f"{prefix}decoder."
    if original:
        levels = count(shapes, LEVELS, lambda i: f"{p}up.{i}.block.0.conv1.weight")
        first = [f"{p}up.{i}.block.0.conv1.weight" for i in range(levels)]
        blocks = count(shapes, BLOCKS + 1, lambda i: f"{p}up.0.block.{i}.conv1.weight")
        attention = f"{p}mid.attn_1.norm.weight"
    else:
        levels = count(shapes, LEVELS, lambda i: f"{p}up_blocks.{i}.resnets.0.conv1.weight")
        first = [f"{p}up_blocks.{i}.resnets.0.conv1.weight" for i in reversed(range(levels))]
        blocks = count(shapes, BLOCKS + 1, lambda i: f"{p}up_blocks.0.resnets.{i}.conv1.weight")
        attention = f"{p}mid_block.attentions.0.group_norm.weight"
    widths = tuple(find(shapes, key, 4)[0] for key in first)
    try:
        return VAEConfig(
            out_channels=find(shapes, f"{p}conv_out.weight", 4)[0],
            latent_channels=find(shapes, f"{p}conv_in.weight", 4)[1],
            block_out_channels=widths,
            layers_per_block=blocks - 1,
            norm_groups=choose_groups(widths),
            mid_attention=attention in shapes,
            quant_conv=f"{prefix}post_quant_conv.weight" in shapes,
        )
    except BadInput as error:
        raise BadCheckpoint(error.message, REMEDY) from None


def measure_text(shapes: Shapes, part: str, prefix: str, projects: bool) -> TextTower:
    """The text encoder whose keys begin with `prefix`: CLIP's, as OpenAI trained it, or OpenCLIP's.
    projects: whether its projection is used. Raises BadCheckpoint."""
    open_clip = f"{prefix}positional_embedding" in shapes
    flat = f"{prefix}embeddings.token_embedding.weight" in shapes
    names = OPEN_CLIP if open_clip else CLIP
    tower = prefix if open_clip or flat else f"{prefix}text_model."
    words, dim = find(shapes, tower + names[0], 2)
    layers = count(shapes, LAYERS, lambda i: f"{tower}{names[2]}.{i}.{names[3]}.weight")
    projection = None
    if projects and (key := prefix + names[4]) in shapes:
        projection = find(shapes, key, 2)[1 if open_clip else 0]
    try:
        config = CLIPTextConfig(
            vocab_size=words,
            dim=dim,
            layers=layers,
            heads=dim // HEAD if dim % HEAD == 0 else 1,
            mlp_dim=find(shapes, f"{tower}{names[2]}.0.{names[3]}.weight", 2)[0],
            max_length=find(shapes, tower + names[1], 2)[0],
            activation="gelu" if open_clip else "quick_gelu",
            projection_dim=projection,
            eos_id=words - 1,
        )
    except BadInput as error:
        raise BadCheckpoint(error.message, REMEDY) from None
    return TextTower(part, prefix, config, open_clip, flat)
