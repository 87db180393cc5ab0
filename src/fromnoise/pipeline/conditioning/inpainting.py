"""Models made for inpainting: beside x, their U-Net sees the mask, and the picture without the
masked part."""

from copy import copy
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.encoding import encode_tensor, to_tensor
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared, Step


@torch.inference_mode()
def add_inpainting_channels(
    model: LatentDiffusion,
    request: GenerationRequest,
    unet: Prepared,
    guide: Prepared | None = None,
    picture: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> tuple[Prepared, Prepared | None]:
    """Both networks, made to see a mask and a picture ("L" and "RGB", of the size of a resolved
    request) at every step. Without a mask, everything is masked.

    The channels behind those of x are, as in diffusers' StableDiffusionInpaintPipeline and A1111:
    the mask at the first pixel of each latent, 1 where white; then the latents of the picture,
    which is grey (0 in [−1, 1]) where the mask is white. Raises BadInput for a network with another
    number of channels."""
    config, channels = model.unet.config, model.vae.config.latent_channels
    if config.in_channels != config.out_channels + 1 + channels:
        raise BadInput(
            f"this U-Net takes {config.in_channels} channels and gives {config.out_channels}",
            f"use a model that takes as many as it gives, or {1 + channels} more",
        )
    size = request.height or model.size, request.width or model.size
    white = (
        torch.ones(1, 1, *size)
        if mask is None
        else torch.from_numpy(np.asarray(mask) > 0)[None, None].float()
    )
    image = torch.zeros(1, 3, *size) if picture is None else to_tensor(picture) * (1 - white)
    small = F.interpolate(white, scale_factor=1 / model.vae.config.factor)  # nearest
    concat = torch.cat((small, encode_tensor(model, image, request.tiling)), 1)  # (1, 1 + C, h, w)

    def add_channels(network: Prepared) -> Prepared:
        def bind(conditioning: Conditioning) -> Step:
            return network.bind(replace(conditioning, concat=concat))

        other = copy(network)
        other.bind = bind
        return other

    return add_channels(unet), None if guide is None else add_channels(guide)
