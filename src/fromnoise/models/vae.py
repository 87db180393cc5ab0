"""The KL autoencoder: pictures ↔ smaller latents (Kingma 2014; Rombach 2022, §3.1)."""

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.models.config import VAEConfig
from fromnoise.models.layers import VAE_EPS, Level, Middle

if TYPE_CHECKING:
    from fromnoise.models.vae_encoder import Posterior


class Decoder(nn.Module):
    """z (B, C, h, w) → image (B, 3, h·factor, w·factor)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        widths, groups = config.block_out_channels[::-1], config.norm_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], groups, config.mid_attention)
        self.up_blocks = nn.ModuleList(
            Level(inp, out, config.layers_per_block + 1, groups, up=i < len(widths) - 1)
            for i, (inp, out) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=VAE_EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class VAE(nn.Module):
    """The autoencoder. Images lie in [−1, 1]. `z` is the encoder's output, `latents` are z, scaled.

    encoder: False builds no encoder; then there is no way from images to latents."""

    def __init__(self, config: VAEConfig, encoder: bool = True):
        super().__init__()
        self.config, c = config, config.latent_channels
        self.encoder, quant = None, config.quant_conv
        if encoder:  # text to image does not need it
            from fromnoise.models.vae_encoder import Encoder

            self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * c, 2 * c, 1) if quant and encoder else None
        self.post_quant_conv = nn.Conv2d(c, c, 1) if quant else None

    def encode(self, image: Tensor) -> "Posterior":
        """Image (B, 3, H, W) → posterior of z, see `vae_encoder.encode`. Raises BadInput."""
        from fromnoise.models.vae_encoder import encode

        return encode(self.encoder, self.quant_conv, image)

    def decode(self, z: Tensor) -> Tensor:
        """z (B, C, h, w) → image (B, 3, h·factor, w·factor), about [−1, 1], not clipped."""
        return self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))

    def to_latents(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Image → latents (B, C, h, w): a sample of the posterior, or its mean without noise."""
        posterior = self.encode(image)
        z = posterior.mean if noise is None else posterior.sample(noise)
        return (z - self.config.shift_factor) * self.config.scaling_factor

    def to_image(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) → image, the inverse of `to_latents`."""
        return self.decode(latents / self.config.scaling_factor + self.config.shift_factor)

    def forward(self, image: Tensor, noise: Tensor) -> "tuple[Tensor, Posterior]":
        """For training: (reconstruction of a posterior sample, posterior)."""
        posterior = self.encode(image)
        return self.decode(posterior.sample(noise)), posterior
