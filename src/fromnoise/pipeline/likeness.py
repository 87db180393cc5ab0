"""A cheap likeness of a picture that is being drawn, for previews: latents → a few pixels."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.tiny_vae import TinyVAE
from fromnoise.models.vae import VAE

Look = Callable[[Tensor], Tensor]  # latents (C, h, w) → a likeness of the picture (H, W, 3) uint8
# RGB in [−1, 1] of four latent channels and a 1, by the scaling factor of Stable Diffusion's
# autoencoders: as ComfyUI's contributors fitted them (comfy/latent_formats.py)
LATENT_RGB = {
    0.18215: [
        [0.3512, 0.2297, 0.3227],
        [0.325, 0.4974, 0.235],
        [-0.2829, 0.1762, 0.2721],
        [-0.212, -0.2616, -0.7177],
        [0.0, 0.0, 0.0],
    ],
    0.13025: [
        [0.3651, 0.4232, 0.4341],
        [-0.2533, -0.0042, 0.1068],
        [0.1076, 0.1111, -0.0362],
        [-0.3165, -0.2492, -0.2188],
        [0.1084, -0.0175, -0.0011],
    ],
}


def choose_look(model: LatentDiffusion, tiny: VAE | TinyVAE | None = None) -> Look:
    """The likeness that a preview shows: what a tiny autoencoder decodes, `tiny` or the model's
    own; else a linear map that the model or its kind has; else three channels."""
    vae: VAE | TinyVAE = tiny or model.vae
    if tiny is not None or isinstance(vae, TinyVAE):
        return partial(decode_preview, vae)
    config = model.vae.config
    usual = LATENT_RGB.get(config.scaling_factor) if config.latent_channels == 4 else None
    return partial(preview_pixels, latent_rgb=model.defaults.get("latent_rgb") or usual)


@torch.inference_mode()
def decode_preview(vae: VAE | TinyVAE, latents: Tensor) -> Tensor:
    """Latents (C, h, w) → the autoencoder's picture of them, (H, W, 3) uint8."""
    image = vae.to_image(latents[None].to(next(vae.parameters()).device))[0].movedim(0, -1).cpu()
    return (image * 127.5 + 127.5).clamp(0, 255).to(torch.uint8)


def preview_pixels(latents: Tensor, latent_rgb: list[list[float]] | None = None) -> Tensor:
    """Latents (C, h, w) → a cheap likeness of the picture, (h, w, 3) uint8.

    latent_rgb: (C + 1, 3) numbers that make RGB in [−1, 1] of C latent channels and a 1, as a
    model's fromnoise.json may give; without them the first channels stand for red, green and blue.
    """
    if latent_rgb is None:
        image = torch.tanh(latents[[0, 1 % len(latents), 2 % len(latents)]].movedim(0, -1) / 1.5)
    else:
        matrix = torch.tensor(latent_rgb)
        image = latents.movedim(0, -1) @ matrix[:-1] + matrix[-1]
    return (image * 127.5 + 127.5).clamp(0, 255).to(torch.uint8)
