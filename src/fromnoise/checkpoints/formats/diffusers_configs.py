"""The configurations of a diffusers folder → ours."""

from dataclasses import fields
from typing import Any, NoReturn

import torch

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.errors import BadCheckpoint
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}  # scheduler's word → ours
WEIGHTS: dict[str, str] = dict.fromkeys(("unet", "vae"), "diffusion_pytorch_model.safetensors")
WEIGHTS |= dict.fromkeys(("text_encoder", "image_encoder", "image_tower"), "model.safetensors")

# our field → the key of config.json, where the value is the same
BOTH = {
    name: name
    for name in (
        "in_channels",
        "out_channels",
        "block_out_channels",
        "layers_per_block",
        "sample_size",
    )
}
UNET = BOTH | {
    "context_dim": "cross_attention_dim", "transformer_depth": "transformer_layers_per_block",
    "norm_groups": "norm_num_groups", "linear_projection": "use_linear_projection",
    "freq_shift": "freq_shift", "flip_sin_to_cos": "flip_sin_to_cos",
    "guidance_dim": "time_cond_proj_dim",
}  # fmt: skip
VAE_ = BOTH | {
    "latent_channels": "latent_channels", "norm_groups": "norm_num_groups",
    "mid_attention": "mid_block_add_attention", "quant_conv": "use_quant_conv",
    "scaling_factor": "scaling_factor", "shift_factor": "shift_factor",
}  # fmt: skip
CLIP = {
    "dim": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "mlp_dim": "intermediate_size", "activation": "hidden_act", "projection_dim": "projection_dim",
}  # fmt: skip
TEXT = CLIP | {
    "vocab_size": "vocab_size",
    "max_length": "max_position_embeddings",
    "eos_id": "eos_token_id",
}
# settings that our networks do not have: absent, None and False are fine, and so are these values
FIXED: dict[str, Any] = {
    "act_fn": "silu", "norm_eps": 1e-5, "downsample_padding": 1, "mid_block_scale_factor": 1,
    "dropout": 0.0, "resnet_time_scale_shift": "default", "time_embedding_type": "positional",
    "attention_type": "default", "conv_in_kernel": 3, "conv_out_kernel": 3,
    "resnet_out_scale_factor": 1.0, "addition_embed_type_num_heads": 64,
    "class_embeddings_concat": False, "layer_norm_eps": 1e-5, "attention_dropout": 0.0,
    "num_channels": 3,
}  # fmt: skip
# settings that change no result here: precisions, training, sizes of a sibling, and names
FREE = {
    "upcast_attention", "force_upcast", "architectures", "dtype", "torch_dtype",
    "transformers_version", "model_type", "initializer_factor", "initializer_range", "bos_token_id",
    "pad_token_id", "use_cache", "down_block_types", "up_block_types", "mid_block_type",
    "attention_head_dim", "num_attention_heads", "use_post_quant_conv", "is_decoder",
    "tie_word_embeddings", "id2label", "label2id", "return_dict", "problem_type",
    "gradient_checkpointing", "chunk_size_feed_forward",
}  # fmt: skip


def unsupported(what: str) -> NoReturn:
    raise BadCheckpoint(
        what, "this architecture is not supported; use a Stable Diffusion 1 or 2 model"
    )


def translated(names: dict[str, str], config: dict, cls: type, **found) -> Any:
    """The configuration of ours that config.json describes; a setting that our networks lack is an
    error."""
    for key, value in config.items():
        known = (
            key.startswith("_")
            or key in FREE
            or key in names.values()
            or value is None
            or value is False
        )
        if not known and value != FIXED.get(key):
            unsupported(f"{cls.__name__}: cannot follow {key} = {value!r}")
    ours = {f.name for f in fields(cls)}
    for name, key in names.items():
        if name in ours and name not in found and config.get(key) is not None:
            found[name] = tuple(config[key]) if isinstance(config[key], list) else config[key]
    return cls(**found)


def unet_config(config: dict) -> UNetConfig:
    """config.json of a UNet2DConditionModel; its `attention_head_dim` is, misnamed, the number of
    heads."""
    down = config.get("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"])
    up = config.get("up_block_types", ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    mid = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    attention = tuple(kind == "CrossAttnDownBlock2D" for kind in down)
    for kinds in (down, [kind.replace("Up", "Down") for kind in reversed(up)]):
        if kinds != ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention]:
            unsupported(f"UNet: cannot follow the blocks {down} and {up}")
    if mid not in ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D"):
        unsupported(f"UNet: cannot follow the middle block {mid}")
    heads = config.get("num_attention_heads") or config.get("attention_head_dim", 8)
    heads = tuple(heads) if isinstance(heads, list) else (heads,) * len(down)
    mid_attention = mid == "UNetMidBlock2DCrossAttn"
    return translated(
        UNET, config, UNetConfig, attention=attention, heads=heads, mid_attention=mid_attention
    )


def vae_config(config: dict) -> VAEConfig:
    """config.json of an AutoencoderKL."""
    for key, kind in (
        ("down_block_types", "DownEncoderBlock2D"),
        ("up_block_types", "UpDecoderBlock2D"),
    ):
        if any(k != kind for k in config.get(key, [])):
            unsupported(f"VAE: cannot follow the blocks {config[key]}")
    if config.get("use_quant_conv", True) != config.get("use_post_quant_conv", True):
        unsupported("VAE: use_quant_conv and use_post_quant_conv differ")
    return translated(VAE_, config, VAEConfig)


def text_config(config: dict) -> CLIPTextConfig:
    """config.json of a CLIPTextModel. Old files say eos_token_id 2 and mean the highest id."""
    if config.get("model_type", "clip_text_model") != "clip_text_model":
        unsupported(f"text encoder: {config['model_type']} is no CLIP")
    eos = config.get("eos_token_id", 2)
    eos = config.get("vocab_size", 49408) - 1 if eos == 2 else eos
    projected = "CLIPTextModelWithProjection" in config.get("architectures", [])
    projection = (
        config.get("projection_dim", 512) if projected else None
    )  # written for a plain CLIPTextModel too
    # transformers' own defaults, which are not those of Stable Diffusion's encoder
    config = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8} | config
    return translated(TEXT, config, CLIPTextConfig, eos_id=eos, projection_dim=projection)


def read_scheduler(config: dict) -> tuple[NoiseSchedule, str]:
    """scheduler_config.json → (schedule, prediction type). What diffusers leaves out has diffusers'
    default value."""
    said = config.get("prediction_type", "epsilon")
    if said not in PREDICTIONS:
        raise BadCheckpoint(
            f"unknown prediction_type {said!r}", f"supported: {', '.join(PREDICTIONS)}"
        )
    steps, kind = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    first, last = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    if config.get("trained_betas") is not None:
        schedule = NoiseSchedule.from_betas(
            torch.tensor(config["trained_betas"], dtype=torch.float64)
        )
    elif kind in ("linear", "scaled_linear"):
        schedule = getattr(NoiseSchedule, kind)(first, last, steps)
    elif kind == "squaredcos_cap_v2":
        schedule = NoiseSchedule.cosine(steps)
    else:
        raise BadCheckpoint(
            f"unknown beta_schedule {kind!r}",
            "supported: linear, scaled_linear, squaredcos_cap_v2, trained_betas",
        )
    return schedule.rescale_zero_terminal_snr() if config.get(
        "rescale_betas_zero_snr"
    ) else schedule, PREDICTIONS[said]
