"""T2I-Adapter: a small network whose features of a picture are added on a U-Net's way down (Mou et
al. 2023 "T2I-Adapter", §3.2). It sees neither x nor the time: it runs once a picture."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import BadInput
from fromnoise.models.config import UNetConfig

Kind = Literal["full_adapter", "full_adapter_xl", "light_adapter"]


@dataclass(frozen=True)
class T2IAdapterConfig:
    """Raises BadInput."""

    kind: Kind = "full_adapter"
    picture_channels: int = 3  # 1: it sees grey pictures
    widths: tuple[int, ...] = (320, 640, 1280, 1280)  # of its features, the finest first
    layers_per_block: int = 2
    factor: int = 8  # pixels of the picture that become channels, along each side

    def __post_init__(self) -> None:
        if not self.widths or (self.kind == "light_adapter" and any(w % 4 for w in self.widths)):
            raise BadInput(
                f"a {self.kind} cannot have features of {self.widths}",
                "give widths, multiples of 4 for a light adapter",
            )


class Residual(nn.Module):
    """x + convolution of the ReLU of a convolution of x."""

    def __init__(self, width: int, last: int):
        super().__init__()
        self.block1 = nn.Conv2d(width, width, 3, padding=1)
        self.block2 = nn.Conv2d(width, width, last, padding=last // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block2(F.relu(self.block1(x)))


class Block(nn.Module):
    """The features of one resolution. light: it is narrow inside, between two 1×1 convolutions."""

    def __init__(self, inp: int, out: int, count: int, down: bool, light: bool):
        super().__init__()
        inside = out // 4 if light else out
        self.down = down
        self.in_conv = nn.Conv2d(inp, inside, 1) if light or inp != out else None
        self.resnets = nn.Sequential(*(Residual(inside, 3 if light else 1) for _ in range(count)))
        self.out_conv = nn.Conv2d(inside, out, 1) if light else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 2, ceil_mode=True) if self.down else x
        x = self.resnets(x if self.in_conv is None else self.in_conv(x))
        return x if self.out_conv is None else self.out_conv(x)


class Adapter(nn.Module):
    """What lies under `adapter.` in diffusers' files."""

    def __init__(self, config: T2IAdapterConfig):
        super().__init__()
        c, light = config, config.kind == "light_adapter"
        pixels = c.picture_channels * c.factor**2
        self.conv_in = None if light else nn.Conv2d(pixels, c.widths[0], 3, padding=1)
        blocks = []
        widths = (*c.widths, c.widths[-1]) if light else c.widths
        for i, out in enumerate(widths):
            inp = widths[i - 1] if i else (pixels if light else out)
            if c.kind == "full_adapter_xl" and i not in (1, 2):
                inp = out
            down = i == 2 if c.kind == "full_adapter_xl" else i > 0
            blocks.append(Block(inp, out, c.layers_per_block, down, light))
        self.body = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x if self.conv_in is None else self.conv_in(x)
        features = []
        for block in self.body:
            x = block(x)
            features.append(x)
        return features


class T2IAdapter(nn.Module):
    """A picture (B, C, H, W) in [0, 1], its sides multiples of the factor → features, the finest
    first, (B, width, h, w) each: h is the side of latents, or half of it for SDXL."""

    def __init__(self, config: T2IAdapterConfig):
        super().__init__()
        self.config = config
        self.adapter = Adapter(config)

    def forward(self, picture: Tensor) -> list[Tensor]:
        return self.adapter(F.pixel_unshuffle(picture, self.config.factor))


def place_features(config: UNetConfig, count: int) -> list[int]:
    """The place of each of `count` features among the skips of a U-Net; the middle is one behind
    the last skip. As in diffusers, a level's feature is added to its last block, and where the
    level has no attention, behind its downsampler. Raises BadInput for more than there are."""
    places, place = [], 0  # of conv_in
    last = len(config.block_out_channels) - 1
    for level, attends in enumerate(config.attention):
        place += config.layers_per_block
        places.append(place + (not attends and level < last))
        place += level < last
    places.append(place + 1)
    if count > len(places):
        raise BadInput(
            f"the T2I-Adapter makes {count} features, and this U-Net takes {len(places)}",
            "give an adapter that was made for this kind of model",
        )
    return places[:count]
