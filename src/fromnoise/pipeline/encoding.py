"""Pictures → images → latents; `images` is the way back."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.denoiser import check_finite

SIGHTS = {
    "inpainting": "was made for inpainting, and sees a picture and a mask at every step",
    "instruct": "was made to change a picture, which it sees at every step",
    "depth": "sees a map of depths at every step",
}


def refuse_seeing_model(model: LatentDiffusion) -> None:
    """Raises BadInput for a model whose network must be shown a picture as well, see
    conditioning.concat."""
    if model.concat:
        raise BadInput(
            f"this model {SIGHTS[model.concat]}",
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
