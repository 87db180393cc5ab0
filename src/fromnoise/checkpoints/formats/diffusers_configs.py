"""The configurations of a diffusers folder → ours: names translated, types and ranges checked.

The ranges are far beyond every published model, and a network of them is built within a second."""

from dataclasses import fields
from typing import Any

from fromnoise.checkpoints.configs import Fields, Rule
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig
from fromnoise.models.layers import ACTIVATIONS

# scheduler's word → ours
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0", "flow_prediction": "flow"}
WEIGHTS: dict[str, str] = dict.fromkeys(("unet", "vae"), "diffusion_pytorch_model.safetensors")
TEXTS = ("text_encoder", "text_encoder_2")
WEIGHTS |= dict.fromkeys((*TEXTS, "image_encoder", "image_tower"), "model.safetensors")
# part → the classes of diffusers and transformers that can be read
CLASSES = {"unet": ("UNet2DConditionModel",), "vae": ("AutoencoderKL",)} | {
    "image_encoder": ("CLIPVisionModelWithProjection",)
}
CLASSES |= dict.fromkeys(TEXTS, ("CLIPTextModel", "CLIPTextModelWithProjection"))
CLASSES |= dict.fromkeys(("tokenizer", "tokenizer_2"), ("CLIPTokenizer", "CLIPTokenizerFast"))

# our field → its key in config.json and what that may hold
SIZES = {
    "block_out_channels": Rule("block_out_channels", int, 1, 8192, per_level=True),
    "layers_per_block": Rule("layers_per_block", int, 1, 8),
    "sample_size": Rule("sample_size", int, 1, 4096),
    "norm_groups": Rule("norm_num_groups", int, 1, 8192),
}
UNET = {name: Rule(name, int, 1, 128) for name in ("in_channels", "out_channels")} | SIZES | {
    "context_dim": Rule("cross_attention_dim", int, 1, 16384),
    "linear_projection": Rule("use_linear_projection"), "flip_sin_to_cos": Rule("flip_sin_to_cos"),
    "freq_shift": Rule("freq_shift", int, 0, 1),
    "guidance_dim": Rule("time_cond_proj_dim", int, 4, 16384),
    "upcast_attention": Rule("upcast_attention"),
}  # fmt: skip
VAE_ = {name: Rule(name, int, 3, 3) for name in ("in_channels", "out_channels")} | SIZES | {
    "latent_channels": Rule("latent_channels", int, 1, 128),
    "mid_attention": Rule("mid_block_add_attention"), "quant_conv": Rule("use_quant_conv"),
    "scaling_factor": Rule("scaling_factor", float, 1e-6, 1e6),
    "shift_factor": Rule("shift_factor", float, -1e6, 1e6),
}  # fmt: skip
CLIP = {
    "dim": Rule("hidden_size", int, 1, 16384), "layers": Rule("num_hidden_layers", int, 1, 64),
    "heads": Rule("num_attention_heads", int, 1, 1024),
    "mlp_dim": Rule("intermediate_size", int, 1, 65536),
    "activation": Rule("hidden_act", str, choices=ACTIVATIONS),
    "projection_dim": Rule("projection_dim", int, 1, 16384),
}  # fmt: skip
TEXT = CLIP | {
    "vocab_size": Rule("vocab_size", int, 2, 1 << 18),
    "eos_id": Rule("eos_token_id", int, 0, 1 << 18),
    "max_length": Rule("max_position_embeddings", int, 3, 4096),
}  # fmt: skip
SCHEDULER = (
    Rule("steps_offset", int, 0, 1000), Rule("rescale_betas_zero_snr"), Rule("_class_name", str),
)  # fmt: skip
DOWN = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}  # and its mirror
MIDDLE = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D")
# keys of config.json that are read by hand, or say nothing that a network is built from
OTHERS = {
    "down_block_types", "up_block_types", "mid_block_type", "attention_head_dim", "architectures",
    "use_post_quant_conv", "model_type", "layer_norm_eps", "torch_dtype", "bos_token_id",
    "pad_token_id",
}  # fmt: skip
POST = Rule("use_post_quant_conv")
RARE = ("trained_betas", "rescale_betas_zero_snr", "shift")
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")


def translate(names: dict[str, Rule], config: Fields, kind: type, **values: Any) -> Any:
    """The configuration of ours that config.json describes; `values` are those that are known
    already. A setting that our networks lack is a BadCheckpoint."""
    known = {rule.key for rule in names.values()} | OTHERS
    if more := {k: v for k, v in config.values.items() if k not in known and k[:1] != "_"}:
        from fromnoise.checkpoints.formats.diffusers_settings import check_settings

        check_settings(config, more)
    if isinstance(config.values.get("sample_size"), list):
        from fromnoise.checkpoints.formats.diffusers_old import average_side

        values["sample_size"] = average_side(config, SIZES["sample_size"])
    for field in fields(kind):
        if field.name in names and field.name not in values:
            values[field.name] = config.get(names[field.name], field.default)
    try:
        return kind(**values)
    except BadInput as error:
        named = ", ".join(rule.key for name, rule in names.items() if name in error.message)
        raise BadCheckpoint(f"{config.file}, {named}: {error.message}", error.remedy) from None


