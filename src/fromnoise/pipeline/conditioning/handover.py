"""A run whose end is drawn by another model, its refiner."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared

Built = tuple[Callable[[Query], Answer], list[str]]


def hand_over(
    build: Callable[..., Built],
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    prompts: list[str],
    guide: Prepared | None,
    *more: Any,
) -> Built:
    """What `build`, which is generate.build_denoiser, gives for the model, and for its refiner from
    the timestep on at which that takes over. Samplers see no seam: both answer with x0 at a level
    of noise. A guide guides the model alone."""
    refiner = model.refiner
    own, notes = build(replace(model, refiner=None), unet, request, prompts, guide, *more)
    alone = replace(refiner.model, addons=model.addons)  # they were made for the model, not for it
    other, others = build(alone, refiner.unet, request, prompts, None, *more)
    last = round(len(model.schedule) * (1 - refiner.switch))  # as diffusers rounds

    def answer(query: Query) -> Answer:
        late = float(model.schedule.sigma_to_t(query.sigma)) < last
        return (other if late else own)(query)

    return answer, [*dict.fromkeys(notes + others)]
