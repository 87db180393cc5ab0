"""Networks that enlarge pictures: ESRGAN's dense residual blocks, and Real-ESRGAN's small plain
network."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RESIDUAL = 0.2  # the factor of a block's output in its residual sum (Wang 2018 "ESRGAN", §3.1)


def _make_conv(inp: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(inp, out, 3, padding=1)


def _leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class DenseBlock(nn.Module):
    """Five convolutions; each sees the input and all earlier outputs: (B, width, H, W) → the same
    shape."""

    def __init__(self, width: int, growth: int):
        super().__init__()
        for i in range(5):
            self.add_module(
                f"conv{i + 1}", _make_conv(width + i * growth, growth if i < 4 else width)
            )

    def forward(self, x: Tensor) -> Tensor:
        features, (*inner, last) = [x], self.children()
        for conv in inner:
            features.append(_leaky_relu(conv(torch.cat(features, 1))))
        return x + RESIDUAL * last(torch.cat(features, 1))


class RRDB(nn.Module):
    """Three dense blocks with a residual around them (Wang 2018, fig. 4)."""

    def __init__(self, width: int, growth: int):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return x + RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """Picture (B, 3, H, W) in [0, 1] → (B, 3, scale·H, scale·W), about [0, 1], not clipped.

    `doublings`: how often the side doubles by its nearest pixels (Wang 2018). `unshuffle` u: first
    u×u pixels become one pixel with u² times the channels, so scale = 2**doublings / u. A picture
    whose sides are no multiples of u is mirrored at its right and lower edge (Wang 2021
    "Real-ESRGAN", §3.2). The parameters have Real-ESRGAN's names."""

    def __init__(
        self,
        width: int = 64,
        blocks: int = 23,
        growth: int = 32,
        doublings: int = 2,
        unshuffle: int = 1,
    ):
        super().__init__()
        self.doublings, self.unshuffle, self.scale = doublings, unshuffle, 2**doublings // unshuffle
        self.conv_first = _make_conv(3 * unshuffle**2, width)
        self.body = nn.Sequential(*(RRDB(width, growth) for _ in range(blocks)))
        self.conv_body = _make_conv(width, width)
        for i in range(doublings):
            self.add_module(f"conv_up{i + 1}", _make_conv(width, width))
        self.conv_hr, self.conv_last = _make_conv(width, width), _make_conv(width, 3)

    @property
    def reach(self) -> int:
        """The largest distance, in input pixels, over which a pixel can change the output."""
        fine = sum(2.0**-i for i in range(1, self.doublings + 1)) + 2 * 2.0**-self.doublings
        return round((2 + 15 * len(self.body) + fine) * self.unshuffle + 0.5) + self.unshuffle

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self.unshuffle > 1:
            down, right = -height % self.unshuffle, -width % self.unshuffle
            # one pixel has no mirror image
            mode = "reflect" if down < height and right < width else "replicate"
            image = F.pixel_unshuffle(F.pad(image, (0, right, 0, down), mode), self.unshuffle)
        x = self.conv_first(image)
        x = x + self.conv_body(self.body(x))
        for i in range(self.doublings):
            conv = self.get_submodule(f"conv_up{i + 1}")
            x = _leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")))
        x = self.conv_last(_leaky_relu(self.conv_hr(x)))
        return x[..., : height * self.scale, : width * self.scale]


class Compact(nn.Module):
    """Picture (B, 3, H, W) in [0, 1] → (B, 3, scale·H, scale·W): plain convolutions, added to the
    picture's nearest pixels (SRVGGNetCompact of Real-ESRGAN: "realesr-general", "animevideo")."""

    def __init__(self, width: int = 64, convs: int = 16, scale: int = 4):
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [_make_conv(3, width), nn.PReLU(width)]
        for _ in range(convs):
            layers += [_make_conv(width, width), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, _make_conv(width, 3 * scale**2))

    @property
    def reach(self) -> int:
        """As RRDBNet's."""
        return len(self.body) // 2 + 1

    def forward(self, image: Tensor) -> Tensor:
        fine = F.pixel_shuffle(self.body(image), self.scale)
        return fine + F.interpolate(image, scale_factor=self.scale, mode="nearest")
