"""What is written of a picture beyond the usual settings: only a run that has some needs it."""

import json
from typing import Any

from torch import Tensor

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.provenance.hashes import hash_latents
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


def describe(
    model: LatentDiffusion,
    request: GenerationRequest,
    index: int,
    guide: Prepared | None,
    interval: str | None,
) -> dict[str, Any]:
    """Name → value of what picture `index` of a resolved request was drawn with; a value of None is
    not written. interval: the noise levels of guidance, which stand among the rest."""
    g, varied = request.guidance, request.variation_seeds()
    apg = (g.apg_parallel, g.apg_norm, g.apg_momentum) if g.apg else ()
    written = {
        "Guide hash": guide and guide.digest,
        "Prediction": model.prediction if model.prediction_told else None,
        "Variation seed": varied and varied[index],
        "Sampler options": dump(request.sampler_options),
        "Schedule options": dump(request.spacing_options),
        "Size conditions": dump(request.size_conditions),
        "Discard penultimate sigma": True if request.discard_penultimate else None,
        "RNG": None if request.rng == "cpu" else request.rng.upper(),
        "Tiling": {"none": None, "both": "True"}.get(request.tiling, request.tiling),
        "CFG interval": interval,
        "APG": " ".join(repr(value).removesuffix(".0") for value in apg) or None,
    }
    for name, field in WRITTEN.items():
        if (value := getattr(request, field)) != GenerationRequest.model_fields[field].default:
            written[name] = value
    return written


def describe_pictures(
    model: LatentDiffusion, request: GenerationRequest, index: int, latents: Tensor | None
) -> dict[str, str | None]:
    """Name → value of the masks, the refiner and the latents of picture `index`."""
    more: dict[str, str | None] = {}
    if request.masks:
        from fromnoise.pipeline.conditioning.regions import describe_masks

        more |= describe_masks(request.masks)
    if request.addons and request.addons.controls:
        from fromnoise.pipeline.addons.control_record import describe_controls

        more |= describe_controls(request.addons.controls)
    if model.refiner is not None:
        more |= model.refiner.describe()
    published = model.text_encoder.config.dim >= 768  # whose embeddings lie in folders
    if request.addons or published or request.dialect != "a1111" or "<" in request.prompt:
        from fromnoise.pipeline.addons.described import describe_addons

        more |= describe_addons(model, request)
    if latents is not None:
        more["Latents hash"] = hash_latents(latents, index)
    return more


def spell_addons(
    request: GenerationRequest, more: dict[str, str | None]
) -> tuple[GenerationRequest, dict[str, str | None]]:
    """See addons.record.spell."""
    if request.addons or "<" in request.prompt + str(more.get("Hires prompt")):
        from fromnoise.pipeline.addons.record import spell

        return spell(request, more)
    return request, more


def dump(options: dict[str, Any]) -> str | None:
    """Options as JSON; None without any."""
    return json.dumps(options) if options else None
