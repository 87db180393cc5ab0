"""ControlNet: a copy of a U-Net's way down that sees a picture (Zhang et al. 2023 "Adding
conditional control to text-to-image diffusion models", §3.1)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import BadInput
from fromnoise.models.attention import Attended, Attention
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import UNetConfig
from fromnoise.models.layers import TimeEmbedding, zero_parameters
from fromnoise.models.unet import Constants, DownBlock, MiddleBlock, UNet


@dataclass(frozen=True)
class ControlNetConfig:
    """Raises BadInput."""

    unet: UNetConfig  # whose way down it copies; the way up says nothing here
    picture_channels: int = 3
    hint_widths: tuple[int, ...] = (16, 32, 96, 256)  # each but the last halves the side
    blue_first: bool = False  # its picture's channels are blue, green, red
    pooled: bool = False  # it adds one value a channel, the mean over the picture (shuffle)

    def __post_init__(self) -> None:
        if not self.hint_widths:
            raise BadInput("hint_widths is empty", "give a width for each side of the picture")

    @property
    def factor(self) -> int:
        """Pixels of the picture a latent, along each side."""
        return 2 ** (len(self.hint_widths) - 1)


class HintEmbedding(nn.Module):
    """A picture → features of the side of latents: (B, C, H, W) → (B, width, H/8, W/8)."""

    def __init__(self, config: ControlNetConfig):
        super().__init__()
        widths = config.hint_widths
        self.conv_in = nn.Conv2d(config.picture_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, stride=2, padding=1))
        out = config.unet.block_out_channels[0]
        self.conv_out = zero_parameters(nn.Conv2d(widths[-1], out, 3, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        x = F.silu(self.conv_in(picture))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class ControlNet(nn.Module):
    """A U-Net's way down and middle, whose results go through convolutions that start as 0."""

    # what makes a U-Net's constants and runs its way down; both use the parts that have its names
    constants, encode = UNet.constants, UNet.encode

    def __init__(self, config: ControlNetConfig):
        super().__init__()
        self.settings, self.config = config, config.unet
        c, widths = config.unet, config.unet.block_out_channels
        levels, n = range(len(widths)), config.unet.layers_per_block
        self.conv_in = nn.Conv2d(c.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], 4 * widths[0])
        self.add_embedding = TimeEmbedding(c.added_dim, 4 * widths[0]) if c.added_dim else None
        self.controlnet_cond_embedding = HintEmbedding(config)
        self.down_blocks = nn.ModuleList(DownBlock(c, level) for level in levels)
        self.mid_block = MiddleBlock(c)
        skips = [widths[0]] + [widths[i] for i in levels for _ in range(n + (i < levels[-1]))]
        zero_convs = (zero_parameters(nn.Conv2d(width, width, 1)) for width in skips)
        self.controlnet_down_blocks = nn.ModuleList(zero_convs)
        self.controlnet_mid_block = zero_parameters(nn.Conv2d(widths[-1], widths[-1], 1))
        for name, module in self.named_modules():
            if isinstance(module, Attention):
                module.name, module.upcast = name, c.upcast_attention

    def embed_hint(self, picture: Tensor) -> Tensor:
        """A picture in RGB (B, 3, H, W) in [0, 1] → (B, width, h, w), constant over a run."""
        picture = picture.flip(1) if self.settings.blue_first else picture
        return self.controlnet_cond_embedding(picture)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        conditioning: Conditioning,
        hint: Tensor,
        constants: Constants | None = None,
    ) -> list[Tensor]:
        """x (B, C, h, w), t (B,) or (), hint of `embed_hint` (B or 1, width, h, w) → what is added
        to each skip of the U-Net, in order, and to its middle: (B, width, h', w') each, or (B,
        width, 1, 1) of a network that pools. constants: as in UNet.forward."""
        known = constants or self.constants(conditioning)
        _, skips = self.encode(x, t, known, Attended(known.projected), hint)
        convolutions = (*self.controlnet_down_blocks, self.controlnet_mid_block)
        added = [convolution(skip) for convolution, skip in zip(convolutions, skips, strict=True)]
        return [a.mean((2, 3), keepdim=True) for a in added] if self.settings.pooled else added


def scale_layers(count: int, mode: str) -> list[float]:
    """The weights of what a ControlNet adds, the finest skip first and the middle last.

    "balanced": 1. "prompt" and "control" are A1111's other control modes: 0.825^(12 − i), also
    where a network has fewer than 13 (SDXL has 10; its middle then weighs 0.825³). "guess" is
    diffusers' guess mode (§3.3 of the paper is about it): from 0.1 up to 1, evenly in logarithm."""
    if mode == "balanced":
        return [1.0] * count
    if mode == "guess":
        return torch.logspace(-1, 0, count).tolist()
    return [0.825 ** (12 - i) for i in range(count)]
