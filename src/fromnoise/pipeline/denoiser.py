"""Network + parameterization + guidance → x0 for a Query; the only place that knows both sides."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from fromnoise.diffusion.guidance import Guidance
from fromnoise.diffusion.parameterization import check_prediction, compute_coefficients
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.models.unet import Conditioning
from fromnoise.runtime.prepare import Prepared, Step

Observer = Callable[[Query, tuple[int, ...], Tensor, Tensor | None, dict[str, Tensor]], None]


def make_denoiser(
    unet: Prepared,
    schedule: NoiseSchedule,
    prediction: str,
    prompt: Conditioning,
    negative: Tensor | None = None,
    guidance: Guidance | None = None,
    always: bool = False,
    guide: Prepared | None = None,
    observer: Observer | None = None,
) -> Callable[[Query], Answer]:
    """Query → Answer, guidance included, `unet.batch` pictures a call of the network.

    prompt: of all pictures (context (1, N, dim)), or of each its own (B, N, dim). negative: the
    context (1, N, dim) of what to stay away from: both halves are then one call of the network
    where `guidance` acts, and the prompt alone is called where it does not, unless the sampler
    needs the unconditional picture `always`. guide: a weaker network of the same parameterization,
    shown the prompt alone, whose picture takes the unconditional one's place (Karras et al. 2024
    "Guiding a diffusion model with a bad version of itself"). observer: told of every call (the query,
    of which pictures, x0 with the prompt, x0 without or None, the maps of cross-attention as
    models.unet records them, rows with the prompt first); without it none are made."""
    check_prediction(prediction, schedule)
    guidance = guidance or Guidance()
    moving: dict[
        tuple[int, ...], Tensor | None
    ] = {}  # what projected guidance remembers of pictures

    @cache
    def bound(network: Prepared, rows: tuple[int, ...], both: bool) -> Step:
        context = prompt.context[list(rows)]
        if both and negative is not None:
            context = torch.cat((context, negative.expand(len(rows), -1, -1)))
        return network.bind(replace(prompt, context=context))

    def answer(query: Query) -> Answer:
        c_skip, c_out, c_in = compute_coefficients(prediction, query.sigma)
        t = schedule.sigma_to_t(query.sigma).float()

        def ask(
            network: Prepared, x: Tensor, images: tuple[int, ...], both: bool = False
        ) -> Tensor:
            step = bound(network, images if len(prompt.context) > 1 else (0,) * len(images), both)
            return c_skip * x + c_out * step(c_in * x, t, maps if network is unet else None).to(
                x.device
            )

        acts = guidance.acts(query.sigma, query.step)
        answers, unguided = [], []
        for first in range(0, len(query.x), unet.batch):
            x = query.x[first : first + unet.batch]  # (b, C, H, W)
            images = tuple(range(first, first + len(x))) if query.image is None else (query.image,)
            maps = None if observer is None else {}
            if not (acts or always) or (guide is None and negative is None):
                answers.append(ask(unet, x, images))
                if observer is not None:
                    observer(query, images, answers[-1], None, maps or {})
                continue
            if guide is None:
                x0, uncond = ask(unet, x.repeat(2, 1, 1, 1), images, both=True).chunk(2)
            else:
                x0, uncond = ask(unet, x, images), ask(guide, x, images)
            guided, moving[images] = guidance.mix(x0, uncond, moving.get(images))
            answers.append(guided if acts else x0)
            unguided.append(uncond)
            if observer is not None:
                observer(query, images, x0, uncond, maps or {})
        if len(answers) == 1:
            return Answer(answers[0], unguided[0] if unguided else None)
        return Answer(torch.cat(answers), torch.cat(unguided) if unguided else None)

    return answer
