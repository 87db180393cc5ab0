"""Latents → pictures → files that carry their settings."""

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from fromnoise import __version__
from fromnoise.diffusion import spacing
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.vae import VAE
from fromnoise.pipeline.request import GenerationRequest

# named by A1111 where it has a name for them, written where they are not the default
WRITTEN = {"Variation seed strength": "variation_strength", "Variation blend": "variation_blend", "Eta": "eta",
           "Sigma churn": "s_churn", "Sigma tmin": "s_tmin", "Sigma tmax": "s_tmax", "Sigma noise": "s_noise",
           "ENSD": "eta_noise_seed_delta", "CFG Rescale phi": "cfg_rescale", "NGMS": "skip_uncond_below",
           "Noise scaling": "noise_scaling", "Clip skip": "clip_skip", "Prompt dialect": "dialect",
           "Prompt steps": "prompt_steps"}  # fmt: skip


@torch.inference_mode()
def pictures(vae: VAE, latents: Tensor, tiling: str = "none") -> list[Image.Image]:
    """Latents (B, C, h, w) → B pictures, RGB; decoded one by one, so that each has the bits it would have alone."""
    device, to_image = next(vae.parameters()).device, vae.to_image
    if tiling != "none":
        from fromnoise.runtime.tiling import circular  # only where it is asked for

        to_image = circular(to_image, tiling)
    return [picture(to_image(one.to(device))[0]) for one in latents.split(1)]


def picture(image: Tensor) -> Image.Image:
    """An image (3, H, W) in [−1, 1], clipped to it, → an RGB picture, rounded to 8 bits."""
    pixels = (image.float() * 127.5 + 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def number(value: float | None) -> str:
    """Every digit of it, and no ".0": what is read back is the same number."""
    return repr(value).removesuffix(".0")


def parameters(
    model: LatentDiffusion, request: GenerationRequest, index: int, plan: str, more: dict[str, str | None] | None = None
) -> str:
    """What picture `index` of a resolved request was drawn with, in the text format of AUTOMATIC1111's web UI; more:
    what else there is to say."""
    if request.masks:
        from fromnoise.pipeline.regions import described

        more = (more or {}) | described(request.masks)
    g, bounds = request.guidance, (request.guidance.low, request.guidance.high)
    limited = bounds != (0, math.inf) or "cfg_sigma_min" in model.defaults or "cfg_sigma_max" in model.defaults
    settings = {
        "Steps": request.steps,
        "Sampler": SAMPLERS[request.sampler or ""].label,
        "Schedule type": spacing.find(request.spacing or "").label,
        "CFG scale": number(request.cfg),
        "Seed": request.seeds()[index],
        "Size": f"{request.width}x{request.height}",
        "Model hash": model.digest or None,
        "Model": model.source or None,
        "VAE hash": model.vae_digest or None,
        "Variation seed": (varied := request.variation_seeds()) and varied[index],
        "Sampler options": json.dumps(request.sampler_options) if request.sampler_options else None,
        "Schedule options": json.dumps(request.spacing_options) if request.spacing_options else None,
        "Discard penultimate sigma": True if request.discard_penultimate else None,
        "RNG": None if request.rng == "cpu" else request.rng.upper(),
        "Tiling": {"none": None, "both": "True"}.get(request.tiling, request.tiling),
        "CFG interval": " ".join(map(number, bounds)) if limited else None,
        "APG": " ".join(map(number, (g.apg_parallel, g.apg_norm, g.apg_momentum))) if g.apg else None,
        **{name: value if isinstance(value, str) else number(value) for name, field in WRITTEN.items()
           if (value := getattr(request, field)) != GenerationRequest.model_fields[field].default},
        **(more or {}),
        "Prompt lines": request.prompt.count("\n") + 1 if "\nNegative prompt: " in f"\n{request.prompt}" else None,
        "Plan": plan,
        "Torch": torch.__version__,
        "Threads": torch.get_num_threads(),
        "Version": f"fromnoise {__version__}",
    }
    lines = [request.prompt, *([f"Negative prompt: {request.negative_prompt}"] if request.negative_prompt else [])]
    return "\n".join([*lines, pairs(settings)])


def pairs(settings: dict[str, Any]) -> str:
    """ "key: value, …" of what is not None, in JSON's quotes where a value needs them."""
    quoted = {k: json.dumps(v) if re.search('[,:"\n]', str(v)) else v for k, v in settings.items() if v is not None}
    return ", ".join(f"{k}: {v}" for k, v in quoted.items())


def save(picture: Image.Image, path: Path, quality: int | str | None = None) -> Path:
    """Writes a PNG with the picture's `info["parameters"]` as a text chunk, or a JPEG or WebP file, as its suffix says,
    of a quality: see exif.keywords. Gives the path; raises BadInput if it cannot."""
    text, how = PngImagePlugin.PngInfo(), {}
    if "parameters" in picture.info:
        text.add_text("parameters", picture.info["parameters"])  # Latin-1 where it can be, else UTF-8 (iTXt)
    if path.suffix.lower() != ".png" or quality is not None:
        from fromnoise.pipeline.exif import keywords  # only for other files

        how = keywords(path.suffix, picture.info.get("parameters"), quality)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, **how or {"format": "PNG", "pnginfo": text})
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}", "choose another place with --out") from error
    return path
