"""Published models as diffusers and transformers build them: their shapes at true size, on the meta
device, and small ones of their kinds with random weights."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import diffusers
import fakes
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from fromnoise.checkpoints.families import TOWERS
from fromnoise.checkpoints.keymap import KeyMap, TextTower, rule_text, rule_unet, rule_vae
from fromnoise.models import config as ours

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
UP = {CROSS: "CrossAttnUpBlock2D", PLAIN: "UpBlock2D"}
WIDE = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
BIG = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20}
CLIP_L = CLIPTextConfig(
    vocab_size=49408,
    hidden_size=768,
    intermediate_size=3072,
    num_attention_heads=12,
    num_hidden_layers=12,
    projection_dim=768,
)
OPEN_H = CLIPTextConfig(
    vocab_size=49408, **WIDE, num_hidden_layers=23, hidden_act="gelu", projection_dim=512
)
OPEN_G = CLIPTextConfig(
    vocab_size=49408, **BIG, num_hidden_layers=32, hidden_act="gelu", projection_dim=1280
)


def unet(down, widths, heads, context, depth=1, added=0, channels=4, linear=True):
    """config.json of a published U-Net, by what differs."""
    config = {
        "sample_size": 64,
        "in_channels": channels,
        "down_block_types": down,
        "up_block_types": [UP[kind] for kind in reversed(down)],
        "block_out_channels": widths,
        "cross_attention_dim": context,
        "attention_head_dim": heads,
        "transformer_layers_per_block": depth,
        "use_linear_projection": linear,
    }
    if added:
        config |= {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}
        config |= {"projection_class_embeddings_input_dim": added}
    return config


FOUR = (CROSS, CROSS, CROSS, PLAIN), (320, 640, 1280, 1280)
SD1 = unet(*FOUR, 8, 768, linear=False)
SD2 = unet(*FOUR, (5, 10, 20, 20), 1024)
XL = unet((PLAIN, CROSS, CROSS), (320, 640, 1280), (5, 10, 20), 2048, (1, 2, 10), 2816)
DOWN = (PLAIN, CROSS, CROSS, PLAIN)
REFINER = unet(DOWN, (384, 768, 1536, 1536), (6, 12, 24, 24), 1280, 4, 2560)
ONE, TWO = {"text_encoder": CLIP_L}, {"text_encoder": OPEN_H}


@dataclass(frozen=True)
class Published:
    base: str
    unet: dict
    texts: dict
    concat: str = ""


TRUE_SIZES = {
    "sd1": Published("sd1", SD1, ONE),
    "sd1-inpainting": Published("sd1", SD1 | {"in_channels": 9}, ONE, "inpainting"),
    "sd1-instruct": Published("sd1", SD1 | {"in_channels": 8}, ONE, "instruct"),
    "sd2": Published("sd2", SD2, TWO),
    "sd2-inpainting": Published("sd2", SD2 | {"in_channels": 9}, TWO, "inpainting"),
    "sd2-depth": Published("sd2", SD2 | {"in_channels": 5}, TWO, "depth"),
    "xl": Published("xl", XL, {"text_encoder": CLIP_L, "text_encoder_2": OPEN_G}),
    "xl-inpainting": Published(
        "xl",
        XL | {"in_channels": 9},
        {"text_encoder": CLIP_L, "text_encoder_2": OPEN_G},
        "inpainting",
    ),
    "refiner-xl": Published("refiner", REFINER, {"text_encoder_2": OPEN_G}),
}


def read_sizes(config: dict) -> dict:
    """The fields of our UNetConfig that config.json states."""
    down, widths = config["down_block_types"], config["block_out_channels"]
    levels = len(widths)
    heads, depth = config["attention_head_dim"], config["transformer_layers_per_block"]
    sizes = {
        "in_channels": config["in_channels"],
        "out_channels": 4,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "attention": tuple(kind == CROSS for kind in down),
        "heads": heads if isinstance(heads, tuple) else (heads,) * levels,
        "context_dim": config["cross_attention_dim"],
        "mid_attention": True,
        "norm_groups": 32,
        "linear_projection": config["use_linear_projection"],
    }
    if config.get("addition_embed_type"):
        sizes |= {"added_dim": config["projection_class_embeddings_input_dim"], "time_id_dim": 256}
    sizes["transformer_depth"] = depth if isinstance(depth, tuple) else (depth,) * levels
    return sizes


@cache
def true_part(name: str, part: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a part's file in a diffusers folder."""
    published = TRUE_SIZES[name]
    with torch.device("meta"):
        if part == "unet":
            network = UNet2DConditionModel.from_config(published.unet)
        elif part == "vae":
            network = AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                latent_channels=4,
                down_block_types=["DownEncoderBlock2D"] * 4,
                up_block_types=["UpDecoderBlock2D"] * 4,
            )
        elif part == "text_encoder":
            network = CLIPTextModel(published.texts[part])
        else:
            network = CLIPTextModelWithProjection(published.texts[part])
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    if part == "text_encoder":  # transformers 5 leaves the beginning out
        shapes = {f"text_model.{key.removeprefix('text_model.')}": v for key, v in shapes.items()}
    return shapes


