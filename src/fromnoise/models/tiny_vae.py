"""The tiny autoencoder (TAESD): latents ↔ pictures with 2 million weights, for previews.

Bohan 2023, https://github.com/madebyollin/taesd. Its latents are those of a large autoencoder, from
which it was distilled, already scaled for diffusion."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fromnoise.errors import BadInput
from fromnoise.models.config_faults import check


@dataclass(frozen=True)
class TinyVAEConfig:
    """Widths and numbers of blocks a level, the encoder's from the finest level, the decoder's from
    the coarsest. The defaults are TAESD's. Raises BadInput."""

    latent_channels: int = 4
    encoder_widths: tuple[int, ...] = (64, 64, 64, 64)
    decoder_widths: tuple[int, ...] = (64, 64, 64, 64)
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    scaling_factor: float = 1.0  # latents = (z − shift_factor) · scaling_factor
    shift_factor: float = 0.0

    def __post_init__(self) -> None:
        sides = self.encoder_widths, self.encoder_blocks, self.decoder_widths, self.decoder_blocks
        fault = "the encoder's and the decoder's widths and blocks differ in length"
        check(self, (len({*map(len, sides)}) == 1, fault, "give one entry a level to each"))

    @property
    def factor(self) -> int:
        """Pixels a latent, along each side."""
        return 2 ** (len(self.decoder_widths) - 1)


class Block(nn.Module):
    """Three convolutions beside a shortcut, (B, width, H, W) → the same."""

    def __init__(self, width: int):
        super().__init__()
        layers = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv(x) + x).relu()


class Encoder(nn.Module):
    """Image (B, 3, H, W) in [−1, 1] → z (B, C, H/factor, W/factor)."""

    def __init__(self, config: TinyVAEConfig):
        super().__init__()
        layers: list[nn.Module] = []
        last = 3
        for level, (width, blocks) in enumerate(
            zip(config.encoder_widths, config.encoder_blocks, strict=True)
        ):
            stride, first = (2, False) if level else (1, True)
            layers.append(nn.Conv2d(last, width, 3, stride, 1, bias=first))
            layers += [Block(width) for _ in range(blocks)]
            last = width
        layers.append(nn.Conv2d(last, config.latent_channels, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers((image + 1) / 2)


class Decoder(nn.Module):
    """z (B, C, h, w) → image (B, 3, h·factor, w·factor), about [−1, 1]."""

    def __init__(self, config: TinyVAEConfig):
        super().__init__()
        widths = config.decoder_widths
        layers = [nn.Conv2d(config.latent_channels, widths[0], 3, padding=1), nn.ReLU()]
        for level, (width, blocks) in enumerate(zip(widths, config.decoder_blocks, strict=True)):
            layers += [Block(width) for _ in range(blocks)]
            if level < len(widths) - 1:
                layers.append(nn.Upsample(scale_factor=2))
                layers.append(nn.Conv2d(width, widths[level + 1], 3, padding=1, bias=False))
        layers.append(nn.Conv2d(widths[-1], 3, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        # z far outside of ±3 is noise that the network has never seen
        return self.layers(torch.tanh(z / 3) * 3) * 2 - 1


class TinyVAE(nn.Module):
    """The tiny autoencoder, with the interface of models.vae.VAE: `to_latents` and `to_image`.

    encoder: False builds no encoder; then there is no way from images to latents."""

    def __init__(self, config: TinyVAEConfig, encoder: bool = True):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config) if encoder else None
        self.decoder = Decoder(config)

    def to_latents(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Image (B, 3, H, W) → latents (B, C, h, w). It has no variance: noise is not used. Raises
        BadInput for a side that is no multiple of factor, or without an encoder."""
        if self.encoder is None:
            raise BadInput("this autoencoder has no encoder", "give a VAE with both halves")
        if any(side % self.config.factor for side in image.shape[-2:]):
            sides, remedy = tuple(image.shape[-2:]), f"use multiples of {self.config.factor}"
            raise BadInput(f"the sides {sides} of an image do not divide into latents", remedy)
        return (self.encoder(image) - self.config.shift_factor) * self.config.scaling_factor

    def to_image(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) → image, about [−1, 1], not clipped."""
        return self.decoder(latents / self.config.scaling_factor + self.config.shift_factor)
