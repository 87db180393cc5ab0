"""What a U-Net sees beside x at every step, channels that follow those of x: a mask and the rest of
a picture (inpainting), the picture to change (InstructPix2Pix), or a map of depths."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.encoding import encode_tensor, to_tensor
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared, Step


@dataclass(frozen=True)
class Seen:
    """What a run can show its network, each of the size of the request: the picture ("RGB"), the
    mask ("L", white where to draw), the depths ("L", near is bright). image_cfg: how strongly an
    InstructPix2Pix model keeps to the picture."""

    picture: Image.Image | None = None
    mask: Image.Image | None = None
    depths: Image.Image | None = None
    image_cfg: float = 1.5


@torch.inference_mode()
def show_pictures(
    model: LatentDiffusion,
    request: GenerationRequest,
    unet: Prepared,
    guide: Prepared | None = None,
    seen: Seen | None = None,
) -> tuple[Prepared, Prepared | None]:
    """Both networks, made to see what a model of the kind `model.concat` sees, in a resolved
    request. Raises BadInput for what is missing."""
    concat = BUILDERS[model.concat](model, request, seen or Seen())  # (1, C, h, w)
    shown = _show(unet, concat)
    if model.concat == "instruct" and seen and seen.image_cfg != 1:
        shown.without_picture = _show(unet, torch.zeros_like(concat)), seen.image_cfg
    return shown, None if guide is None else _show(guide, concat)


def _show(network: Prepared, concat: Tensor) -> Prepared:
    def bind(conditioning: Conditioning) -> Step:
        return network.bind(replace(conditioning, concat=concat))

    other = copy(network)
    other.bind = bind
    return other


def show_inpainting(model: LatentDiffusion, request: GenerationRequest, seen: Seen) -> Tensor:
    """(1, 1 + C, h, w), as in diffusers' StableDiffusionInpaintPipeline and A1111: the mask at the
    first pixel of each latent, 1 where white; then the latents of the picture, which is grey (0 in
    [−1, 1]) where the mask is white. Without a mask, everything is masked."""
    size = request.height or model.size, request.width or model.size
    picture = seen.picture if seen.mask else None
    white = (
        torch.ones(1, 1, *size)
        if seen.mask is None
        else torch.from_numpy(np.asarray(seen.mask) > 0)[None, None].float()
    )
    image = torch.zeros(1, 3, *size) if picture is None else to_tensor(picture) * (1 - white)
    small = F.interpolate(white, scale_factor=1 / model.vae.config.factor)  # nearest
    return torch.cat((small, encode_tensor(model, image, request.tiling)), 1)


def show_instructed(model: LatentDiffusion, request: GenerationRequest, seen: Seen) -> Tensor:
    """(1, C, h, w): the latents of the picture as the encoder gives them, without their scale
    (Brooks et al. 2023 "InstructPix2Pix"; diffusers and A1111 leave it out as well, and diffusers
    takes it for CosXL alone)."""
    if seen.picture is None:
        raise BadInput(
            "this model changes a picture by an instruction, and there is none",
            "give it one: fromnoise edit PICTURE INSTRUCTION",
        )
    vae, latents = model.vae.config, encode_tensor(model, to_tensor(seen.picture), request.tiling)
    if model.configs.get("model_index", {}).get("is_cosxl_edit"):
        return latents
    return latents / vae.scaling_factor + vae.shift_factor


def show_depths(model: LatentDiffusion, request: GenerationRequest, seen: Seen) -> Tensor:
    """(1, 1, h, w) in [−1, 1]: the smallest depth is −1, as in diffusers'
    StableDiffusionDepth2ImgPipeline. Raises BadInput for a flat map."""
    if seen.depths is None:
        raise BadInput(
            "this model sees a map of depths, and there is none",
            "give one, near is bright: fromnoise edit PICTURE PROMPT --depth-map FILE",
        )
    factor = model.vae.config.factor
    size = (request.height or model.size) // factor, (request.width or model.size) // factor
    depths = torch.from_numpy(np.array(seen.depths, np.float32))[None, None]
    small = F.interpolate(depths, size, mode="bicubic", align_corners=False)
    low, high = small.min(), small.max()
    if low == high:
        raise BadInput("the map of depths is flat", "give one with near and far places")
    return 2 * (small - low) / (high - low) - 1


BUILDERS: dict[str, Callable[[LatentDiffusion, GenerationRequest, Seen], Tensor]] = {
    "inpainting": show_inpainting,
    "instruct": show_instructed,
    "depth": show_depths,
}
