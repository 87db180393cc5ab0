"""The folder of a diffusers `StableDiffusionPipeline`: parameter names are ours already,
configurations are translated.

Beside diffusers' own files it may hold some of ours, which diffusers ignores: `fromnoise.json`
(what the model asks to be drawn with), `clip_head.safetensors` (CLIP's text_projection.weight and
logit_scale) and `image_tower/` (CLIP's image tower where it is a residual network; a vision
transformer lies in diffusers' own `image_encoder/`)."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fromnoise.checkpoints.configs import Fields, Rule, read_json, read_tokenizer
from fromnoise.checkpoints.formats import diffusers_configs as parts
from fromnoise.checkpoints.tensors import TensorFile, Unfilled, check_fit, fill
from fromnoise.diffusion import samplers, spacing
from fromnoise.errors import BadCheckpoint, UnknownName
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip import CLIPText
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE

T = TypeVar("T")
KINDS = ("StableDiffusion", "StableDiffusionInpaint", "LatentConsistencyModel")
PIPELINES = [f"{kind}Pipeline" for kind in KINDS]
PARTS = ("unet", "vae", "text_encoder", "image_encoder")  # those of diffusers that hold weights
DEFAULTS = (
    Rule("steps", int, 1, 1000), Rule("cfg", float, 0, 100), Rule("cfg_sigma_min", float, 0, 1e6),
    Rule("cfg_sigma_max", float, 1e-6, 1e6), Rule("hires_strength", float, 0.01, 1),
    Rule("sampler", str), Rule("spacing", str), Rule("hires_upscaler", str),
)  # fmt: skip
LARGEST = 4096  # pixels, the side of the picture that a model draws where no size is given


def load(folder: Path, image_tower: bool = True, encoder: bool = True) -> LatentDiffusion:
    """The folder → its parts, in fp32 on the CPU. Raises NotFound or BadCheckpoint, each naming
    file and key. No tensor is read before all configurations and headers fit each other.

    image_tower, encoder: see hub.load_parts.
    """
    configs = read_configs(folder, image_tower)
    schedule, prediction = parts.read_scheduler(configs["scheduler"])
    unet, vae = parts.read_unet(configs["unet"]), parts.read_vae(configs["vae"])
    text = parts.read_text(configs["text_encoder"])
    tokenizer = read_tokenizer(folder / "tokenizer")
    if not (
        unet.out_channels == vae.latent_channels
        and unet.in_channels >= unet.out_channels
        and unet.context_dim == text.dim
        and unet.sample_size * vae.factor <= LARGEST
        and tokenizer.vocab_size <= text.vocab_size
        and tokenizer.max_length <= text.max_length
    ):
        from fromnoise.checkpoints.refusals import refuse_parts

        refuse_parts(configs, unet, vae, text, tokenizer, LARGEST)
    # an inpainting model sees pictures as well as x
    encoder = encoder or unet.in_channels > unet.out_channels
    files = {p: TensorFile(folder / p / name) for p, name in parts.WEIGHTS.items() if p in configs}
    needed = sum(4 * prod(entry.shape) for file in files.values() for entry in file.stored.values())
    if needed > 1 << 30:
        from fromnoise.checkpoints.refusals import check_memory  # only for large models

        check_memory(folder, needed)
    with Unfilled():
        networks: dict[str, Any] = {"unet": UNet(unet), "vae": VAE(vae, encoder)}
        networks["text_encoder"] = CLIPText(text)
    head: dict[str, Tensor] = {}
    if image_tower:  # drawing looks at no pictures
        from fromnoise.checkpoints.formats import diffusers_towers as towers

        head = towers.read_head(folder / "clip_head.safetensors", text.dim)
        with Unfilled():
            networks |= towers.build_image_tower(configs)
    for part, network in networks.items():
        check_fit(network, select_tensors(part, network, files[part].stored), files[part].path)
    if os.path.lexists(folder / "fromnoise.json"):
        defaults = read_defaults(read_json(folder / "fromnoise.json"), vae.latent_channels)
    else:
        from fromnoise.checkpoints.formats import diffusers_scheduler

        defaults = diffusers_scheduler.read_defaults(configs["scheduler"].values)
    digests = {part: hashlib.sha256() for part in ("unet", "vae")}
    pool = ThreadPoolExecutor(1)  # hashing takes as long as all else, and leaves Python free
    try:
        for part, network in networks.items():
            see = partial(pool.submit, digests[part].update) if part in digests else None
            tensors = select_tensors(part, network, files[part].read(see))
            fill(network, tensors, files[part].path)
        hashes = {part: pool.submit(hash.hexdigest).result()[:10] for part, hash in digests.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return LatentDiffusion(
        networks["unet"],
        networks["vae"],
        networks["text_encoder"],
        tokenizer,
        schedule,
        prediction,
        networks.get("image_tower", networks.get("image_encoder")),
        head.get("text_projection.weight"),
        head.get("logit_scale"),
        configs={name: config.values for name, config in configs.items()},
        defaults=defaults,
        source=folder.name,
        digest=hashes["unet"],
        vae_digest=hashes["vae"],
    )


def save(model: LatentDiffusion, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes the folder, weights in `dtype`: the whole of it or nothing. Raises BadInput for a
    model that a StableDiffusionPipeline cannot hold."""
    # drawing has no use for it
    from fromnoise.checkpoints.formats.diffusers_folder_save import save as write

    write(model, folder, dtype)


def read_configs(folder: Path, image_tower: bool) -> dict[str, Fields]:
    """The configuration of every part that model_index.json names, of the scheduler, and the index
    itself."""
    index = read_json(folder / "model_index.json")
    index.get(Rule("_class_name", str, choices=PIPELINES))
    if index.values.get("_class_name") is None:
        index.refuse("_class_name", f"one of {', '.join(PIPELINES)}")
    configs = {"model_index": index}
    for part in PARTS:
        entry = index.values.get(part, [None, None])
        pair = isinstance(entry, list) and len(entry) == 2
        if not pair or not all(isinstance(name, str | None) for name in entry):
            index.refuse(part, "a list of library and class")
        if entry[0] is None and part != "image_encoder":
            index.refuse(part, "a list of library and class: a model cannot be without it")
        if entry[0] is not None and (image_tower or part != "image_encoder"):
            configs[part] = read_json(folder / part / "config.json")
    configs["scheduler"] = read_json(folder / "scheduler" / "scheduler_config.json")
    if image_tower and os.path.lexists(folder / "image_tower"):
        configs.pop("image_encoder", None)
        configs["image_tower"] = read_json(folder / "image_tower" / "config.json")
    return configs


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
    words = config.values.get("words")  # of the captions that the model learnt from
    if words is not None and not (
        isinstance(words, list) and all(map(Rule("", str).admits, words))
    ):
        config.refuse("words", "a list of words")
    return {key: value for key, value in config.values.items() if value is not None}


def select_tensors(part: str, network: nn.Module, tensors: dict[str, T]) -> dict[str, T]:
    """Those tensors (or what is stored of them) that belong to the network, under our names."""
    if part == "vae" and getattr(network, "encoder", None) is None:
        drop = ("encoder.", "quant_conv.")
        tensors = {key: value for key, value in tensors.items() if not key.startswith(drop)}
    if tensors.keys() != network.state_dict().keys():
        from fromnoise.checkpoints.formats.diffusers_old import rename_tensors

        tensors = rename_tensors(part, tensors)
    return tensors
