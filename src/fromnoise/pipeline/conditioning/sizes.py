"""What Stable Diffusion XL is told of the pictures that it learnt from (Podell et al. 2023 "SDXL"
§2.2): their size before they were resized, where they were cut, and the size that was left; the
refiner is told an aesthetic score in place of the last."""

import torch
from torch import Tensor

from fromnoise.errors import BadInput, UnknownName
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.request import GenerationRequest

# each number of ids, and their meaning in order
KINDS = {
    6: ("original_height", "original_width", "crop_top", "crop_left")
    + ("target_height", "target_width"),
    5: ("original_height", "original_width", "crop_top", "crop_left", "aesthetic_score"),
}

SCORES = 6.0, 2.5  # of the prompt and of the negative one
LARGEST = 2**16  # pixels, to either side


def make_time_ids(model: LatentDiffusion, request: GenerationRequest) -> tuple[Tensor, Tensor]:
    """The time ids (1, n) of the prompt and of the negative prompt of a resolved request, in
    diffusers' order. The sizes are the picture's own, the crop is (0, 0), and the scores are
    those of A1111, ComfyUI and diffusers, where the request's `size_conditions` say nothing else;
    with "negative_" before a name they are of the negative prompt alone.

    Raises BadInput for a network that takes another number of ids, and for a number that is none,
    UnknownName for a name that the network is not told."""
    config, encoder = model.unet.config, model.text_encoders[-1].network.config
    assert config.added_dim
    assert config.time_id_dim
    count, rest = divmod(
        config.added_dim - (encoder.projection_dim or encoder.dim), config.time_id_dim
    )
    if rest or count not in KINDS:
        raise BadInput(
            f"this U-Net takes {count} time ids, whose meaning is unknown here",
            "use Stable Diffusion XL (6) or its refiner (5)",
        )
    height, width = float(request.height or model.size), float(request.width or model.size)
    told = {"original_height": height, "original_width": width, "crop_top": 0.0, "crop_left": 0.0}
    told |= {"target_height": height, "target_width": width}
    own, names = request.size_conditions, KINDS[count]
    for name, value in own.items():
        if name.removeprefix("negative_") not in names:
            choices = [*names, *(f"negative_{known}" for known in names)]
            raise UnknownName("size condition", name, choices)
        if not abs(value) <= LARGEST:
            raise BadInput(
                f"size_conditions: {name} is {value}", f"give a number of at most {LARGEST:,}"
            )
    first = told | {"aesthetic_score": SCORES[0]} | own
    second = told | {"aesthetic_score": SCORES[1]} | own
    second |= {k.removeprefix("negative_"): v for k, v in own.items() if k.startswith("negative_")}
    positive, negative = (torch.tensor([[one[n] for n in names]]) for one in (first, second))
    return positive, negative
