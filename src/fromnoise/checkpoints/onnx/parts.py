"""The parts of a model as graphs: what each one takes and gives, by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import BadInput, UnknownName
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE


@dataclass(frozen=True)
class Part:
    """A network to export: `inputs` are example values, `axes` the axes of each input that may
    have another size in every call, with the names that the file gives them. The last outputs,
    `extra` of them, are left out of the plain graph."""

    network: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]
    axes: dict[str, dict[int, str]]
    facts: dict[str, Any] = field(default_factory=dict)  # what a user of the file must know besides
    extra: int = 0


class Predict(nn.Module):
    """x (B, C, H, W), t (B,), context (B, N, D), [guidance (B,)] → the U-Net's prediction (B, C, H,
    W), and the map of each cross-attention (B, heads, pixels, N)."""

    def __init__(self, unet: UNet):
        super().__init__()
        self.network = unet

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor, guidance: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        maps: dict[str, Tensor] = {}
        prediction = self.network(x, t, Conditioning(context, guidance=guidance), maps)
        return prediction, *maps.values()


class EncodeText(nn.Module):
    """ids (B, N) → context (B, N, D), the state at the first end token (B, D), and that state in
    CLIP's shared space (B, E) where the model has the projection."""

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.network = model.text_encoder
        self.text_projection = nn.Module()
        if model.text_projection is not None:
            head = model.text_projection.detach().to(next(self.network.parameters()))
            self.text_projection.weight = nn.Parameter(head, requires_grad=False)

    def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
        out = self.network(ids)
        if out.embeds is not None:
            return out.last_hidden, out.pooled, out.embeds
        head = getattr(self.text_projection, "weight", None)
        last = () if head is None else (out.pooled @ head.T,)
        return out.last_hidden, out.pooled, *last


class Decode(nn.Module):
    """latents (B, C, h, w) → image (B, 3, H, W), about [−1, 1]."""

    def __init__(self, vae: VAE):
        super().__init__()
        self.network = vae

    def forward(self, latents: Tensor) -> Tensor:
        return self.network.to_image(latents)


class Encode(nn.Module):
    """image (B, 3, H, W) in [−1, 1] → the mean of its latents (B, C, h, w) and their standard
    deviation: latents = mean + deviation · noise."""

    def __init__(self, vae: VAE):
        super().__init__()
        self.network = vae

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        posterior, config = self.network.encode(image), self.network.config
        mean = (posterior.mean - config.shift_factor) * config.scaling_factor
        return mean, (0.5 * posterior.logvar).exp() * config.scaling_factor


class EmbedImage(nn.Module):
    """image (B, 3, S, S) in [−1, 1] → its place in CLIP's shared space (B, E), not normalized."""

    def __init__(self, vision: nn.Module):
        super().__init__()
        self.network = vision

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).embeds


