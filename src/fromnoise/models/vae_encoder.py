"""The encoder of the KL autoencoder: pictures → latents (Kingma 2014; Rombach 2022, §3.1)."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import BadInput
from fromnoise.models.config import VAEConfig
from fromnoise.models.layers import VAE_EPS, Level, Middle


@dataclass(frozen=True)
class Posterior:
    """q(z|image), a Gaussian with diagonal covariance. `mean`, `logvar` (B, C, h, w); logvar lies
    in [−30, 20]."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + σ·noise, noise of the mean's shape."""
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Tensor:
        """The divergence from the unit Gaussian, summed over all dimensions except the batch: (B,)
        in nats (Kingma 2014, app. B)."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1 - self.logvar).sum((1, 2, 3))


class Encoder(nn.Module):
    """Image (B, 3, H, W) → mean and log variance, side by side (B, 2·C, H/factor, W/factor)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_groups
        self.factor = config.factor
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(inp, out, config.layers_per_block, groups, down=i < len(widths) - 1)
            for i, (inp, out) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.mid_block = Middle(widths[-1], groups, config.mid_attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=VAE_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if any(side % self.factor for side in x.shape[-2:]):
            sides, remedy = tuple(x.shape[-2:]), f"use multiples of {self.factor}"
            raise BadInput(f"the sides {sides} of an image do not divide into latents", remedy)
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))

    @staticmethod
    def posterior(moments: Tensor) -> Posterior:
        """Mean and log variance, side by side (B, 2·C, h, w) → the posterior of z."""
        mean, logvar = moments.chunk(2, 1)
        return Posterior(mean, logvar.clamp(-30, 20))


def encode(encoder: Encoder | None, quant_conv: nn.Module | None, image: Tensor) -> Posterior:
    """Image (B, 3, H, W) → posterior of z (B, C, H/factor, W/factor). quant_conv: of an autoencoder
    that has one. Raises BadInput for a side that is no multiple of factor, or without an encoder.
    """
    if encoder is None:
        remedy = "load the whole model: load_parts(name)"
        raise BadInput("this autoencoder has no encoder", remedy)
    h = encoder(image)
    return encoder.posterior(h if quant_conv is None else quant_conv(h))
