"""The folder of `diffusers_folder`, written."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fromnoise.checkpoints.configs import Fields, Rule
from fromnoise.checkpoints.formats import diffusers_scheduler, flow_scheduler
from fromnoise.checkpoints.formats.diffusers_configs import (
    PREDICTIONS,
    TEXT,
    UNET,
    VAE_,
    WEIGHTS,
    read_scheduler,
    read_text,
    read_unet,
    read_vae,
)
from fromnoise.checkpoints.formats.diffusers_towers import VISION, read_resnet, read_vision
from fromnoise.checkpoints.formats.scheduler_classes import SHARED
from fromnoise.checkpoints.refusals import refuse_encoders
from fromnoise.checkpoints.training_state import write_tensors
from fromnoise.diffusion import spacing
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.files import write_file
from fromnoise.folders import replace_folder
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip_vision import CLIPVision, CLIPVisionConfig
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig
from fromnoise.models.resnet import CLIPResNetConfig
from fromnoise.models.vae import VAE
from fromnoise.prompt import tokenizer_files
from fromnoise.prompt.tokenizer import Tokenizer

REMEDY = "choose another folder, or make room there"
# the fields of a scheduler that say its noise schedule and the prediction
SCHEDULE = (*SHARED, "rescale_betas_zero_snr")
# what a model folder consists of; all else in a folder that is replaced stays there
OWN = {*WEIGHTS, "tokenizer", "scheduler", "safety_checker", "feature_extractor"}
OWN |= {"model_index.json", "fromnoise.json", "clip_head.safetensors"}
# transformers runs weights in the type they are stored in unless told so: diffusers' own parts
# would then not match
LOADED = {"layer_norm_eps": 1e-5, "torch_dtype": "float32"}


def save(model: LatentDiffusion, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes the folder, weights in `dtype`. Raises BadInput for a model that a
    StableDiffusionPipeline cannot hold, and where the folder cannot be written.

    A model that is there already is replaced as a whole or not at all; other files beside it stay.
    A folder without a model gets its model_index.json last: without that it is none."""
    folder = Path(folder)
    refuse_encoders(model, "saved from memory")
    if model.vae.config.shift_factor or model.text_encoder.config.projection_dim is not None:
        raise BadInput(
            "a StableDiffusionPipeline knows no shift_factor and takes a text encoder without "
            "projection",
            "train with shift_factor = 0, and keep the projection in `text_projection`",
        )
    if not isinstance(model.vae, VAE):
        raise BadInput("the model has a tiny autoencoder", "read it with its own: load_parts(name)")
    if model.vae.encoder is None:
        raise BadInput(
            "the model was read without its autoencoder's encoder",
            "read it whole: load_parts(name)",
        )
    if (folder / "model_index.json").exists():
        replace_folder(
            folder, lambda part: write_parts(model, part, dtype), lambda name: name not in OWN
        )
    else:
        write_parts(model, folder, dtype)


def write_parts(model: LatentDiffusion, folder: Path, dtype: torch.dtype) -> None:
    """Every file of the folder, the index last."""
    parts: dict[str, tuple[Any, dict, Any]] = {
        "unet": (model.unet, write_unet(model.unet.config), read_unet),
        "vae": (model.vae, write_vae(model.vae.config), read_vae),
        "text_encoder": (
            model.text_encoder,
            write_text(model.text_encoder.config, model.tokenizer),
            read_text,
        ),
    }
    if model.vision is not None and not isinstance(model.vision, CLIPVision):
        parts["image_tower"] = (model.vision, write_resnet(model.vision.config), read_resnet)
    elif model.vision is not None:
        parts["image_encoder"] = (model.vision, write_vision(model.vision.config), read_vision)
    for part, (network, config, read) in parts.items():
        write_weights(folder / part / WEIGHTS[part], network.state_dict(), dtype)
        # as its file had it, where that still says the same
        original = model.configs.get(part)
        if original and read(Fields(part, original)) == network.config:
            config = original
        write_json(folder / part / "config.json", config)
    head = {"text_projection.weight": model.text_projection, "logit_scale": model.logit_scale}
    if head := {k: v for k, v in head.items() if v is not None}:
        write_weights(folder / "clip_head.safetensors", head, dtype)
    tokenizer_files.save(model.tokenizer, folder / "tokenizer")
    config = model.unet.config
    inpaints = config.in_channels > config.out_channels
    name = "StableDiffusionInpaintPipeline" if inpaints else "StableDiffusionPipeline"
    scheduler, defaults = keep_scheduler(model, name)
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    if model.defaults and model.defaults != defaults:
        write_json(folder / "fromnoise.json", flatten_defaults(model.defaults))
    absent = [None, None]
    encoder = ["transformers", "CLIPVisionModelWithProjection"]
    classes = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "image_encoder": encoder if "image_encoder" in parts else absent,
        "feature_extractor": absent,
        "safety_checker": absent,
    }
    index = {"_class_name": name, "_diffusers_version": "0.35.0", "requires_safety_checker": False}
    write_json(folder / "model_index.json", index | classes)


def write_json(path: Path, value: dict) -> None:
    text = json.dumps(value, indent=2) + "\n"
    write_file(path, lambda part: part.write_text(text, encoding="utf-8"), remedy=REMEDY)


