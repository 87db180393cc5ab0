"""What a picture was drawn with → the text that AUTOMATIC1111's web UI writes."""

import json
import math
import re
from typing import Any

import torch
from torch import Tensor

from fromnoise import __version__
from fromnoise.diffusion import spacing
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared

# what a text says of a request of these fields alone; others are in `unusual`
USUAL = {"prompt", "negative_prompt", "steps", "cfg", "cfg_sigma_min", "cfg_sigma_max", "sampler"}
USUAL |= {"spacing", "discard_penultimate", "seed", "width", "height", "count", "max_cost"}


def format_number(value: float | None) -> str:
    """Every digit of it, and no ".0": what is read back is the same number."""
    return repr(value).removesuffix(".0")


def write_infotext(
    model: LatentDiffusion,
    request: GenerationRequest,
    index: int,
    plan: str,
    more: dict[str, str | None] | None = None,
    guide: Prepared | None = None,
    latents: Tensor | None = None,
) -> str:
    """What picture `index` of a resolved request was drawn with, as the web UI writes it.

    more: what else there is to say. guide: the network that took the negative prompt's place, by
    its hash. latents: those in the place of the seed's noise, (C, h, w) or (count, C, h, w)."""
    more = more or {}
    bounds = (request.guidance.low, request.guidance.high)
    limited = bounds != (0, math.inf) or model.defaults.keys() & {"cfg_sigma_min", "cfg_sigma_max"}
    interval = " ".join(map(format_number, bounds)) if limited else None
    rare: dict[str, Any] = {"CFG interval": interval}
    others = request.discard_penultimate, guide, model.prediction_told, model.refiner
    if latents is not None or any(others) or has_more(model, request):
        from fromnoise.pipeline.provenance import unusual

        rare = unusual.describe(model, request, index, guide, interval)
        pictures = unusual.describe_pictures(model, request, index, latents)
        request, more = unusual.spell_addons(request, more | pictures)
    has_marker = "\nNegative prompt: " in f"\n{request.prompt}"
    settings = {
        "Steps": request.steps,
        "Sampler": SAMPLERS[request.sampler or ""].label,
        "Schedule type": spacing.find(request.spacing or "").label,
        "CFG scale": format_number(request.cfg),
        "Seed": request.seeds()[index],
        "Size": f"{request.width}x{request.height}",
        "Model hash": model.digest or None,
        "Model": model.source or None,
        "VAE hash": model.vae_digest or None,
        "VAE": model.vae_source or None,
        **{k: v if isinstance(v, str | None) else format_number(v) for k, v in rare.items()},
        **more,
        "Prompt lines": request.prompt.count("\n") + 1 if has_marker else None,
        "Plan": plan,
        "Torch": torch.__version__,
        "Threads": torch.get_num_threads(),
        "Version": f"fromnoise {__version__}",
    }
    negative = f"Negative prompt: {request.negative_prompt}" if request.negative_prompt else None
    lines = (request.prompt, negative, format_pairs(settings))
    return "\n".join(line for line in lines if line is not None)


def has_more(model: LatentDiffusion, request: GenerationRequest) -> bool:
    """Whether a field that is not among USUAL differs from its default."""
    fields = GenerationRequest.model_fields.items()
    others = (getattr(request, k) != v.default for k, v in fields if k not in USUAL)
    return "<" in request.prompt or model.text_encoder.config.dim >= 768 or any(others)


def format_pairs(settings: dict[str, Any]) -> str:
    """ "key: value, …" of what is not None, in one line: a value stands in JSON's quotes where it
    needs them to be read back as it is."""
    return ", ".join(
        f"{key}: {json.dumps(value) if _needs_quotes(str(value)) else value}"
        for key, value in settings.items()
        if value is not None
    )


def _needs_quotes(text: str) -> bool:
    return bool(re.search('[,:"\n\r]', text)) or text != text.strip() or text.startswith(("[", "{"))
