"""IP-Adapters on a model: pictures that its U-Net looks at beside the words."""

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fromnoise.checkpoints.formats.image_encoder import ImageEncoder, open_encoder
from fromnoise.checkpoints.formats.ip_adapter import Adapter, load, name_layers
from fromnoise.checkpoints.library import find_addon, list_models
from fromnoise.errors import BadInput, FromnoiseError, NotFound
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip_vision import CLIPVision
from fromnoise.models.image_prompt import ImagePromptConfig, Look, add_looks
from fromnoise.pipeline.addon_fields.ip_adapter import IPAdapter
from fromnoise.pipeline.addons.files import find_file
from fromnoise.pipeline.pictures import hash_pixels, read_rgb
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared

KEY = "IP-Adapter"  # of a picture's text, with a number
FIELDS = {"weight": "Weight", "start": "Guidance Start", "end": "Guidance End"}
# of the pictures that CLIP was trained on, by channel (Radford 2021)
MEAN = 0.48145466, 0.4578275, 0.40821073
DEVIATION = 0.26862954, 0.26130258, 0.27577711
LONGEST = 32  # sides of a picture, the long one to the short one
KEPT = 2  # adapters that stay in memory; those for XL have 0.7 GB
REMEMBERED = 64  # pictures whose tokens stay in memory
TOKENS: dict[Any, tuple[Tensor, Tensor]] = {}


def put_on(
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    items: Sequence[IPAdapter],
) -> tuple[LatentDiffusion, Prepared, list[str]]:
    """See addons.KINDS. Several adapters look at their own pictures each, and an adapter at all of
    its pictures together. Raises NotFound, BadCheckpoint and BadInput."""
    looks, shown, towers = list[Look](), list[tuple[Tensor, Tensor]](), dict[Path, CLIPVision]()
    for item in items:
        path = find_file("ip-adapter", item)
        adapter = read_adapter(path)
        layers = name_layers(adapter, unet.network)
        place = find_encoder(path, adapter.prompt.config, item.encoder)
        seen = [encode_picture(adapter, place, read_rgb(p), towers) for p in item.pictures]
        tokens, blank = (torch.cat(some, 1) for some in zip(*seen, strict=True))
        shown.append((tokens, blank))
        looks.append(Look(layers, tokens.shape[1], weigh_layers(layers, item)))
    other = copy(unet)
    other.network = add_looks(unet.network, looks)
    tokens, blank = (torch.cat(some, 1) for some in zip(*shown, strict=True))
    return replace(model, image_tokens=(tokens, blank)), other, []


def weigh_layers(names: Iterable[str], item: IPAdapter) -> dict[str, float]:
    """The scale of each cross-attention: the weight, times the factor of the longest beginning of
    its name that `blocks` holds. Raises BadInput for a beginning that no name has."""
    if unknown := [b for b in item.blocks if not any(name.startswith(b) for name in names)]:
        levels = ", ".join(dict.fromkeys(name.partition(".transformer")[0] for name in names))
        raise BadInput(f"no layer begins with {unknown[0]!r}", f"these do: {levels}")

    def find_factor(name: str) -> float:
        begins = [b for b in item.blocks if name.startswith(b)]
        return item.blocks[max(begins, key=len)] if begins else 0.0

    return {n: item.weight * (find_factor(n) if item.blocks else 1.0) for n in names}


def find_encoder(path: Path, config: ImagePromptConfig, told: Path | str | None) -> Path:
    """Where the image tower lies that an adapter at `path` reads: the one that is told, by its path
    or, where `told` is a text, by its name; the folder `image_encoder` beside the file; or the one
    in the models' folders that fits. Raises NotFound, BadCheckpoint and BadInput."""
    if told is not None:
        by_path = isinstance(told, Path)  # a text may come from elsewhere: it opens no path
        place = told.expanduser() if by_path else find_addon("image encoder", told)
        check_encoder(open_encoder(place), config)
        return place
    for beside in (path.parent / "image_encoder", path.parent.parent / "image_encoder"):
        if beside.is_dir() and fits(beside, config):
            return beside
    here = [one.path for one in list_models() if one.kind == "image encoder"]
    found = [place for place in here if fits(place, config)]
    if len(found) == 1:
        return found[0]
    places = f"{len(found)} fit: {', '.join(map(str, found[:4]))}" if found else "none is here"
    raise NotFound(
        f"the IP-Adapter {path} reads CLIP's image tower ({describe_input(config)}), and {places}",
        "give it with --image-encoder: a folder image_encoder, or a file of ComfyUI's clip_vision",
    )


def describe_input(config: ImagePromptConfig) -> str:
    return f"{'embeddings' if config.kind == 'plain' else 'states'} of {config.image_dim} numbers"


def fits(place: Path, config: ImagePromptConfig) -> bool:
    try:
        check_encoder(open_encoder(place), config)
    except FromnoiseError:
        return False
    return True


def check_encoder(encoder: ImageEncoder, config: ImagePromptConfig) -> None:
    """Raises BadInput where the tower has other widths than the adapter reads."""
    own = encoder.config.projection_dim if config.kind == "plain" else encoder.config.dim
    if own != config.image_dim:
        raise BadInput(
            f"the image tower {encoder.source.path} gives {own} numbers, and the IP-Adapter reads "
            f"{describe_input(config)}",
            "give the other tower: ViT-H for most adapters, ViT-bigG for ip-adapter_sdxl",
        )


