"""Blocks of both halves of the KL autoencoder."""

from torch import Tensor, nn

from fromnoise.models.attention import PixelAttention
from fromnoise.models.layers import Downsample, ResnetBlock, Upsample

EPS = 1e-6  # for every norm of this network; the U-Net's resnets have 1e-5


class Level(nn.Module):
    """Residual blocks of one resolution; then the side is halved, doubled or kept."""

    def __init__(
        self, inp: int, out: int, layers: int, groups: int, down: bool = False, up: bool = False
    ):
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(out if i else inp, out, groups, eps=EPS) for i in range(layers)
        )
        self.downsamplers = nn.ModuleList([Downsample(out, symmetric=False)] if down else [])
        self.upsamplers = nn.ModuleList([Upsample(out)] if up else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers, *self.upsamplers):
            x = layer(x)
        return x


class Middle(nn.Module):
    """resnet, attention (if any), resnet at the coarsest level."""

    def __init__(self, channels: int, groups: int, attention: bool):
        super().__init__()
        blocks = (ResnetBlock(channels, channels, groups, eps=EPS) for _ in range(2))
        self.resnets = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList([PixelAttention(channels, groups)] if attention else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.resnets[0], *self.attentions, self.resnets[1]):
            x = layer(x)
        return x
