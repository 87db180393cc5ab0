"""Layers of the U-Net and the autoencoder."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)
VAE_EPS = 1e-6  # for every norm of the autoencoder; the U-Net's resnets have 1e-5


def quick_gelu(x: Tensor) -> Tensor:
    """x·σ(1.702 x): CLIP's approximation. Not to be confused with gelu by erf or tanh."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


def zero_parameters(module: M) -> M:
    """Sets all parameters of a module to 0, so that a residual branch starts as 0 (Goyal 2017)."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


def embed_timesteps(
    t: Tensor, dim: int, flip_sin_to_cos: bool = True, freq_shift: int = 0
) -> Tensor:
    """Sinusoids of time (Ho 2020, after Vaswani 2017 §3.5): t (B,), fractions allowed → (B, dim).

    Frequencies fall from 1 to about 1/10000. The order is [sin, cos], or [cos, sin] if flipped. The
    result is always float32, because every trained network saw it so; cast it afterwards."""
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    exponent = -math.log(10000) * steps / (half - freq_shift)
    angle = t.float()[:, None] * exponent.exp()  # (B, dim/2)
    parts = (angle.cos(), angle.sin()) if flip_sin_to_cos else (angle.sin(), angle.cos())
    return F.pad(torch.cat(parts, 1), (0, dim % 2))


class TimeEmbedding(nn.Module):
    """Two linear layers over the sinusoids: (B, dim) → (B, out). For a network with its guidance
    scale as an input, the sinusoids of that scale, (B, cond_dim), are added first."""

    def __init__(self, dim: int, out: int, cond_dim: int | None = None):
        super().__init__()
        self.cond_proj = nn.Linear(cond_dim, dim, bias=False) if cond_dim else None
        self.linear_1 = nn.Linear(dim, out)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is not None and self.cond_proj is not None:
            x = x + self.cond_proj(cond)
        return self.linear_2(F.silu(self.linear_1(x)))


class ResnetBlock(nn.Module):
    """Residual block (He 2016): norm, SiLU, conv, + time, norm, SiLU, conv, + shortcut.

    x (B, C, H, W) → (B, C', H, W). `emb` (B, emb_dim) is the time embedding after its SiLU."""

    def __init__(self, inp: int, out: int, groups: int, emb_dim: int = 0, eps: float = 1e-5):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inp, eps=eps)
        self.conv1 = nn.Conv2d(inp, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(emb_dim, out) if emb_dim else None
        self.norm2 = nn.GroupNorm(groups, out, eps=eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inp, out, 1) if inp != out else None

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            h = h + self.time_emb_proj(emb)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Module):
    """Halves the side by a strided convolution: (B, C, H, W) → (B, C, H/2, W/2).
    Symmetric padding (U-Net): odd sides round up. Otherwise (autoencoder) pads below and right."""

    def __init__(self, channels: int, symmetric: bool):
        super().__init__()
        self.symmetric = symmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1 if symmetric else 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.symmetric else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Repeats pixels, then convolves: (B, C, H, W) → (B, C, 2H, 2W), or to `size` (odd sides)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size | None = None) -> Tensor:
        size = size or torch.Size(2 * n for n in x.shape[-2:])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class Level(nn.Module):
    """The autoencoder's residual blocks of one resolution; then the side may halve or double."""

    def __init__(
        self, inp: int, out: int, layers: int, groups: int, down: bool = False, up: bool = False
    ):
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(out if i else inp, out, groups, eps=VAE_EPS) for i in range(layers)
        )
        self.downsamplers = nn.ModuleList([Downsample(out, symmetric=False)] if down else [])
        self.upsamplers = nn.ModuleList([Upsample(out)] if up else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers, *self.upsamplers):
            x = layer(x)
        return x


class Middle(nn.Module):
    """resnet, attention (if any), resnet at the coarsest level of the autoencoder."""

    def __init__(self, channels: int, groups: int, attention: bool):
        super().__init__()
        blocks = (ResnetBlock(channels, channels, groups, eps=VAE_EPS) for _ in range(2))
        self.resnets = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList()
        if attention:
            from fromnoise.models.pixel_attention import PixelAttention  # not in the bundled model

            self.attentions.append(PixelAttention(channels, groups))

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.resnets[0], *self.attentions, self.resnets[1]):
            x = layer(x)
        return x