def original_part(name: str, part: str, prefix: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a part in the layout of single files."""
    published = TRUE_SIZES[name]
    if part == "unet":
        rules = rule_unet(ours.UNetConfig(**read_sizes(published.unet)), prefix)
    elif part == "vae":
        rules = rule_vae(ours.VAEConfig(), prefix)
    else:
        text = published.texts[part]
        projects = text.projection_dim if part == "text_encoder_2" else None
        config = ours.CLIPTextConfig(layers=text.num_hidden_layers, projection_dim=projects)
        rules = rule_text(TextTower(part, prefix, config, ".model." in prefix))
    return KeyMap(rules).to_single({part: true_part(name, part)})


@cache
def true_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a single file. test_keymap.py shows that diffusers reads this layout."""
    published = TRUE_SIZES[name]
    shapes = original_part(name, "unet", "model.diffusion_model.")
    shapes |= original_part(name, "vae", "first_stage_model.")
    for part in published.texts:
        [prefix] = [p for tower, p, base in TOWERS if (tower, base) == (part, published.base)]
        shapes |= original_part(name, part, prefix)
    return shapes


KINDS = {  # a small pipeline of each kind: class, and what differs from Stable Diffusion 1
    "sd1": ("StableDiffusionPipeline", {}),
    "sd2": ("StableDiffusionPipeline", {"open": True}),
    "sd2-v": ("StableDiffusionPipeline", {"open": True, "prediction": "v_prediction"}),
    "inpainting": ("StableDiffusionInpaintPipeline", {"channels": 9}),
    "instruct": ("StableDiffusionInstructPix2PixPipeline", {"channels": 8}),
    "depth": ("StableDiffusionDepth2ImgPipeline", {"channels": 5, "open": True}),
    "xl": ("StableDiffusionXLPipeline", {"xl": 2}),
    "xl-inpainting": ("StableDiffusionXLInpaintPipeline", {"xl": 2, "channels": 9}),
    "refiner": ("StableDiffusionXLImg2ImgPipeline", {"xl": 1}),
}


def make_pipeline(kind: str, folder: Path, layers: int = 2):
    """A pipeline of diffusers with small random networks."""
    class_name, options = KINDS[kind]
    xl, open_clip = options.get("xl", 0), options.get("open", False)
    torch.manual_seed(0)
    words = fakes.tokenizer(folder / "words")
    size = {"vocab_size": words.vocab_size, "max_position_embeddings": 16}
    size |= {"bos_token_id": words.bos_id, "eos_token_id": words.eos_id, "pad_token_id": 0}
    size |= {"intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": layers}
    act = "gelu" if open_clip else "quick_gelu"
    first = CLIPTextConfig(**size, hidden_size=16, hidden_act=act, projection_dim=16)
    second = CLIPTextConfig(**size, hidden_size=8, hidden_act="gelu", projection_dim=8)
    context = {0: 16, 1: 8, 2: 24}[xl]
    more = {}
    if xl:
        added = 8 + (6 if xl == 2 else 5) * 4
        more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
        more |= {"projection_class_embeddings_input_dim": added}
        more |= {"transformer_layers_per_block": (1, 2)}
    down = (PLAIN, CROSS) if xl else (CROSS, PLAIN)
    network = UNet2DConditionModel(
        sample_size=8,
        in_channels=options.get("channels", 4),
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=down,
        cross_attention_dim=context,
        up_block_types=[UP[kind] for kind in reversed(down)],
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=bool(xl or open_clip),
        **more,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        sample_size=16,
        scaling_factor=0.13025 if xl else 0.18215,
    )
    for i, part in enumerate((network, vae)):
        fakes.randomize(part, i)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "words", model_max_length=16)
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        clip_sample=False,
        prediction_type=options.get("prediction", "epsilon"),
    )
    parts = {"unet": network, "vae": vae, "scheduler": scheduler, "tokenizer": tokenizer}
    parts["text_encoder"] = CLIPTextModel(first)
    if xl:
        parts |= {"text_encoder_2": CLIPTextModelWithProjection(second), "tokenizer_2": tokenizer}
        if xl == 1:
            parts |= {"text_encoder": None, "tokenizer": None, "requires_aesthetics_score": True}
    elif kind == "depth":
        parts |= {"depth_estimator": None, "feature_extractor": None}
    else:
        parts |= {"safety_checker": None, "feature_extractor": None}
        parts |= {"requires_safety_checker": False}
    return getattr(diffusers, class_name)(**parts)


def make_folder(kind: str, folder: Path, dtype: torch.dtype = torch.float16) -> Path:
    """Such a pipeline, as diffusers saves it."""
    pipeline = make_pipeline(kind, folder).to(dtype)
    pipeline.save_pretrained(folder / kind)
    for place in (folder / kind).glob("tokenizer*"):  # older files beside tokenizer.json
        for name in ("vocab.json", "merges.txt"):
            (place / name).write_bytes((folder / "words" / name).read_bytes())
    return folder / kind
