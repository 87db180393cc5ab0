"""Films: pictures on the way from prompt to prompt and from seed to seed. Each frame can be drawn
alone."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.samplers.base import NoiseSource
from fromnoise.diffusion.variation import slerp
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.conditioning.cost import check_cost
from fromnoise.pipeline.conditioning.interpolation import InterpolatedPrompt
from fromnoise.pipeline.generate import Step, build_denoiser, run_sampler, start_sampler
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.provenance.write import write_infotext
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.sequences.request import FilmRequest
from fromnoise.runtime.prepare import Prepared

EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "smooth": lambda t: t * t * (3 - 2 * t),
    "in": lambda t: t * t,
    "out": lambda t: t * (2 - t),
}
# the fields of a film that a picture records, beside those of every request
FIELDS = ("prompts", "key_seeds", "frames", "loop", "easing", "blend")


@dataclass(frozen=True)
class FramePosition:
    """The place of a frame: `share` ∈ [0, 1) of the way from key frame `start` to key frame
    `end`."""

    start: int
    end: int
    share: float


def locate_frame(request: FilmRequest, index: int) -> FramePosition:
    """The place of frame `index` of a film. At a key frame share is exactly 0."""
    ways = request.keys if request.loop else request.keys - 1
    at = Fraction(index * ways, request.frames if request.loop else max(request.frames - 1, 1))
    start = int(at)
    share = EASINGS[request.easing](float(at - start))
    return FramePosition(start, (start + 1) % request.keys, share)


class MixedNoise:
    """The noise at `share` of the way from one seed's noise to another seed's, along the arc
    between them. It is unit noise as theirs is. It mixes the noise of the start and of every step,
    so a film moves without jumps with samplers that draw noise, too."""

    def __init__(self, source: Any, share: float):
        self.source: NoiseSource = source  # of both seeds, as a batch of two
        self.share = share
        self.initial = self._mix(source.initial)

    def _mix(self, pair: Tensor) -> Tensor:
        return slerp(self.share, pair[0], pair[1])[None]

    def __call__(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor:
        return self._mix(self.source(sigma, sigma_next))


@torch.inference_mode()
def draw_frame(
    model: LatentDiffusion,
    unet: Prepared,
    request: FilmRequest,
    index: int,
    watch: Callable[[Step], None] | None = None,
    guide: Prepared | None = None,
) -> Image.Image:
    """Draws frame `index` of a resolved film, with its settings in `info["parameters"]`. A key
    frame has the bits that `generate` draws from its prompt and seed."""
    at = locate_frame(request, index)
    one = key_request(request, at.start)
    seeds, prompts, prompt = request.key_seeds, request.prompts, one.prompt
    if at.share and prompts[at.end] != prompt:
        prompt = InterpolatedPrompt(prompt, prompts[at.end], at.share, request.blend)
    # the cost of the whole film, so that no later frame is refused
    check_cost(model, one, prompts, math.ceil(request.frames / len(prompts)))
    if at.share and seeds[at.end] != one.seed:
        pair = [seeds[at.start], seeds[at.end]]
        sigmas, sampling = start_sampler(
            model, one, pair, mix=lambda noise: cast(Noise, MixedNoise(noise, at.share))
        )
    else:
        sigmas, sampling = start_sampler(model, one, one.seeds())
    answer, notes = build_denoiser(model, unet, one, [prompt], guide)
    last = None
    for last in run_sampler(model, one, sigmas, sampling, answer, notes):
        if watch is not None:
            watch(last)
    assert last is not None
    [picture] = decode_latents(model.vae, last.x, one.tiling)
    picture.info["parameters"] = describe_frame(model, request, index, unet.plan, guide)
    return picture


def key_request(request: FilmRequest, number: int) -> GenerationRequest:
    """The request of a key frame alone."""
    own = {name: getattr(request, name) for name in GenerationRequest.model_fields}
    return GenerationRequest(
        **own | {"prompt": request.prompts[number], "seed": request.key_seeds[number]}
    )


def describe_frame(
    model: LatentDiffusion,
    request: FilmRequest,
    index: int | None,
    plan: str,
    guide: Prepared | None = None,
) -> str:
    """The settings of frame `index`: those of the key frame before it, its film, and its number.
    Without an index: those of the film."""
    film = {name: getattr(request, name) for name in FIELDS}
    film |= {} if index is None else {"frame": index}
    one = key_request(request, 0 if index is None else locate_frame(request, index).start)
    more: dict[str, str | None] = {"Film": json.dumps(film, ensure_ascii=False)}
    return write_infotext(model, one, 0, plan, more, guide)


def redraw_frame(
    model: LatentDiffusion,
    unet: Prepared,
    settings: dict[str, Any],
    film: str,
    guide: Prepared | None = None,
) -> Image.Image:
    """Draws the frame again that a picture says it is. film: the picture's entry "Film"; settings:
    its other settings. Raises BadInput."""
    try:
        fields = json.loads(film)
        index = fields.pop("frame")
        own = {name: fields[name] for name in FIELDS if name in fields}  # and no other settings
        request = FilmRequest.of(**settings | own).resolve(model)
        if request.max_cost is not None:  # the limit is for one frame, not for the film
            request = request.model_copy(update={"max_cost": request.max_cost * request.frames})
        if not isinstance(index, int) or not 0 <= index < request.frames:
            raise ValueError(f"there is no frame {index}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            f"the picture does not say which frame of a film it is: {error!r}",
            "give a frame, as fromnoise film writes them with --out FOLDER",
        ) from error
    return draw_frame(model, unet, request, index, guide=guide)
