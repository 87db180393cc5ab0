"""Films: pictures on the way from prompt to prompt and from seed to seed, each of which could be
drawn alone."""

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
FIELDS = (
    "prompts",
    "key_seeds",
    "frames",
    "loop",
    "easing",
    "blend",
)  # that a picture says beside those of all


@dataclass(frozen=True)
class FramePosition:
    """A frame's: `share` ∈ [0, 1) of the way from key frame `start` to key frame `end`."""

    start: int
    end: int
    share: float


def locate_frame(request: FilmRequest, index: int) -> FramePosition:
    """Where frame `index` of a film is. Exact where it is a key frame: then share is 0."""
    ways = request.keys if request.loop else request.keys - 1
    at = Fraction(index * ways, request.frames if request.loop else max(request.frames - 1, 1))
    begun = int(at)
    return FramePosition(
        begun, (begun + 1) % request.keys, EASINGS[request.easing](float(at - begun))
    )


class MixedNoise:
    """The noise `share` of the way from one seed's to another's, along the arc between them, at the
    start and in every step: unit noise like theirs, and continuous over the film with samplers that
    draw noise, too."""

    def __init__(self, both: Any, share: float):
        self.both: NoiseSource = both
        self.share = share
        self.initial = self._mixed(both.initial)

    def _mixed(self, pair: Tensor) -> Tensor:
        return slerp(self.share, pair[0], pair[1])[None]

    def __call__(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor:
        return self._mixed(self.both(sigma, sigma_next))


@torch.inference_mode()
def draw_frame(
    model: LatentDiffusion,
    unet: Prepared,
    request: FilmRequest,
    index: int,
    watch: Callable[[Step], None] | None = None,
    guide: Prepared | None = None,
) -> Image.Image:
    """Frame `index` of a resolved film, with its settings in `info["parameters"]`. A key frame is,
    to the bit, what `generate` draws of its prompt and seed."""
    one, at = key_request(request, locate_frame(request, index).start), locate_frame(request, index)
    seeds, prompts, prompt = request.key_seeds, request.prompts, one.prompt
    if at.share and prompts[at.end] != prompt:
        prompt = InterpolatedPrompt(prompt, prompts[at.end], at.share, request.blend)
    # of the whole film, so that no later frame is refused
    check_cost(model, one, prompts, math.ceil(request.frames / len(prompts)))
    if at.share and seeds[at.end] != one.seed:
        pair = [seeds[at.start], seeds[at.end]]
        sigmas, sampling = start_sampler(
            model, one, pair, mix=lambda noise: cast(Noise, MixedNoise(noise, at.share))
        )
    else:
        sigmas, sampling = start_sampler(model, one, one.seeds())
    if model.unet.config.in_channels > model.unet.config.out_channels:
        from fromnoise.pipeline.conditioning.inpainting import (
            add_inpainting_channels,  # only for models made for it
        )

        unet, guide = add_inpainting_channels(model, one, unet, guide)
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
    """The settings of a frame, those of the key frame that it follows, and which of which film it
    is; of None, those of the film."""
    said = {name: getattr(request, name) for name in FIELDS} | (
        {} if index is None else {"frame": index}
    )
    one = key_request(request, 0 if index is None else locate_frame(request, index).start)
    more: dict[str, str | None] = {"Film": json.dumps(said, ensure_ascii=False)}
    return write_infotext(model, one, 0, plan, more, guide)


def redraw_frame(
    model: LatentDiffusion,
    unet: Prepared,
    settings: dict[str, Any],
    said: str,
    guide: Prepared | None = None,
) -> Image.Image:
    """The frame that a picture says it is: of its other settings, and what it has as "Film". Raises
    BadInput."""
    try:
        found = json.loads(said)
        index = found.pop("frame")
        own = {name: found[name] for name in FIELDS if name in found}  # and no other settings
        request = FilmRequest.of(**settings | own).resolve(model)
        if request.max_cost is not None:  # of the one frame, not of the film
            request = request.model_copy(update={"max_cost": request.max_cost * request.frames})
        if not isinstance(index, int) or not 0 <= index < request.frames:
            raise ValueError(f"there is no frame {index}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            f"the picture does not say which frame of a film it is: {error!r}",
            "give a frame, as fromnoise film writes them with --out FOLDER",
        ) from error
    return draw_frame(model, unet, request, index, guide=guide)
