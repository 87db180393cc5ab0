"""LatentDiffusion: the parts of one model, held together and nothing more."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.models.clip import CLIPText
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE
from fromnoise.prompt.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fromnoise.models.clip_vision import CLIPVision
    from fromnoise.models.resnet import CLIPResNet


@dataclass
class LatentDiffusion:
    """The parts of one text-to-image model (Rombach 2022); the file formats build it, runs and
    training use it.

    `prediction` says what the U-Net answers: "eps", "v", "x0" or "flow". `vision`,
    `text_projection` (D, dim) and `logit_scale` () complete CLIP where the model brings it.
    `configs` holds each part's configuration as its file had it, `defaults` what the model asks to
    be drawn with (sampler, spacing, steps, cfg, ...) and the words that it knows, `source` the name
    that it was loaded by, `digest` and `vae_digest` the starts of the SHA-256 of its U-Net's and
    VAE's files."""

    unet: UNet
    vae: VAE
    text_encoder: CLIPText
    tokenizer: Tokenizer
    schedule: NoiseSchedule
    prediction: str
    vision: "CLIPVision | CLIPResNet | None" = None
    text_projection: Tensor | None = None
    logit_scale: Tensor | None = None
    configs: dict[str, dict] = field(default_factory=dict)
    defaults: dict = field(default_factory=dict)
    source: str = ""
    digest: str = ""
    vae_digest: str = ""

    @property
    def size(self) -> int:
        """The side in pixels that the model was trained at."""
        return self.unet.config.sample_size * self.vae.config.factor

    @property
    def multiple(self) -> int:
        """Width and height must be multiples of this many pixels: the VAE's factor times the
        U-Net's."""
        return self.vae.config.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
