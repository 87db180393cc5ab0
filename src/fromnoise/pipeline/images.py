"""Latents ↔ images ↔ pictures."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.vae import VAE
from fromnoise.pipeline.denoiser import check_finite


@torch.inference_mode()
def decode_latents(vae: VAE, latents: Tensor, tiling: str = "none") -> list[Image.Image]:
    """Latents (B, C, h, w) → B pictures, RGB; decoded one by one, so that each has the bits it
    would have alone. Raises NotFinite."""
    device, to_image = next(vae.parameters()).device, vae.to_image
    if tiling != "none":
        from fromnoise.runtime.tiling import make_circular  # only where it is asked for

        to_image = make_circular(to_image, tiling)
    pictures = []
    for one in latents.split(1):
        image = to_image(one.to(device))[0]
        check_finite(image, "the autoencoder's decoder", vae)
        pictures.append(to_picture(image))
    return pictures


def to_picture(image: Tensor) -> Image.Image:
    """An image (3, H, W) in [−1, 1], clipped to it, → an RGB picture, rounded to 8 bits."""
    pixels = (image.float() * 127.5 + 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def refuse_inpainting_model(model: LatentDiffusion) -> None:
    """Raises BadInput for a model made for inpainting, whose network must be shown a mask as
    well."""
    if model.unet.config.in_channels > model.unet.config.out_channels:
        raise BadInput(
            "this model was made for inpainting, and sees a picture and a mask at every step",
            "redraw with `fromnoise edit`, or use a model made for drawing",
        )


def to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture → (1, 3, H, W) in [−1, 1]."""
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def encode_tensor(model: LatentDiffusion, image: Tensor, tiling: str = "none") -> Tensor:
    """An image (1, 3, H, W) in [−1, 1] → (1, C, h, w) in fp32 on the CPU: the mean that the
    autoencoder sees, so that nothing is drawn by lot."""
    parameter, to_latents = next(model.vae.parameters()), model.vae.to_latents
    if tiling != "none":
        from fromnoise.runtime.tiling import make_circular  # only where it is asked for

        to_latents = make_circular(to_latents, tiling)
    latents = to_latents(image.to(parameter.device, parameter.dtype)).float().cpu()
    check_finite(latents, "the autoencoder's encoder", model.vae)
    return latents


def encode_picture(model: LatentDiffusion, picture: Image.Image, tiling: str = "none") -> Tensor:
    """An RGB picture → its latents, (1, C, h, w)."""
    return encode_tensor(model, to_tensor(picture), tiling)
