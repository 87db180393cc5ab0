"""Files that are no Stable Diffusion model, by the names of their tensors: so that a message can
say what a file is."""

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from fromnoise.errors import escape

MOST, LONGEST = 10_000, 200  # keys that are looked at, and signs of each: published files have less


class Foreign(NamedTuple):
    kind: str
    name: str
    reason: str = ""


# what goes by ControlNet's name and is another network → how one of its keys begins or what it is
CONTROLS = {
    "a ControlNet-LLLite": r"^lllite_",
    "a Control-LoRA": r"^lora_controlnet$",
    "a difference model": r"^difference$",
    "a ControlNet Union": r"^(?:control_model\.)?(?:task_embedding$|control_add_embedding|"
    r"transformer_layes\.)",
}
# how one of the keys begins or what it holds → kind and name; the first line that fits counts
# (a LoRA may hold embeddings too)
SIGNS = (
    *((pattern, "controlnet", name) for name, pattern in CONTROLS.items()),
    (
        r"lora_(?:up|down|A|B|mid)\b|lora_(?:unet|te\d?)_|\.lora\.(?:up|down)\.|lora_linear_layer|"
        r"_lora\.(?:up|down)\.|^(?:unet|text_encoder):\d+:(?:up|down)$|^lycoris_",
        "lora",
        "a LoRA",
    ),
    (
        r"hada_w[12]|lokr_w[12]|\.oft_(?:blocks|diag)|\.dora_scale$|\.glora_|\.ia3_",
        "lora",
        "a LyCORIS",
    ),
    (
        r"string_to_param|emb_params$|^clip_[lg]$|^<[^>\n]*>$",
        "embedding",
        "a textual inversion",
    ),
    (r"^(?:ip_adapter|image_proj)\.", "ip-adapter", "an IP-Adapter"),
    (
        r"^control_model\.|controlnet_cond_embedding|input_hint_block|^zero_convs\.",
        "controlnet",
        "a ControlNet",
    ),
    (r"^controlnet_down_blocks\.", "controlnet", "a ControlNet"),
    (r"^(?:adapter\.)?body\.\d+\.(?:block|resnets)\d?\.", "controlnet", "a T2I-Adapter"),
    (r"motion_modules\.", "motion", "an AnimateDiff motion module"),
    (
        r"^(?:params(?:_ema)?\.|module\.)?(?:RRDB_trunk\.|body\.\d+\.rdb\d|conv_first\.)|"
        r"^model\.1\.sub\.\d",
        "upscaler",
        "an upscaler",
    ),
    (
        r"^(?:params(?:_ema)?\.)?(?:layers\.\d+\.residual_group\.|body\.\d+\.weight$)",
        "upscaler",
        "an upscaler",
    ),
    (r"concept_embeds", "other", "a safety checker"),
    (r"double_stream_modulation_img|single_stream_modulation", "other", "FLUX 2"),
    (r"distilled_guidance_layer\.", "other", "Chroma"),
    (r"double_blocks\.\d+\.img_attn|single_transformer_blocks\.\d+\.attn\.", "other", "FLUX"),
    (r"img_in\.individual_token|txt_in\.individual_token_refiner", "other", "HunyuanVideo"),
    (r"joint_blocks\.\d+\.(?:context|x)_block", "other", "Stable Diffusion 3"),
    (r"cond_seq_linear|double_layers\.\d+\.attn\.w2q", "other", "AuraFlow"),
    (r"cap_embedder\.", "other", "Lumina or Z-Image"),
    (
        r"transformer_blocks\.\d+\.attn\.add_q_proj",
        "other",
        "a transformer with joint attention (Stable Diffusion 3, Qwen-Image or their kin)",
    ),
    (r"clip_txt_mapper|down_blocks\.\d+\.\d+\.channelwise", "other", "Stable Cascade"),
    (r"head\.modulation$|vace_blocks\.|decoder\.middle\.0\.residual", "other", "Wan"),
    (r"patchify_proj|scale_shift_table", "other", "PixArt, LTX-Video or their kin"),
    (r"mlp_t5|pooler\.positional_embedding", "other", "Hunyuan-DiT"),
    (r"cross_attn\.kv_linear", "other", "Sana or PixArt"),
    (
        r"time_stack\.|time_mix_blocks|temporal_transformer|time_mixer",
        "other",
        "Stable Video Diffusion",
    ),
    (r"^edm_mean$", "other", "Playground 2.5"),
    (r"^embedder\.model\.visual\.|^noise_augmentor\.", "other", "Stable unCLIP"),
    (
        r"diffusion_model\.label_emb\.weight$|^class_embedding\.weight$",
        "other",
        "the ×4 upscaling model of Stable Diffusion",
    ),
    (r"add_embedding\.(?:image_proj|image_norm)|encoder_hid_proj", "other", "Kandinsky or IF"),
    (r"encoder\.block\.\d+\.layer\.0\.SelfAttention", "other", "a T5 text encoder"),
    (r"^model\.embed_tokens\.|^model\.layers\.\d+\.self_attn", "other", "a language model"),
    (r"^(?:vision_model|visual)\.", "image encoder", "an image tower of CLIP"),
    (
        r"^(?:(?:encoder|decoder)\.layers\.\d+|taesd_(?:en|de)coder\.\d+|\d{1,2})"
        r"\.(?:weight|conv\.\d\.weight)$",
        "tiny vae",
        "a tiny autoencoder (TAESD)",
    ),
    (r"^(?:768|640|320|1280|1024|2048)$|^\d+\.linear1\.", "other", "a hypernetwork"),
)


NUMBER = re.compile(r"\.\d+(?=\.)")
BLOCKS = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")


def recognise(names: Iterable[str]) -> Foreign | None:
    """What a file with tensors of these names is, if it is no Stable Diffusion model."""
    # numbers of blocks tell nothing, and thousands of keys differ in these alone
    first: dict[str, str] = {}
    for name in islice(names, MOST):
        name = name[:LONGEST]
        first.setdefault(NUMBER.sub(".0", name) if name.startswith(BLOCKS) else name, name)
    text = "\n".join(first)
    for pattern, kind, name in SIGNS:
        if found := re.search(pattern, text, re.MULTILINE):
            start, end = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.start())
            line = text[start : end if end >= 0 else None]
            key = escape(first.get(line, line), 80)
            return Foreign(kind, name, f"it has a tensor {key}")
    return None
