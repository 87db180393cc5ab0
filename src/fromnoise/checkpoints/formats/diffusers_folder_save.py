"""The folder of `diffusers_folder`, written."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fromnoise.checkpoints.formats.diffusers_configs import (
    PREDICTIONS,
    TEXT,
    UNET,
    VAE_,
    WEIGHTS,
    read_scheduler,
    text_config,
    unet_config,
    vae_config,
)
from fromnoise.checkpoints.formats.diffusers_scheduler import defaults
from fromnoise.checkpoints.formats.diffusers_towers import VISION, resnet_config, vision_config
from fromnoise.diffusion import spacing
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip_vision import CLIPVision
from fromnoise.models.config import CLIPTextConfig, CLIPVisionConfig, UNetConfig, VAEConfig
from fromnoise.models.resnet import CLIPResNetConfig
from fromnoise.prompt import tokenizer_files
from fromnoise.prompt.tokenizer import Tokenizer

# transformers runs weights in the type they are stored in unless told so: diffusers' own parts
# would then not match
LOADED = {"layer_norm_eps": 1e-5, "torch_dtype": "float32"}


def save(model: LatentDiffusion, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes the folder, weights in `dtype`. Raises BadInput for a model that a
    StableDiffusionPipeline cannot hold."""
    folder = Path(folder)
    if model.vae.config.shift_factor or model.text_encoder.config.projection_dim is not None:
        raise BadInput(
            "a StableDiffusionPipeline knows no shift_factor and takes a text encoder without projection",
            "train with shift_factor = 0, and keep the projection in `text_projection`",
        )
    if model.vae.encoder is None:
        raise BadInput(
            "the model was read without its autoencoder's encoder",
            "read it whole: load_parts(name)",
        )
    parts: dict[str, tuple[Any, dict, Any]] = {
        "unet": (model.unet, write_unet(model.unet.config), unet_config),
        "vae": (model.vae, write_vae(model.vae.config), vae_config),
        "text_encoder": (
            model.text_encoder,
            write_text(model.text_encoder.config, model.tokenizer),
            text_config,
        ),
    }
    if model.vision is not None and not isinstance(model.vision, CLIPVision):
        parts["image_tower"] = (model.vision, write_resnet(model.vision.config), resnet_config)
    elif model.vision is not None:
        parts["image_encoder"] = (model.vision, write_vision(model.vision.config), vision_config)
    for part, (network, config, reading) in parts.items():
        write(folder / part / WEIGHTS[part], network.state_dict(), dtype)
        was = model.configs.get(part)  # as its file had it, where that still says the same
        write_json(
            folder / part / "config.json", was if was and reading(was) == network.config else config
        )
    head = {"text_projection.weight": model.text_projection, "logit_scale": model.logit_scale}
    if head := {k: v for k, v in head.items() if v is not None}:
        write(folder / "clip_head.safetensors", head, dtype)
    tokenizer_files.save(model.tokenizer, folder / "tokenizer")
    scheduler = model.configs.get("scheduler")
    if not scheduler or not same_schedule(scheduler, model):
        scheduler = write_scheduler(model.schedule, model.prediction, model.defaults)
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    from_scheduler = defaults(model.configs["scheduler"]) if "scheduler" in model.configs else {}
    if model.defaults and model.defaults != from_scheduler:
        write_json(folder / "fromnoise.json", model.defaults)
    encoder = (
        ["transformers", "CLIPVisionModelWithProjection"]
        if "image_encoder" in parts
        else [None, None]
    )
    classes = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "image_encoder": encoder,
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
    }
    config = model.unet.config
    kind = (
        "StableDiffusionInpaintPipeline"
        if config.in_channels > config.out_channels
        else "StableDiffusionPipeline"
    )
    index = {"_class_name": kind, "_diffusers_version": "0.35.0", "requires_safety_checker": False}
    write_json(folder / "model_index.json", index | classes)


