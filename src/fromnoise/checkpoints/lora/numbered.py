"""The LoRA layout of 2022 (cloneofsimo): pairs without names, whose order decides.

The order is that in which PyTorch lists the modules of diffusers' networks of that time: the middle
block after the way up, a feed-forward layer between the two attentions, CLIP's k, v, q. Where the
shapes fit several orders, the first one here is the one of that time."""

from collections.abc import Iterator, Sequence
from itertools import product

from fromnoise.models.config import CLIPTextConfig, UNetConfig

Shapes = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]  # (up, down) of each pair
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FIRST, SECOND = (tuple(f"attn{i}.{name}" for name in ATTENTION) for i in (1, 2))
INNER = (
    (*FIRST, "ff.net.0.proj", *SECOND),
    (*FIRST, *SECOND, "ff.net.0.proj"),
    (*FIRST, *SECOND),
)
RESNET = ("conv1", "time_emb_proj", "conv2", "conv_shortcut")
TEXT = tuple(f"self_attn.{name}_proj" for name in ("k", "v", "q", "out"))


def order_unet(config: UNetConfig) -> Iterator[list[str]]:
    """The modules of a U-Net in every order that such a file may be in, the likeliest first."""
    levels, n = len(config.block_out_channels), config.layers_per_block
    depths = config.transformer_depth
    down = [(f"down_blocks.{i}", n, config.attention[i], depths[i]) for i in range(levels)]
    back = reversed(range(levels))
    up = [(f"up_blocks.{levels - 1 - i}", n + 1, config.attention[i], depths[i]) for i in back]
    middle = [("mid_block", 1, config.mid_attention, depths[-1])]
    for blocks, inner, resnets in product(
        ((*down, *up, *middle), (*down, *middle, *up)), INNER, (False, True)
    ):
        names = []
        for block, count, attends, depth in blocks:
            places = product(range(count if attends else 0), range(depth), inner)
            names += [
                f"{block}.attentions.{i}.transformer_blocks.{j}.{name}" for i, j, name in places
            ]
            if resnets:
                more = count + 1 if block == "mid_block" and attends else count
                names += [f"{block}.resnets.{i}.{name}" for i in range(more) for name in RESNET]
        yield names


def order_text(config: CLIPTextConfig) -> Iterator[list[str]]:
    """The modules of a text encoder, likewise."""
    for more in ((), ("mlp.fc1", "mlp.fc2")):
        layers = range(config.layers)
        yield [f"text_model.encoder.layers.{i}.{name}" for i in layers for name in (*TEXT, *more)]


def find_order(
    orders: Iterator[list[str]], known: dict[str, tuple[int, ...]], pairs: Shapes
) -> list[str] | None:
    """The modules that the pairs belong to, one by one; None where no order fits. known: the shape
    of each module's weight."""
    for names in orders:
        names = [name for name in names if name in known]
        if len(names) == len(pairs) and all(
            up[:1] == known[name][:1] and down[1:2] == known[name][1:2]
            for name, (up, down) in zip(names, pairs, strict=True)
        ):
            return names
    return None
