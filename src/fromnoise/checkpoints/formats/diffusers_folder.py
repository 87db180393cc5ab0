"""The folder of a diffusers `StableDiffusionPipeline`: parameter names are ours already,
configurations are translated.

Beside diffusers' own files it may hold some of ours, which diffusers ignores: `fromnoise.json`
(what the model asks to be drawn with), `clip_head.safetensors` (CLIP's text_projection.weight and
logit_scale) and `image_tower/` (CLIP's image tower where it is a residual network; a vision
transformer lies in diffusers' own `image_encoder/`)."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from fromnoise.checkpoints import tensors
from fromnoise.checkpoints.formats.diffusers_configs import (
    WEIGHTS,
    read_scheduler,
    text_config,
    unet_config,
    vae_config,
)
from fromnoise.errors import BadCheckpoint, NotFound
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip import CLIPText
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE
from fromnoise.prompt.tokenizer import Tokenizer

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionInpaintPipeline",
    "LatentConsistencyModelPipeline",
)
PARTS = ("unet", "vae", "text_encoder", "image_encoder")  # those of diffusers that hold weights


def load(folder: Path, image_tower: bool = True, encoder: bool = True) -> LatentDiffusion:
    """The folder → its parts, in fp32 on the CPU. Raises NotFound or BadCheckpoint, each naming
    file and key.

    image_tower, encoder: see hub.load_parts.
    """
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") not in PIPELINES:
        raise BadCheckpoint(
            f"{folder} is a {index.get('_class_name')}",
            f"this reader opens a {', '.join(PIPELINES)}",
        )
    configs = {
        "model_index": index,
        "scheduler": read_json(folder / "scheduler" / "scheduler_config.json"),
    }
    for part in PARTS:
        if (index.get(part) or [None])[0] is not None and (image_tower or part != "image_encoder"):
            configs[part] = read_json(folder / part / "config.json")
    if image_tower and (folder / "image_tower").is_dir():
        configs["image_tower"] = read_json(folder / "image_tower" / "config.json")
    schedule, prediction = read_scheduler(configs["scheduler"])
    with tensors.Unfilled():
        unet = UNet(unet_config(configs["unet"]))
        encoder = (
            encoder or unet.config.in_channels > unet.config.out_channels
        )  # it sees pictures as well as x
        vae = VAE(vae_config(configs["vae"]), encoder)
        text_encoder = CLIPText(text_config(configs["text_encoder"]))
        vision = None
        if configs.keys() & {"image_encoder", "image_tower"}:  # drawing never is the place
            from fromnoise.checkpoints.formats.diffusers_towers import build

            vision = build(configs)
    tower = "image_tower" if "image_tower" in configs else "image_encoder"
    beside, digests = (
        ThreadPoolExecutor(2),
        {},
    )  # hashing takes as long as all else, and leaves Python free
    for part, network in (
        ("unet", unet),
        ("vae", vae),
        ("text_encoder", text_encoder),
        (tower, vision),
    ):
        if network is not None:
            path = folder / part / WEIGHTS[part]
            found = native(part, tensors.read(path))
            digests[part] = beside.submit(tensors.digest, path) if part in ("unet", "vae") else None
            if part == "vae" and not encoder:
                found = {
                    k: v for k, v in found.items() if not k.startswith(("encoder.", "quant_conv."))
                }
            tensors.fill(network, found, str(path))
    head = tensors.read(path) if (path := folder / "clip_head.safetensors").is_file() else {}
    return LatentDiffusion(
        unet,
        vae,
        text_encoder,
        Tokenizer.load(folder / "tokenizer"),
        schedule,
        prediction,
        vision,
        *(
            v.float() if v is not None else None
            for v in (head.get("text_projection.weight"), head.get("logit_scale"))
        ),
        configs=configs,
        defaults=read_json(path)
        if (path := folder / "fromnoise.json").is_file()
        else scheduler_defaults(configs),
        source=folder.name,
        digest=digests["unet"].result(),
        vae_digest=digests["vae"].result(),
    )


def save(model: LatentDiffusion, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes the folder, weights in `dtype`. Raises BadInput for a model that a
    StableDiffusionPipeline cannot hold."""
    from fromnoise.checkpoints.formats.diffusers_folder_save import (
        save as write,
    )  # drawing has no use for it

    write(model, folder, dtype)


def scheduler_defaults(configs: dict) -> dict:
    from fromnoise.checkpoints.formats.diffusers_scheduler import (
        defaults,
    )  # not for a model that says it itself

    return defaults(configs["scheduler"])


def native(part: str, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under today's names: older files call the VAE's attention otherwise and store a table
    of positions 0, 1, 2 … that is no weight; transformers 5 leaves out the text tower's prefix."""
    if part == "vae":
        for old, new in (
            ("query", "to_q"),
            ("key", "to_k"),
            ("value", "to_v"),
            ("proj_attn", "to_out.0"),
        ):
            found = {
                k.replace(f"attentions.0.{old}.", f"attentions.0.{new}."): v
                for k, v in found.items()
            }
    elif part == "text_encoder":
        found = {k: v for k, v in found.items() if not k.endswith("embeddings.position_ids")}
        outside = ("text_model.", "text_projection.")
        found = {k if k.startswith(outside) else f"text_model.{k}": v for k, v in found.items()}
    return found


def read_json(path: Path) -> dict:
    if not path.is_file():
        raise NotFound(
            f"no {path.name} in {path.parent}",
            "check that the model was copied or downloaded whole",
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadCheckpoint(f"{path} is not JSON: {error}", "fetch the file again") from None