def write_json(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_unet(config: UNetConfig) -> dict:
    return (
        {"_class_name": "UNet2DConditionModel"}
        | {key: getattr(config, name) for name, key in UNET.items()}
        | {
            "down_block_types": [
                "CrossAttnDownBlock2D" if a else "DownBlock2D" for a in config.attention
            ],
            "up_block_types": [
                "CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config.attention)
            ],
            "mid_block_type": "UNetMidBlock2DCrossAttn"
            if config.mid_attention
            else "UNetMidBlock2D",
            "attention_head_dim": list(config.heads),
        }
    )


def write_vae(config: VAEConfig) -> dict:
    levels = len(config.block_out_channels)
    return (
        {"_class_name": "AutoencoderKL"}
        | {key: getattr(config, name) for name, key in VAE_.items()}
        | {
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "use_post_quant_conv": config.quant_conv,
        }
    )


def write_text(config: CLIPTextConfig, tokenizer: Tokenizer) -> dict:
    own = {key: getattr(config, name) for name, key in TEXT.items()}
    ids = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    head = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"} | LOADED
    return (
        head | own | ids | {"projection_dim": config.dim}
    )  # transformers wants a number, a CLIPTextModel ignores it


def write_vision(config: CLIPVisionConfig) -> dict:
    head = {"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model"}
    return head | LOADED | {key: getattr(config, name) for name, key in VISION.items()}


def write_resnet(config: CLIPResNetConfig) -> dict:
    return {"_class_name": "fromnoise.CLIPResNet"} | asdict(config)


def same_schedule(config: dict, model: LatentDiffusion) -> bool:
    schedule, prediction = read_scheduler(config)
    return prediction == model.prediction and torch.equal(
        schedule.alpha_bar, model.schedule.alpha_bar
    )


def write_scheduler(schedule: NoiseSchedule, prediction: str, defaults: dict) -> dict:
    """A DDIMScheduler that ends at σ = 0 and visits "trailing" or "leading" times, as the model's
    defaults say.

    A schedule that diffusers has a name for gets it, any other is written out as `trained_betas`.
    """
    said = next((word for word, ours in PREDICTIONS.items() if ours == prediction), None)
    if said is None:
        raise BadInput(
            f"a DDIMScheduler cannot hold prediction {prediction!r}",
            "save only eps, v or x0 models so",
        )
    visited = spacing.find(defaults.get("spacing", "trailing")).name
    config = {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.35.0",
        "num_train_timesteps": len(schedule),
        "prediction_type": said,
        "timestep_spacing": visited if visited in ("leading", "linspace") else "trailing",
        "steps_offset": 1,  # a StableDiffusionPipeline insists on it; "trailing" has no use for it
        "clip_sample": False,
        "set_alpha_to_one": True,
        "rescale_betas_zero_snr": False,
        "trained_betas": None,
    }
    alpha_bar = schedule.alpha_bar
    betas = 1 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    ends = {
        "beta_start": float(f"{betas[0]:.10g}"),
        "beta_end": float(f"{betas[-1]:.10g}"),
    }  # as someone wrote them
    stable = {"beta_start": 0.00085, "beta_end": 0.012}
    for kind, values in (
        ("scaled_linear", ends),
        ("linear", ends),
        ("squaredcos_cap_v2", ends),
        ("scaled_linear", stable),
    ):
        for rescaled in (False, True):
            trial = config | values | {"beta_schedule": kind, "rescale_betas_zero_snr": rescaled}
            with suppress(BadInput):  # the ends of one kind may make no schedule of another
                if torch.equal(read_scheduler(trial)[0].alpha_bar, alpha_bar):
                    return trial
    return config | ends | {"beta_schedule": "linear", "trained_betas": betas.tolist()}


def write(path: Path, tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Writes a safetensors file; floating tensors are cast to `dtype`, whole numbers stay as they
    are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ready = {
        k: (v.detach().to("cpu", dtype) if v.is_floating_point() else v.detach().cpu()).contiguous()
        for k, v in tensors.items()
    }
    save_file(ready, path, metadata={"format": "pt"})
