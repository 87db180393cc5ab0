"""Latents → images → pictures; `encoding` is the way back."""

import torch
from PIL import Image
from torch import Tensor

from fromnoise.models.vae import VAE
from fromnoise.pipeline.denoiser import check_finite


@torch.inference_mode()
def decode_latents(vae: VAE, latents: Tensor, tiling: str = "none") -> list[Image.Image]:
    """Latents (B, C, h, w) → B pictures, each with the bits that it has alone. Raises NotFinite."""
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
    """An image (3, H, W) in [−1, 1] → an "RGB" picture, clipped and rounded to 8 bits."""
    pixels = (image.float() * 127.5 + 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
