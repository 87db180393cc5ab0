"""Network + parameterization + guidance → x0 for a Query; the only place that knows both sides."""

from collections.abc import Callable

import torch

from fromnoise.diffusion import guidance
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
    cfg: float = 1.0,
    cfg_rescale: float = 0.0,
) -> Callable[[Query], Answer]:
    """Query → Answer, classifier-free guidance included.

    conditioning: of the prompt (context (1, N, dim)), or of prompt and negative prompt (2, N, dim): then both halves
    are one call of the network and `cfg` weighs them. Pictures go through one by one, so that each has the bits that
    it would have alone.
    """
    check(prediction, schedule)
    step, rows = unet.bind(conditioning), len(conditioning.context)

    def answer(query: Query) -> Answer:
        c_skip, c_out, c_in = coefficients(prediction, query.sigma)
        t = schedule.t(query.sigma).float()
        answers, unguided = [], []
        for x in query.x.split(1):  # (1, C, H, W)
            x0 = c_skip * x + c_out * step((c_in * x).expand(rows, -1, -1, -1), t).to(x.device)  # (rows, C, H, W)
            guided = guidance.cfg(x0[:1], x0[1:], cfg) if rows == 2 else x0
            answers.append(guidance.rescale(guided, x0[:1], cfg_rescale) if cfg_rescale else guided)
            unguided.append(x0[-1:])
        return Answer(torch.cat(answers), torch.cat(unguided) if rows == 2 else None)

    return answer
