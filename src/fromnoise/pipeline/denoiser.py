"""Network + parameterization + guidance → x0 for a Query; the only place that knows both sides."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from fromnoise.diffusion.guidance import Guidance
from fromnoise.diffusion.parameterization import check, coefficients
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.models.unet import Conditioning
from fromnoise.runtime.prepare import Prepared


def denoiser(
    unet: Prepared,
    schedule: NoiseSchedule,
    prediction: str,
    conditioning: Conditioning,
    guidance: Guidance | None = None,
    always: bool = False,
    guide: Prepared | None = None,
) -> Callable[[Query], Answer]:
    """Query → Answer, guidance included.

    conditioning: of the prompt (context (1, N, dim)), or of prompt and negative prompt (2, N, dim): then both halves
    are one call of the network where `guidance` acts, and the prompt alone is called where it does not, unless the
    sampler needs the unconditional picture `always`. Pictures go through one by one, so that each has the bits that it
    would have alone.
    guide: a weaker network of the same parameterization, shown the prompt alone, whose picture takes the unconditional
    one's place (Karras et al. 2024 "Guiding a diffusion model with a bad version of itself").
    """
    check(prediction, schedule)
    guidance = guidance or Guidance()
    context = conditioning.context
    alone = unet.bind(replace(conditioning, context=context[:1]))
    both = unet.bind(conditioning) if len(context) == 2 and guide is None else None
    weaker = guide.bind(Conditioning(context[:1])) if guide else None
    moving: dict[int, Tensor | None] = {}  # what projected guidance remembers of each image

    def answer(query: Query) -> Answer:
        c_skip, c_out, c_in = coefficients(prediction, query.sigma)
        t = schedule.t(query.sigma).float()

        def ask(step: Callable[..., Tensor], x: Tensor, rows: int = 1) -> Tensor:
            return c_skip * x + c_out * step((c_in * x).expand(rows, -1, -1, -1), t).to(x.device)  # (rows, C, H, W)

        acts = guidance.acts(query.sigma, query.step)
        answers, unguided = [], []
        for i, x in enumerate(query.x.split(1)):  # (1, C, H, W)
            if both and (acts or always):
                x0, uncond = ask(both, x, 2).split(1)
            elif weaker and (acts or always):
                x0, uncond = ask(alone, x), ask(weaker, x)
            else:
                answers.append(ask(alone, x))
                continue
            image = i if query.image is None else query.image
            guided, moving[image] = guidance.mix(x0, uncond, moving.get(image))
            answers.append(guided if acts else x0)
            unguided.append(uncond)
        return Answer(torch.cat(answers), torch.cat(unguided) if unguided else None)

    return answer
