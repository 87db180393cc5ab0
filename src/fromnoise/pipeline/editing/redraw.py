"""A run that starts from a picture: the last steps of a sampler, from latents with noise added."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from fromnoise.diffusion import samplers
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.generate import Step, run_sampler
from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:
    from fromnoise.diffusion.brownian import BrownianNoise


def redraw(
    model: LatentDiffusion,
    request: GenerationRequest,
    sigmas: Tensor,
    noise: "Noise | BrownianNoise",
    start: Tensor,
    answer: Callable[[Query], Answer],
    notes: list[str],
    watch: Callable[[Step], None] | None,
) -> Step:
    """The last step of a resolved request's sampler over `sigmas`, from the latents `start`, (1 or
    count, C, h, w), with noise added (SDEdit, Meng et al. 2022, eq. 6)."""
    x, last = start + noise.initial * float(sigmas[0]), None
    sampler = samplers.load(request.sampler or "", model.schedule)
    sampling = sampler(x, sigmas, noise, **request.options)
    for last in run_sampler(model, request, sigmas, sampling, answer, notes):
        if watch is not None:
            watch(last)
    assert last is not None  # there is at least one step
    return last
