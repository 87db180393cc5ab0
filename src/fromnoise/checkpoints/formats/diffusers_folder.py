"""The folder of a diffusers `StableDiffusionPipeline`, whose parameter names are ours already.

Beside diffusers' own files it may hold some of ours, which diffusers ignores: `fromnoise.json`
(what the model asks to be drawn with), `clip_head.safetensors` (CLIP's text_projection.weight and
logit_scale) and `image_tower/` (CLIP's image tower where it is a residual network; a vision
transformer lies in diffusers' own `image_encoder/`)."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fromnoise.checkpoints.assemble import Part, assemble
from fromnoise.checkpoints.configs import Fields, Rule, read_json, read_tokenizer
from fromnoise.checkpoints.formats import diffusers_configs as reading
from fromnoise.checkpoints.tensors import TensorFile
from fromnoise.diffusion import samplers, spacing
from fromnoise.errors import BadCheckpoint, UnknownName
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip import CLIPText
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE

if TYPE_CHECKING:
    from fromnoise.checkpoints.sources import TensorSource

# part → (the reader of its configuration, its network)
READERS: dict[str, Any] = {"unet": (reading.read_unet, UNet), "vae": (reading.read_vae, VAE)}
READERS |= dict.fromkeys(reading.TEXTS, (reading.read_text, CLIPText))
# names of older files, and of transformers 5, which leaves out the text tower's prefix
OLD = re.compile(
    r"\.(query|key|value|proj_attn)\.|position_ids$|^(embeddings|encoder\.layers|final_layer_norm)\."
).search
DEFAULTS = (
    Rule("steps", int, 1, 1000), Rule("cfg", float, 0, 100), Rule("cfg_sigma_min", float, 0, 1e6),
    Rule("cfg_sigma_max", float, 1e-6, 1e6), Rule("hires_strength", float, 0.01, 1),
    Rule("sampler", str), Rule("spacing", str), Rule("hires_upscaler", str),
)  # fmt: skip


def load(
    folder: Path,
    image_tower: bool = True,
    encoder: bool = True,
    prediction: str | None = None,
    variant: str | None = None,
    others: Sequence[str] | None = None,
) -> LatentDiffusion:
    """The folder → its parts, in fp32 on the CPU. Raises NotFound or BadCheckpoint.

    image_tower, encoder, prediction, variant: see hub.load_parts. others: must be none."""
    if others:
        from fromnoise.checkpoints.refusals import refuse_others

        refuse_others(folder)
    configs = read_configs(folder, image_tower)
    sizes = configs["unet"].values.get  # a U-Net that sees pictures needs the encoder
    encoder = encoder or sizes("in_channels", 4) != sizes("out_channels", 4)
    parts = {
        name: open_part(folder / name, configs[name], encoder, variant)
        for name in reading.WEIGHTS
        if name in configs
    }
    tokenizers = {
        name: read_tokenizer(folder / name.replace("text_encoder", "tokenizer"))
        for name in parts
        if name.startswith("text_encoder")
    }
    head: dict[str, torch.Tensor] = {}
    if image_tower:  # drawing looks at no pictures
        from fromnoise.checkpoints.formats.diffusers_towers import read_head

        width = parts[next(iter(tokenizers))].config.dim
        head = read_head(folder / "clip_head.safetensors", width)
    if os.path.lexists(folder / "fromnoise.json"):
        channels = parts["vae"].config.latent_channels
        schedule, told = reading.read_scheduler(configs["scheduler"])
        defaults = read_defaults(read_json(folder / "fromnoise.json"), channels)
    else:
        from fromnoise.checkpoints.formats.diffusers_scheduler import read

        index = configs["model_index"]
        schedule, told, defaults = read(configs["scheduler"], index, prediction)
    return assemble(
        parts,
        tokenizers,
        schedule=schedule,
        prediction=prediction or told,
        prediction_told=prediction is not None,
        text_projection=head.get("text_projection.weight"),
        logit_scale=head.get("logit_scale"),
        zero_empty_negative=configs["model_index"].get(
            Rule("force_zeros_for_empty_prompt"), parts["unet"].config.added_dim is not None
        ),
        configs={name: config.values for name, config in configs.items()},
        defaults=defaults,
        source=folder.name,
    )


def read_configs(folder: Path, image_tower: bool) -> dict[str, Fields]:
    """The configurations of all parts that model_index.json names, and that file itself."""
    index = read_json(folder / "model_index.json")
    if index.get(Rule("_class_name", str)) is None:
        index.refuse("_class_name", "the name of a pipeline")
    configs = {"model_index": index}
    for part, entry in index.values.items():
        if not isinstance(entry, list) or entry == [None, None] or part == "scheduler":
            continue  # a setting, or a part that this pipeline does without
        if entry[1:] not in ([name] for name in reading.CLASSES.get(part, ())):
            from fromnoise.checkpoints.formats.diffusers_settings import check_component

            check_component(index, part, reading.CLASSES.get(part, ()))
        elif part in reading.WEIGHTS and (image_tower or part != "image_encoder"):
            configs[part] = read_json(folder / part / "config.json")
    for part in ("unet", "vae", "text_encoder"):  # or text_encoder_2
        if not any(name.startswith(part) for name in configs):
            index.refuse(part, "a list of library and class: a model cannot be without it")
    configs["scheduler"] = read_json(folder / "scheduler" / "scheduler_config.json")
    if image_tower and os.path.lexists(folder / "image_tower"):
        configs.pop("image_encoder", None)
        configs["image_tower"] = read_json(folder / "image_tower" / "config.json")
    return configs


def open_part(folder: Path, fields: Fields, encoder: bool, variant: str | None) -> Part:
    """The part in a folder of its name: its configuration, and its weights, which stay unread."""
    path = folder / reading.WEIGHTS[folder.name]
    if os.path.lexists(path) and not variant:
        return make_part(folder.name, TensorFile(path), fields, encoder)
    from fromnoise.checkpoints.formats.diffusers_weights import find_weights

    return make_part(folder.name, find_weights(path, variant or ""), fields, encoder)


def make_part(
    name: str, source: "TensorFile | TensorSource", fields: Fields, encoder: bool
) -> Part:
    """The part of that name. encoder: whether an autoencoder keeps its encoder."""
    names = {key: key for key in source.stored}
    if name == "vae" and not encoder:
        names = {key: key for key in names if not key.startswith(("encoder.", "quant_conv."))}
    if any(map(OLD, names)):
        from fromnoise.checkpoints.formats.diffusers_old import rename_tensors

        names = rename_tensors(name, names)
    if name in READERS:
        read, build = READERS[name]
        build = partial(build, encoder=encoder) if name == "vae" else build
        return Part(read(fields), source, fields, names, build)
    from fromnoise.checkpoints.formats import diffusers_towers as towers

    read = towers.read_resnet if name == "image_tower" else towers.read_vision
    return Part(read(fields), source, fields, names, towers.build_tower)


def read_defaults(config: Fields, channels: int) -> dict[str, Any]:
    """fromnoise.json: what a model of so many latent channels asks to be drawn with."""
    for rule in DEFAULTS:
        config.get(rule)
    try:
        samplers.parse(config.values.get("sampler") or "euler")
        if (name := config.values.get("spacing") or "automatic").lower() != "automatic":
            spacing.find(name)
    except UnknownName as error:
        raise BadCheckpoint(f"{config.file}, {error.message}", error.remedy) from None
    rows, number = config.values.get("latent_rgb"), Rule("", float, -1e3, 1e3)
    if rows is not None and not (
        isinstance(rows, list)
        and [len(row) for row in rows if isinstance(row, list)] == [3] * (channels + 1)
        and all(number.admits(value) for row in rows for value in row)
    ):
        config.refuse("latent_rgb", f"{channels + 1} rows of 3 numbers")
    words, text = config.values.get("words"), Rule("", str)  # of the captions that it learnt from
    if words is not None and not (isinstance(words, list) and all(map(text.admits, words))):
        config.refuse("words", "a list of words")
    return {key: value for key, value in config.values.items() if value is not None}