def read_unet(config: Fields) -> UNetConfig:
    """config.json of a UNet2DConditionModel. Its `attention_head_dim` is the number of heads."""
    down = Rule("down_block_types", str, choices=DOWN, per_level=True)
    levels = config.get(down, ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))
    mirrored = tuple(DOWN[kind] for kind in reversed(levels))
    up = down._replace(key="up_block_types", choices=[*DOWN.values()])
    if config.get(up, ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3) != mirrored:
        config.refuse(up.key, "down_block_types mirrored")
    middle = config.get(Rule("mid_block_type", str, choices=MIDDLE), MIDDLE[0])
    key = "attention_head_dim"
    key = "num_attention_heads" if config.values.get("num_attention_heads") else key
    many = isinstance(config.values.get(key), list)
    heads = config.get(Rule(key, int, 1, 1024, per_level=many), 8)
    deep = Rule("transformer_layers_per_block", int, 0, 64)
    deep = deep._replace(per_level=isinstance(config.values.get(deep.key), list))
    depth = config.get(deep, 1)
    names = UNET | {"heads": Rule(key), "attention": down, "transformer_depth": deep}
    more: dict[str, int] = {}
    if config.values.get("addition_embed_type"):
        from fromnoise.checkpoints.formats.diffusers_settings import read_added  # of SDXL's kind

        more = read_added(config)
    return translate(
        names,
        config,
        UNetConfig,
        transformer_depth=depth if deep.per_level else (depth,),
        **more,
        attention=tuple(kind == "CrossAttnDownBlock2D" for kind in levels),
        heads=heads if many else (heads,) * len(levels),
        mid_attention=middle == MIDDLE[0],
    )


def read_vae(config: Fields) -> VAEConfig:
    """config.json of an AutoencoderKL."""
    for key in ("Down", "Encoder"), ("Up", "Decoder"):
        kind = f"{key[0]}{key[1]}Block2D"
        config.get(Rule(f"{key[0].lower()}_block_types", str, choices=[kind], per_level=True))
    if (quant := config.get(VAE_["quant_conv"], True)) != config.get(POST, True):
        config.refuse(POST.key, f"{quant}, as use_quant_conv")
    return translate(VAE_, config, VAEConfig)


def read_text(config: Fields) -> CLIPTextConfig:
    """config.json of a CLIPTextModel. Old files say eos_token_id 2 and mean the highest id."""
    config.get(Rule("model_type", str, choices=["clip_text_model"]))
    config.get(Rule("layer_norm_eps", float, 1e-5, 1e-5))
    # transformers' own defaults, which are not those of Stable Diffusion's encoder
    defaults = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    config = Fields(config.file, defaults | config.values)
    highest = config.get(TEXT["vocab_size"], 49408) - 1
    if (eos := config.get(TEXT["eos_id"], 2)) > highest:
        config.refuse("eos_token_id", f"below vocab_size {highest + 1:,}")
    projection = None  # the field is written for a plain CLIPTextModel too
    if "CLIPTextModelWithProjection" in config.get(Rule("architectures", str, per_level=True), ()):
        projection = config.get(TEXT["projection_dim"], 512)
    eos = highest if eos == 2 else eos
    return translate(TEXT, config, CLIPTextConfig, eos_id=eos, projection_dim=projection)


def read_scheduler(config: Fields) -> tuple[NoiseSchedule, str]:
    """scheduler_config.json → (schedule, prediction type), with diffusers' default values."""
    for rule in SCHEDULER:
        config.get(rule)
    prediction = config.get(Rule("prediction_type", str, choices=PREDICTIONS), "epsilon")
    kind = config.get(Rule("beta_schedule", str, choices=BETAS), "linear")
    steps = config.get(Rule("num_train_timesteps", int, 2, 10_000), 1000)
    first = config.get(Rule("beta_start", float, 0, 1), 0.0001)
    last = config.get(Rule("beta_end", float, 0, 1), 0.02)
    try:
        absent = all(config.values.get(name) in (None, False) for name in RARE)
        if kind == "scaled_linear" and absent:
            schedule = NoiseSchedule.scaled_linear(first, last, steps)
        else:
            from fromnoise.checkpoints.formats.diffusers_old import make_schedule

            schedule = make_schedule(config, kind, first, last, steps)
    except BadInput as error:
        fields = "beta_start, beta_end, num_train_timesteps"
        fields = "trained_betas" if config.values.get("trained_betas") else fields
        raise BadCheckpoint(f"{config.file} ({fields}): {error.message}", error.remedy) from None
    return schedule, PREDICTIONS[prediction]