def draw(*shape: int) -> Tensor:
    """Example values, normal; the same at every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def make_images(height: int, width: int) -> Tensor:
    """Two images (2, 3, H, W) in [−1, 1] of soft shapes."""
    coarse = draw(2, 3, 6, 6)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).clamp(-1, 1)


def make_unet(model: LatentDiffusion, fixed: bool) -> Part:
    c = model.unet.config
    own = (c.sample_size, c.sample_size)
    shown = Conditioning(torch.zeros(1, 1, c.context_dim))
    maps = [name for name in model.unet.constants(shown).projected if name]
    text = make_text(model, fixed).inputs["ids"]
    with torch.no_grad():
        context = model.text_encoder(text).last_hidden
    inputs = {
        "x": draw(2, c.in_channels, *(own if fixed else (16, 24))),
        "t": torch.tensor([3.0, 700.0]),
        "context": context,
    }
    axes = {
        "x": {0: "batch", 2: "height", 3: "width"},
        "t": {0: "batch"},
        "context": {0: "batch", 1: "tokens"},
    }
    if c.guidance_dim:
        inputs["guidance"] = torch.tensor([4.0, 7.5])
        axes["guidance"] = {0: "batch"}
    facts = {
        "prediction_type": model.prediction,
        "schedule": model.schedule.kind,
        "alpha_bar": model.schedule.alpha_bar.tolist(),
        "sample_size": c.sample_size,
    }
    return Part(Predict(model.unet), inputs, ["prediction", *maps], axes, facts, len(maps))


def make_text(model: LatentDiffusion, fixed: bool) -> Part:
    c, words = model.text_encoder.config, model.tokenizer
    ids = torch.tensor([words.encode("a cat")[0], words.encode("")[0]])
    if not fixed:
        ids = ids[:, : min(7, c.max_length)].clone()
        ids[:, -1] = c.eos_id
    projects = c.projection_dim or model.text_projection is not None
    outputs = ["context", "pooled", *(["embeds"] if projects else [])]
    facts: dict[str, Any] = {
        "max_length": c.max_length,
        "bos_id": words.bos_id,
        "eos_id": words.eos_id,
        "pad_id": words.pad_id,
    }
    if model.logit_scale is not None:
        facts["logit_scale"] = float(model.logit_scale)
    return Part(EncodeText(model), {"ids": ids}, outputs, {"ids": {0: "batch", 1: "tokens"}}, facts)


def describe_vae(model: LatentDiffusion) -> dict[str, Any]:
    c = model.vae.config
    return {"scaling_factor": c.scaling_factor, "shift_factor": c.shift_factor, "factor": c.factor}


def make_decoder(model: LatentDiffusion, fixed: bool) -> Part:
    c = model.vae.config
    sides = (c.sample_size // c.factor,) * 2 if fixed else (6, 5)
    latents = {"latents": draw(2, c.latent_channels, *sides)}
    axes = {"latents": {0: "batch", 2: "height", 3: "width"}}
    return Part(Decode(model.vae), latents, ["image"], axes, describe_vae(model))


def make_encoder(model: LatentDiffusion, fixed: bool) -> Part:
    c = model.vae.config
    sides = (c.sample_size,) * 2 if fixed else (6 * c.factor, 5 * c.factor)
    image = {"image": make_images(*sides)}
    axes = {"image": {0: "batch", 2: "height", 3: "width"}}
    return Part(Encode(model.vae), image, ["latents", "deviation"], axes, describe_vae(model))


def make_tower(model: LatentDiffusion, fixed: bool) -> Part:
    if model.vision is None:
        raise BadInput("this model has no image tower", "leave `image_tower` out of --parts")
    side = model.vision.config.image_size
    image = {"image": make_images(side, side)}
    facts = {"image_size": side}
    return Part(EmbedImage(model.vision), image, ["embeds"], {"image": {0: "batch"}}, facts)


# name of a part → what makes it of a model
PARTS: dict[str, Callable[[LatentDiffusion, bool], Part]] = {
    "unet": make_unet,
    "text_encoder": make_text,
    "vae_decoder": make_decoder,
    "vae_encoder": make_encoder,
    "image_tower": make_tower,
}


def make_part(model: LatentDiffusion, name: str, fixed: bool = False) -> Part:
    """A part by its name; fixed: its examples have the sizes that the model was trained at. Raises
    UnknownName, and BadInput for one that the model lacks."""
    if name not in PARTS:
        raise UnknownName("part", name, PARTS)
    if name == "vae_encoder" and model.vae.encoder is None:
        raise BadInput("the model was read without its encoder", "read it whole: load_parts(name)")
    return PARTS[name](model, fixed)


def list_parts(model: LatentDiffusion) -> list[str]:
    """The names of the parts that the model has."""
    lacks = set() if model.vision is not None else {"image_tower"}
    lacks |= set() if model.vae.encoder is not None else {"vae_encoder"}
    return [name for name in PARTS if name not in lacks]
