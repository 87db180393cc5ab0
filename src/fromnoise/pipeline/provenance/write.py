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

# named by A1111 where it has a name for them, written where they are not the default
WRITTEN = {
    "Variation seed strength": "variation_strength", "Variation blend": "variation_blend",
    "Eta": "eta", "Sigma churn": "s_churn", "Sigma tmin": "s_tmin", "Sigma tmax": "s_tmax",
    "Sigma noise": "s_noise", "ENSD": "eta_noise_seed_delta", "CFG Rescale phi": "cfg_rescale",
    "NGMS": "skip_uncond_below", "Noise scaling": "noise_scaling", "Timesteps": "timesteps",
    "Final sigma": "final_sigma", "Clip skip": "clip_skip", "Prompt dialect": "dialect",
    "Prompt steps": "prompt_steps",
}  # fmt: skip


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
    its hash. latents: those that took the place of the seed's noise, (C, h, w) or (count, C, h, w).
    """
    if request.masks:
        from fromnoise.pipeline.conditioning.regions import describe_masks

        more = (more or {}) | describe_masks(request.masks)
    if model.refiner is not None:
        more = (more or {}) | model.refiner.describe()
    if latents is not None:
        from fromnoise.pipeline.provenance.hashes import hash_latents

        more = (more or {}) | {"Latents hash": hash_latents(latents, index)}
    g, bounds = request.guidance, (request.guidance.low, request.guidance.high)
    limited = bounds != (0, math.inf) or model.defaults.keys() & {"cfg_sigma_min", "cfg_sigma_max"}
    apg = (g.apg_parallel, g.apg_norm, g.apg_momentum) if g.apg else ()
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
        "Guide hash": guide and guide.digest,
        "Prediction": model.prediction if model.prediction_told else None,
        "Variation seed": (varied := request.variation_seeds()) and varied[index],
        "Sampler options": dump(request.sampler_options),
        "Schedule options": dump(request.spacing_options),
        "Discard penultimate sigma": True if request.discard_penultimate else None,
        "RNG": None if request.rng == "cpu" else request.rng.upper(),
        "Tiling": {"none": None, "both": "True"}.get(request.tiling, request.tiling),
        "CFG interval": " ".join(map(format_number, bounds)) if limited else None,
        "APG": " ".join(map(format_number, apg)) or None,
        **{
            name: value if isinstance(value, str) else format_number(value)
            for name, field in WRITTEN.items()
            if (value := getattr(request, field)) != GenerationRequest.model_fields[field].default
        },
        **(more or {}),
        "Prompt lines": request.prompt.count("\n") + 1 if has_marker else None,
        "Plan": plan,
        "Torch": torch.__version__,
        "Threads": torch.get_num_threads(),
        "Version": f"fromnoise {__version__}",
    }
    negative = f"Negative prompt: {request.negative_prompt}" if request.negative_prompt else None
    lines = (request.prompt, negative, format_pairs(settings))
    return "\n".join(line for line in lines if line is not None)


def dump(options: dict[str, Any]) -> str | None:
    """Options as JSON; None without any."""
    return json.dumps(options) if options else None


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
