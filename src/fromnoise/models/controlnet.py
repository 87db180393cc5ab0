"""ControlNet: a copy of a U-Net's way down that sees a picture (Zhang et al. 2023 "Adding
conditional control to text-to-image diffusion models", §3.1)."""

from copy import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import BadInput
from fromnoise.models.attention import Attended, Attention
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import UNetConfig
from fromnoise.models.layers import TimeEmbedding, embed_timesteps, zero_parameters
from fromnoise.models.unet import Constants, DownBlock, MiddleBlock, UNet


@dataclass(frozen=True)
class ControlNetConfig:
    """Raises BadInput."""

    unet: UNetConfig  # whose way down it copies; the way up says nothing here
    picture_channels: int = 3
    hint_widths: tuple[int, ...] = (16, 32, 96, 256)  # each but the last halves the side
    blue_first: bool = False  # its picture's channels are blue, green, red
    pooled: bool = False  # it adds one value a channel, the mean over the picture (shuffle)
    kinds: int = 0  # of pictures that a Union knows; 0: it is none
    kind_layers: int = 1  # of a Union alone, as what follows
    kind_heads: int = 8
    kind_dim: int = 256  # sinusoids of each kind

    def __post_init__(self) -> None:
        if not self.hint_widths:
            raise BadInput("hint_widths is empty", "give a width for each side of the picture")
        if self.kinds and self.unet.block_out_channels[0] % self.kind_heads:
            raise BadInput(
                f"{self.kind_heads} heads do not part {self.unet.block_out_channels[0]} channels",
                "give a number of heads that does",
            )

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


class KindLayer(nn.Module):
    """Of a Union: what it sees of the picture and of the latents attend to each other.

    (B, 2, width) → the same. As in the published network the attention is along B: the rows of a
    call, with the prompt and with the negative one, see each other."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        linear = {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.ModuleDict(linear)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        inner = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](inner * torch.sigmoid(1.702 * inner))


class ControlNet(nn.Module):
    """A U-Net's way down and middle, whose results go through convolutions that start as 0."""

    # what makes a U-Net's constants and runs its way down; both use the parts that have its names
    constants, encode = UNet.constants, UNet.encode
    kind = 0  # of the picture that a Union sees, see `choose`

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
        if kinds := config.kinds:
            width = widths[0]
            self.task_embedding = nn.Parameter(torch.empty(kinds, width))
            layers = (KindLayer(width, config.kind_heads) for _ in range(config.kind_layers))
            self.transformer_layes = nn.ModuleList(layers)  # so is it spelled in its files
            self.spatial_ch_projs = zero_parameters(nn.Linear(width, width))
            self.control_add_embedding = TimeEmbedding(kinds * config.kind_dim, 4 * width)
        for name, module in self.named_modules():
            if isinstance(module, Attention):
                module.name, module.upcast = name, c.upcast_attention

    def choose(self, kind: int) -> "ControlNet":
        """The same Union for pictures of one kind, by its number."""
        other = copy(self)
        other.kind = kind
        return other

    def tell_kind(self, x: Tensor, hint: Tensor, known: Constants) -> tuple[Tensor, Constants]:
        """(the hint as a Union has it for x, constants that hold the kind too)."""
        c, kinds = self.settings, torch.zeros(self.settings.kinds, device=x.device)
        kinds[self.kind] = 1
        waves = embed_timesteps(kinds, c.kind_dim, c.unet.flip_sin_to_cos, c.unet.freq_shift)
        added = self.control_add_embedding(waves.flatten()[None].to(x.dtype))
        seen = hint.mean((2, 3)) + self.task_embedding[self.kind]
        both = torch.stack((seen.expand(len(x), -1), self.conv_in(x).mean((2, 3))), 1)
        for layer in self.transformer_layes:
            both = layer(both)
        hint = hint + self.spatial_ch_projs(both[:, 0])[..., None, None]
        return hint, known._replace(added=added if known.added is None else known.added + added)

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
        if self.settings.kinds:
            hint, known = self.tell_kind(x, hint, known)
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
