"""From a picture instead of noise alone: its latents, and the end of a run that redraws them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fromnoise.diffusion import samplers
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.generate import Step, run
from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:
    from fromnoise.diffusion.brownian import BrownianNoise


def encoded(model: LatentDiffusion, picture: Image.Image) -> Tensor:
    """(1, C, h, w) in fp32 on the CPU: the mean that the autoencoder sees, so that nothing is drawn by lot."""
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    parameter = next(model.vae.parameters())
    return model.vae.to_latents(pixels.to(parameter.device, parameter.dtype)).float().cpu()


def redrawn(
    model: LatentDiffusion, request: GenerationRequest, sigmas: Tensor, noise: "Noise | BrownianNoise", begun: Tensor,
    answer: Callable[[Query], Answer], notes: list[str], watch: Callable[[Step], None] | None,
) -> Step:  # fmt: skip
    """The last step of a resolved request's sampler over `sigmas`, from the latents `begun`, (1 or count, C, h, w),
    with noise added (SDEdit, Meng et al. 2022, eq. 6)."""
    x, last = begun + noise.initial * float(sigmas[0]), None
    sampling = samplers.load(request.sampler or "")(x, sigmas, noise, **request.options)
    for last in run(model, request, sigmas, sampling, answer, notes):
        if watch is not None:
            watch(last)
    assert last is not None  # there is at least one step
    return last