def write_fields(config: Any, names: dict[str, Rule]) -> dict[str, Any]:
    """Our configuration under the names of config.json."""
    return {rule.key: getattr(config, name) for name, rule in names.items()}


def write_unet(config: UNetConfig) -> dict:
    down = ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in config.attention]
    up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config.attention)]
    middle = "UNetMidBlock2DCrossAttn" if config.mid_attention else "UNetMidBlock2D"
    blocks = {"down_block_types": down, "up_block_types": up, "mid_block_type": middle}
    heads = {"attention_head_dim": list(config.heads)}
    return {"_class_name": "UNet2DConditionModel"} | write_fields(config, UNET) | blocks | heads


def write_vae(config: VAEConfig) -> dict:
    levels = len(config.block_out_channels)
    blocks = {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "use_post_quant_conv": config.quant_conv,
    }
    return {"_class_name": "AutoencoderKL"} | write_fields(config, VAE_) | blocks


def write_text(config: CLIPTextConfig, tokenizer: Tokenizer) -> dict:
    head = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"} | LOADED
    ids = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    # transformers wants a number there, and a CLIPTextModel ignores it
    projection = {"projection_dim": config.dim}
    return head | write_fields(config, TEXT) | ids | projection


def write_vision(config: CLIPVisionConfig) -> dict:
    head = {"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model"}
    return head | LOADED | write_fields(config, VISION)


def write_resnet(config: CLIPResNetConfig) -> dict:
    return {"_class_name": "fromnoise.CLIPResNet"} | asdict(config)


def keep_scheduler(model: LatentDiffusion, pipeline: str) -> tuple[dict, dict]:
    """(scheduler_config.json for a folder of that pipeline, the defaults that it gives a model): as
    the model's file had it where it still says the same schedule, else with the schedule of now."""
    written = write_scheduler(model.schedule, model.prediction, model.defaults)
    tries = [written]
    if original := model.configs.get("scheduler"):
        index = Fields("", model.configs.get("model_index", {}))
        own = diffusers_scheduler.find_class(Fields("", original), index)
        original = original | {"_class_name": own or written["_class_name"]}
        # beside what a schedule consists of, the original's own
        kept = original | {key: written[key] for key in SCHEDULE if key in written}
        tries = [original, kept, written]
    for config in tries:
        index = Fields("", {"_class_name": pipeline})
        read = diffusers_scheduler.read(Fields("scheduler_config.json", config), index)
        same = torch.equal(read[0].alpha_bar, model.schedule.alpha_bar)
        if same and read[1] == model.prediction:
            return config, read[2] if "scheduler" in model.configs else {}
    return written, {}


def flatten_defaults(defaults: dict) -> dict:
    """The defaults for a fromnoise.json, which takes the place of the folder's scheduler."""
    own = defaults.get("scheduler", {})
    named = {key: own[key] for key in ("sampler", "spacing") if key in own}
    return {key: value for key, value in defaults.items() if key != "scheduler"} | named


def write_scheduler(schedule: NoiseSchedule, prediction: str, defaults: dict) -> dict:
    """A DDIMScheduler that ends at σ = 0 and visits "trailing" or "leading" times, as the model's
    defaults say; for a flow model see flow_scheduler.

    A schedule that diffusers has a name for gets it, any other is written out as `trained_betas`.
    """
    if prediction == "flow":
        return flow_scheduler.write_flow(schedule)
    word = next(word for word, ours in PREDICTIONS.items() if ours == prediction)
    visited = str(defaults.get("spacing", "trailing")).strip().lower()
    visited = "trailing" if visited == "automatic" else spacing.find(visited).name
    config = {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.35.0",
        "num_train_timesteps": len(schedule),
        "prediction_type": word,
        "timestep_spacing": visited if visited in ("leading", "linspace") else "trailing",
        "steps_offset": 1,  # a StableDiffusionPipeline insists on it; "trailing" has no use for it
        "clip_sample": False,
        "set_alpha_to_one": True,
        "rescale_betas_zero_snr": False,
        "trained_betas": None,
    }
    alpha_bar = schedule.alpha_bar
    betas = 1 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    # rounded to the digits that a person writes
    ends = {"beta_start": float(f"{betas[0]:.10g}"), "beta_end": float(f"{betas[-1]:.10g}")}
    stable = {"beta_start": 0.00085, "beta_end": 0.012}
    for kind, values in (
        ("scaled_linear", ends),
        ("linear", ends),
        ("squaredcos_cap_v2", ends),
        ("scaled_linear", stable),
    ):
        for rescaled in (False, True):
            trial = config | values | {"beta_schedule": kind, "rescale_betas_zero_snr": rescaled}
            # the ends of one kind may make no schedule of another
            with suppress(BadCheckpoint):
                if torch.equal(read_scheduler(Fields("", trial))[0].alpha_bar, alpha_bar):
                    return trial
    return config | ends | {"beta_schedule": "linear", "trained_betas": betas.tolist()}


def write_weights(path: Path, tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Writes a safetensors file; floating tensors are cast to `dtype`, whole numbers stay as they
    are."""
    cast = {
        k: (v.detach().to("cpu", dtype) if v.is_floating_point() else v.detach().cpu()).contiguous()
        for k, v in tensors.items()
    }
    write_tensors(path, cast, {"format": "pt"}, REMEDY)
