"""LatentDiffusion: the parts of one model, held together and nothing more."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, dtype

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.models.clip import CLIPText
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE
from fromnoise.prompt.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fromnoise.models.clip_vision import CLIPVision
    from fromnoise.models.resnet import CLIPResNet


@dataclass
class TextEncoder:
    """One text encoder, as the U-Net was trained with it."""

    network: CLIPText
    tokenizer: Tokenizer
    layer: int = 1  # whose states the U-Net attends to, counted from the end: 1 the last one
    final_norm: bool = True  # whether those states go through the last norm


@dataclass
class LatentDiffusion:
    """The parts of one text-to-image model (Rombach 2022), as the file formats build it.

    The U-Net attends to the states of all `text_encoders`, joined on features, and answers
    `prediction`: "eps", "v", "x0" or "flow". `vision`, `text_projection` (D, dim) and `logit_scale`
    () complete CLIP where the model brings it. `concat` names what follows x in the U-Net's input:
    "", "inpainting" (mask and latents), "instruct" (latents of the picture to change) or "depth" (a
    map). `zero_empty_negative`: an empty negative prompt is zeros, not its states (SDXL).
    `configs` holds each part's configuration as its file had it, `dtypes` the type of its weights
    there, `defaults` what the model asks to be drawn with (sampler, spacing, steps, cfg, ...) and
    the words that it knows, `source` the name that it was loaded by, `digest` and `vae_digest` the
    starts of the SHA-256 of its U-Net's and VAE's files, `vae_source` the name of another's VAE."""

    unet: UNet
    vae: VAE
    text_encoders: tuple[TextEncoder, ...]
    schedule: NoiseSchedule
    prediction: str
    vision: "CLIPVision | CLIPResNet | None" = None
    text_projection: Tensor | None = None
    logit_scale: Tensor | None = None
    concat: str = ""
    zero_empty_negative: bool = False
    dtypes: dict[str, dtype] = field(default_factory=dict)
    configs: dict[str, dict] = field(default_factory=dict)
    defaults: dict = field(default_factory=dict)
    source: str = ""
    digest: str = ""
    refiner: Any = None  # a runtime.refiner.Refiner, which draws the end of each run
    vae_digest: str = ""
    vae_source: str = ""
    prediction_told: bool = False  # by the user, against what the model's files say
    addons: Any = None  # what is on it for one request, see pipeline.addons.apply
    image_tokens: Any = None  # that it looks at then, (with the prompt, with the negative prompt)

    @property
    def text_encoder(self) -> CLIPText:
        """The first one's network."""
        return self.text_encoders[0].network

    @property
    def tokenizer(self) -> Tokenizer:
        """The first one's."""
        return self.text_encoders[0].tokenizer

    @property
    def is_plain(self) -> bool:
        """Whether one encoder's last states are all that the U-Net is shown beside x and t."""
        encoder, c = self.text_encoders[0], self.unet.config
        usual = len(self.text_encoders) == encoder.layer == 1 and encoder.final_norm
        more = self.concat or (self.addons and self.addons.items)
        return usual and not (c.guidance_dim or c.added_dim or more)

    def note_unknown_words(self, texts: Iterable[str]) -> list[str]:
        """A note of the words that no caption of the training had, where the model says its own."""
        if not self.defaults.get("words"):
            return []
        from fromnoise.prompt.words import note_unknown_words

        return note_unknown_words(self.defaults["words"], texts)

    @property
    def size(self) -> int:
        """The side in pixels that the model was trained at."""
        return self.unet.config.sample_size * self.vae.config.factor

    @property
    def multiple(self) -> int:
        """Width and height must be multiples of so many pixels: the VAE's factor times U-Net's."""
        return self.vae.config.factor * self.unet.config.multiple