def read_adapter(path: Path) -> Adapter:
    """The adapter of a file, from memory where the file is still the same. Raises as `load`."""
    status = path.stat() if path.is_file() else None
    return _read(path, status and (status.st_mtime_ns, status.st_size))


@lru_cache(KEPT)
def _read(path: Path, state: Any) -> Adapter:
    return load(path)


@torch.inference_mode()
def encode_picture(
    adapter: Adapter, place: Path, picture: Image.Image, towers: dict[Path, CLIPVision]
) -> tuple[Tensor, Tensor]:
    """The tokens (1, M, context_dim) of a picture, and those of none. towers: those in memory."""
    file = next(place.glob("*.safetensors"), place) if place.is_dir() else place
    key = adapter.digest, place, file.stat().st_mtime_ns, hash_pixels(picture), picture.size
    if key not in TOKENS:
        if place not in towers:
            towers[place] = open_encoder(place).load()
        tower = towers[place]
        pixels = prepare_picture(picture, tower.config.image_size)
        seen, blank = tower(pixels), tower(torch.zeros_like(pixels))
        while len(TOKENS) >= REMEMBERED:
            del TOKENS[next(iter(TOKENS))]
        TOKENS[key] = adapter.prompt.project(seen), adapter.prompt.project_nothing(blank)
    return TOKENS[key]


def prepare_picture(picture: Image.Image, side: int) -> Tensor:
    """An "RGB" picture → (1, 3, side, side) as CLIP was trained: the short side is resized to
    `side`, bicubically, the middle is cut out, and each channel is normalized."""
    short, long = sorted(picture.size)
    if long > LONGEST * short:
        raise BadInput(
            f"a picture of {picture.width}x{picture.height} pixels is too long to look at",
            f"cut it: one side is at most {LONGEST} times the other",
        )
    size = [side if own == short else side * own // short for own in picture.size]
    small = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    left, top = ((own - side) // 2 for own in size)
    cut = small.crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.asarray(cut, np.float32) / 255)
    return ((pixels - torch.tensor(MEAN)) / torch.tensor(DEVIATION)).permute(2, 0, 1)[None]


def describe(items: Sequence[IPAdapter]) -> dict[str, str | None]:
    """One line for each, in the words of A1111's extension for ControlNet."""
    return {f"{KEY} {i}": write_item(item) for i, item in enumerate(items)}


def format_number(value: float) -> str:
    return repr(value).removesuffix(".0")


def write_item(item: IPAdapter) -> str:
    digest = read_adapter(find_file("ip-adapter", item)).digest
    pictures = " ".join(hash_pixels(read_rgb(picture)) for picture in item.pictures)
    values = {"Model": f"{item.name} [{digest}]", "Weight": format_number(item.weight)}
    values |= {"Guidance Start": format_number(item.start), "Guidance End": format_number(item.end)}
    values |= {"Image hash": pictures}
    if item.blocks:
        values["Blocks"] = " ".join(f"{k}={format_number(v)}" for k, v in item.blocks.items())
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def read_back(
    path: Path, fields: dict[str, str], files: Mapping[str, Sequence[Path]]
) -> tuple[list[dict[str, Any]], set[str]]:
    """See addons.record."""
    keys = sorted(key for key in fields if re.fullmatch(rf"{KEY} \d{{1,3}}", key))
    shown = {hash_pixels(read_rgb(picture)): picture for picture in files.get("pictures", ())}
    adapters = {read_adapter(file).digest: file for file in files.get("ip_adapters", ())}
    encoder = next(iter(files.get("encoder", ())), None)
    items, used = [], set[str]()
    for key in keys:
        values = dict(
            pair.strip().split(": ", 1) for pair in fields[key].split(",") if ": " in pair
        )
        name, _, digest = values.get("Model", "").rstrip("]").rpartition(" [")
        hashes = values.get("Image hash", "").split()
        if missing := [one for one in hashes if one not in shown]:
            raise BadInput(
                f"{path} was drawn with the IP-Adapter {name}, which looked at {len(hashes)} "
                f"pictures; the one of hash {missing[0]} is missing",
                "give the very same pixels with --ip-image",
            )
        used |= {*hashes}
        place = adapters.get(digest) or find_addon("ip-adapter", name)
        if (now := read_adapter(place).digest) != digest:
            raise BadInput(
                f"{place} is not the IP-Adapter that {path} was drawn with "
                f"(hash {now}, then {digest})",
                "give the very same file with --ip-adapter",
            )
        item: dict[str, Any] = {"name": name, "file": place, "encoder": encoder}
        item["pictures"] = [shown[one] for one in hashes]
        for field, word in FIELDS.items():
            if word in values:
                item[field] = values[word]
        blocks = (pair.partition("=") for pair in values.get("Blocks", "").split())
        item["blocks"] = {begin: factor for begin, _, factor in blocks}
        items.append(item)
    if left := shown.keys() - used:
        raise BadInput(f"{path} was drawn without {shown[min(left)]}", "leave out that --ip-image")
    return items, {*keys}
