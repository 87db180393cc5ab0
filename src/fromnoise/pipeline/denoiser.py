"""Network + parameterization + guidance → x0 for a Query; the only place that knows both sides."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from fromnoise.diffusion.guidance import Guidance
from fromnoise.diffusion.parameterization import check_prediction, compute_coefficients
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.models.conditioning import Conditioning, stack
from fromnoise.runtime.prepare import Prepared, Step

Observer = Callable[[Query, tuple[int, ...], Tensor, Tensor | None, dict[str, Tensor]], None]


def make_denoiser(
    unet: Prepared,
    schedule: NoiseSchedule,
    prediction: str,
    prompt: Conditioning,
    negative: Conditioning | None = None,
    guidance: Guidance | None = None,
    always: bool = False,
    guide: Prepared | None = None,
    observer: Observer | None = None,
) -> Callable[[Query], Answer]:
    """Query → Answer, guidance included, `unet.batch` pictures a call of the network.

    prompt: one row for all pictures, or for each its own. negative: one row, of what to stay away
    from. Where `guidance` acts, or the sampler needs the unconditional picture `always`, the
    network is shown both: in one call if they have as many tokens, else in two, as A1111 does, so
    that each picture attends to its own tokens alone. Elsewhere it is shown the prompt alone.
    guide: a weaker network of the same parameterization, shown the prompt alone; its picture takes
    the unconditional one's place (Karras et al. 2024, "autoguidance").

    observer: is called after every call of the network with the query, the numbers of the pictures,
    x0 with the prompt, x0 without it or None, and the maps of cross-attention, see models.unet."""
    check_prediction(prediction, schedule)
    guidance = guidance or Guidance()
    momenta: dict[tuple[int, ...], Tensor | None] = {}  # of projected guidance, by picture
    joint = negative is not None and negative.context.shape[1] == prompt.context.shape[1]

    @cache
    def bind(network: Prepared, rows: tuple[int, ...], positive: bool, against: bool) -> Step:
        """A step of the network, shown the prompts of these rows, the negative prompt, or both."""
        shown = [prompt.rows(rows)] if positive else []
        if against and negative is not None:
            shown.append(negative.rows([0] * len(rows)))
        return network.bind(stack(shown))

    def answer(query: Query) -> Answer:
        c_skip, c_out, c_in = compute_coefficients(prediction, query.sigma)
        t = schedule.find_time(query.sigma)

        def ask(of: Prepared, x: Tensor, positive: bool = True, against: bool = False) -> Tensor:
            rows = images if len(prompt.context) > 1 else (0,) * len(images)
            record = maps if of is unet and positive else None
            output = bind(of, rows, positive, against)(c_in * x, t, record)
            return c_skip * x + c_out * output.to(x.device)

        acts = guidance.acts(query.sigma, query.step)
        answers, unguided = [], []
        for first in range(0, len(query.x), unet.batch):
            x = query.x[first : first + unet.batch]  # (b, C, H, W)
            images = tuple(range(first, first + len(x))) if query.image is None else (query.image,)
            maps = None if observer is None else {}
            if not (acts or always) or (guide is None and negative is None):
                x0, uncond = ask(unet, x), None
                answers.append(x0)
            else:
                if guide is not None:
                    x0, uncond = ask(unet, x), ask(guide, x)
                elif joint:
                    x0, uncond = ask(unet, x.repeat(2, 1, 1, 1), against=True).chunk(2)
                else:
                    x0 = ask(unet, x)
                    uncond = ask(unet, x, positive=False, against=True)
                guided, momenta[images] = guidance.mix(x0, uncond, momenta.get(images))
                answers.append(guided if acts else x0)
                unguided.append(uncond)
            if observer is not None:
                observer(query, images, x0, uncond, maps or {})
        return Answer(torch.cat(answers), torch.cat(unguided) if unguided else None)

    return answer


def check_finite(values: Tensor, part: str, network: nn.Module) -> None:
    """Raises NotFinite where a value of what `part` computed is NaN or infinite; network: the part
    itself, whose weights are then looked at for the cause."""
    if not values.isfinite().all():
        from fromnoise.pipeline.finite import refuse  # only then

        refuse(part, network)
