"""The texts of a diffusers folder (configurations, schedule, vocabulary) for a family of models
whose single files hold none: those of the published folders."""

import json
from typing import Any

from fromnoise.checkpoints.families import FLOW, Family
from fromnoise.checkpoints.formats.diffusers_folder_save import write_text, write_unet, write_vae
from fromnoise.errors import BadCheckpoint
from fromnoise.models.config import UNetConfig
from fromnoise.prompt.clip_vocabulary import make_tokenizer
from fromnoise.prompt.tokenizer import EOS, Tokenizer
from fromnoise.prompt.tokenizer_files import describe

NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "steps_offset": 1,
}
PNDM = {"_class_name": "PNDMScheduler", "set_alpha_to_one": False, "skip_prk_steps": True}
DDIM = {"_class_name": "DDIMScheduler", "set_alpha_to_one": False, "clip_sample": False}
EULER = {"_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear"}
EULER |= {"timestep_spacing": "leading", "use_karras_sigmas": False}
# of a zero terminal SNR: Lin 2024, "Common diffusion noise schedules and sample steps are flawed"
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
WORDS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample", "flow": "flow_prediction"}
PIPELINES = {
    "": "StableDiffusionPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
    "instruct": "StableDiffusionInstructPix2PixPipeline",
    "depth": "StableDiffusionDepth2ImgPipeline",
}
XL = {
    "": "StableDiffusionXLPipeline",
    "inpainting": "StableDiffusionXLInpaintPipeline",
    "instruct": "StableDiffusionXLInstructPix2PixPipeline",
}
VERSION = "0.35.0"
FLOW_SCHEDULER = {
    "_class_name": FLOW,
    "_diffusers_version": VERSION,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "prediction_type": "flow_prediction",
}
PADS = {("sd1", "text_encoder"): EOS, ("xl", "text_encoder"): EOS}  # all others fill with "!"


def make_tokenizers(family: Family) -> dict[str, Tokenizer]:
    """The tokenizers of the text encoders, by the encoders' names."""
    return {
        tower.part: make_tokenizer(PADS.get((family.base, tower.part), "!"))
        for tower in family.texts
    }


def describe_folder(family: Family) -> dict[str, bytes]:
    """Path in the folder → text. Raises BadCheckpoint for a model that no pipeline holds."""
    values: dict[str, dict[str, Any]] = {"model_index.json": describe_index(family)}
    values["scheduler/scheduler_config.json"] = describe_scheduler(family)
    if family.unet:
        values["unet/config.json"] = describe_unet(family.unet)
    if family.vae:
        values["vae/config.json"] = write_vae(family.vae)
    texts: dict[str, bytes] = {}
    for part, tokenizer in make_tokenizers(family).items():
        config = next(tower.config for tower in family.texts if tower.part == part)
        value = write_text(config, tokenizer)
        if config.projection_dim:
            value |= {"architectures": ["CLIPTextModelWithProjection"]}
            value |= {"projection_dim": config.projection_dim}
        values[f"{part}/config.json"] = value
        folder = part.replace("text_encoder", "tokenizer")
        texts |= {f"{folder}/{name}": data for name, data in describe(tokenizer).items()}
    return {name: (json.dumps(v, indent=2) + "\n").encode() for name, v in values.items()} | texts


def describe_unet(config: UNetConfig) -> dict[str, Any]:
    """config.json of a U-Net; of one that is told sizes and pooled text too."""
    depths = {*config.transformer_depth}
    depth = [*config.transformer_depth] if len(depths) > 1 else depths.pop()
    value = write_unet(config) | {"transformer_layers_per_block": depth}
    if config.added_dim:
        value |= {"addition_embed_type": "text_time", "addition_time_embed_dim": config.time_id_dim}
        value["projection_class_embeddings_input_dim"] = config.added_dim
    return value


def describe_scheduler(family: Family) -> dict[str, Any]:
    """scheduler_config.json."""
    if family.prediction == "flow":
        return FLOW_SCHEDULER
    if family.base in ("xl", "refiner"):
        kind = EULER
    else:
        kind = DDIM if family.prediction == "v" or family.zero_snr else PNDM
    zero = ZERO_SNR if family.zero_snr else {}
    words = {"prediction_type": WORDS[family.prediction or "eps"]}
    return {**kind, "_diffusers_version": VERSION, **NOISE, **words, **zero}


def describe_index(family: Family) -> dict[str, Any]:
    """model_index.json."""
    xl = family.base in ("xl", "refiner")
    pipelines = XL if xl else PIPELINES
    if family.concat not in pipelines:
        fault = f"no pipeline of diffusers is an {family.name}"
        raise BadCheckpoint(fault, "keep it as a single file")
    name = pipelines[family.concat]
    if family.base == "refiner" and not family.concat:
        name = "StableDiffusionXLImg2ImgPipeline"
    absent = [None, None]
    index: dict[str, Any] = {"_class_name": name, "_diffusers_version": VERSION}
    if xl:
        index["force_zeros_for_empty_prompt"] = family.base == "xl"
        if "Img2Img" in name or "Inpaint" in name:
            index["requires_aesthetics_score"] = family.base == "refiner"
    parts = {tower.part: tower for tower in family.texts}
    for part in ("text_encoder", "text_encoder_2") if xl else ("text_encoder",):
        projects = part in parts and parts[part].config.projection_dim
        class_name = "CLIPTextModelWithProjection" if projects else "CLIPTextModel"
        index[part] = ["transformers", class_name] if part in parts else absent
        words = part.replace("text_encoder", "tokenizer")
        index[words] = ["transformers", "CLIPTokenizer"] if part in parts else absent
    index["unet"] = ["diffusers", "UNet2DConditionModel"]
    index["vae"] = ["diffusers", "AutoencoderKL"]
    index["scheduler"] = ["diffusers", describe_scheduler(family)["_class_name"]]
    index["feature_extractor"] = absent
    if family.concat == "depth":
        index["depth_estimator"] = absent
    elif not xl:
        index |= {"safety_checker": absent, "requires_safety_checker": False}
    return index
