"""Pictures → latents."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion


def check(model: LatentDiffusion) -> None:
    """Raises BadInput for a model made for inpainting, whose network must be shown a mask as well."""
    if model.unet.config.in_channels > model.unet.config.out_channels:
        raise BadInput("this model was made for inpainting, and sees a picture and a mask at every step",
                       "redraw with `fromnoise edit`, or use a model made for drawing")  # fmt: skip


def pixels(picture: Image.Image) -> Tensor:
    """An RGB picture → (1, 3, H, W) in [−1, 1]."""
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def latents(model: LatentDiffusion, image: Tensor, tiling: str = "none") -> Tensor:
    """An image (1, 3, H, W) in [−1, 1] → (1, C, h, w) in fp32 on the CPU: the mean that the autoencoder sees, so that
    nothing is drawn by lot."""
    parameter, to_latents = next(model.vae.parameters()), model.vae.to_latents
    if tiling != "none":
        from fromnoise.runtime.tiling import circular  # only where it is asked for

        to_latents = circular(to_latents, tiling)
    return to_latents(image.to(parameter.device, parameter.dtype)).float().cpu()


def encoded(model: LatentDiffusion, picture: Image.Image, tiling: str = "none") -> Tensor:
    """An RGB picture → its latents, (1, C, h, w)."""
    return latents(model, pixels(picture), tiling)
