"""LoRA files of every trainer → what changes in a model: kohya-ss, LyCORIS, PEFT, diffusers (its
attention processors too), OneTrainer, ComfyUI, and the numbered pairs of 2022."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fromnoise.checkpoints.families import tell_family
from fromnoise.checkpoints.lora.changes import find_rank
from fromnoise.checkpoints.lora.config import ADAPTER, CONFIG, read_scales
from fromnoise.checkpoints.lora.contents import Lora
from fromnoise.checkpoints.lora.keys import EMBEDDED, LISTED, NUMBERED, Place, split_key
from fromnoise.checkpoints.sources import TensorSource, open_tensors
from fromnoise.errors import BadCheckpoint, escape

MOST, LARGEST = 12_000, 1 << 30  # tensors, and bytes of one
BESIDE = {"text_encoder": ".text_encoder.pt", "embeddings": ".ti.pt"}  # beside a list of 2022


def list_files(path: Path) -> list[Path]:
    """The file of a LoRA, and those beside it that say more of it."""
    beside = [path.with_suffix(end) for end in BESIDE.values()]
    beside += [path.parent / CONFIG] if path.stem == ADAPTER else []
    return [path, *(file for file in beside if file.is_file() and file != path)]


def load(path: Path, outline: bool = False) -> Lora:
    """Reads a LoRA. outline: of matrices the shapes alone, see `read_outline`. Raises NotFound,
    and BadCheckpoint for a file that is none or is damaged."""
    source = open_tensors(path)
    check_sizes(path, source)
    if all(LISTED.fullmatch(key) for key in source.stored):
        return load_list(path, source)
    lora, places = Lora(path, dict(source.metadata)), find_places(source)
    numbered: dict[str, dict[int, dict[str, Tensor]]] = {}
    read = read_outline(source, places) if outline else source.read(keys=places.keys())
    for key, tensor in read.items():
        if place := places[key]:
            if place.leaf == "alpha":
                lora.alphas[place.stem] = read_number(path, key, tensor)
            elif place.leaf in (leaves := lora.modules.setdefault(place.stem, {})):
                fault = f"{path} has {escape(key, 200)} twice, under two names"
                raise BadCheckpoint(fault, "fetch it again")
            else:
                leaves[place.leaf] = tensor
        elif match := NUMBERED.fullmatch(key):
            numbered.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = tensor
        elif match := EMBEDDED.fullmatch(key):
            lora.embeddings.setdefault(match[1], {})[match[2]] = tensor
        else:
            lora.embeddings.setdefault(key, {})["emb_params"] = tensor
    unknown = [key for key in source.stored if key not in places]
    for part, by_place in numbered.items():
        lora.pairs[part] = collect_pairs(path, part, by_place)
    if not (lora.modules or lora.pairs):
        family = tell_family({key: entry.shape for key, entry in source.stored.items()})
        fault = f"{path} is no LoRA, but {family.name}: {family.reason}"
        raise BadCheckpoint(fault, "give a LoRA, LyCORIS or DoRA file")
    ranks = {stem: find_rank(leaves) for stem, leaves in lora.modules.items()}
    alphas, told = read_scales(path, source.metadata, ranks)
    lora.alphas.update({stem: alpha for stem, alpha in alphas.items() if stem not in lora.alphas})
    lora.ranks.update(told)
    object.__setattr__(lora, "unknown", (*unknown, *(lora.alphas.keys() - lora.modules.keys())))
    return lora


def check_sizes(path: Path, source: TensorSource) -> None:
    """Raises BadCheckpoint for what is larger than any LoRA, before it is read."""
    largest = max(source.stored.values(), key=lambda entry: entry.end - entry.start, default=None)
    if len(source.stored) > MOST:
        fault = f"{path} has {len(source.stored):,} tensors, more than any LoRA"
    elif largest is not None and largest.end - largest.start > LARGEST:
        size = largest.end - largest.start
        fault = f"{path} has a tensor of {size:,} bytes, more than any layer of a model"
    else:
        return
    raise BadCheckpoint(fault, "give a LoRA, LyCORIS or DoRA file")


def find_places(source: TensorSource) -> dict[str, Place | None]:
    """The tensors of some layout, which are those that are read, each with its place in a module if
    it has one. A weight alone is of no kind that changes one."""
    places = {key: split_key(key) for key in source.stored}
    scaled = {place.stem for place in places.values() if place and place.leaf == "on_input"}
    return {
        key: place
        for key, place in places.items()
        if (place and (place.leaf != "weight" or place.stem in scaled))
        or NUMBERED.fullmatch(key)
        or EMBEDDED.fullmatch(key)
        or source.metadata.get(key) == "<embed>"
    }


def read_outline(source: TensorSource, places: Mapping[str, Place | None]) -> dict[str, Tensor]:
    """The tensors that have places: single numbers and embeddings as they are, of all others the
    shape alone, on the meta device."""
    shapes = {key: entry for key, entry in source.stored.items() if key in places}
    real = {key for key, entry in shapes.items() if math.prod(entry.shape) == 1}
    real |= {key for key, place in places.items() if not place and not NUMBERED.fullmatch(key)}
    outlines = {
        key: torch.empty(entry.shape, dtype=entry.dtype, device="meta")
        for key, entry in shapes.items()
        if key not in real
    }
    return outlines | source.read(keys=real)


def load_list(path: Path, source: TensorSource) -> Lora:
    """A list of tensors of 2022: up, down, up, down. Its text encoder and its embeddings lie in
    files beside it."""
    lora = Lora(path, {})
    lora.pairs["unet"] = pair_list(path, source)
    beside = {what: path.with_suffix(end) for what, end in BESIDE.items()}
    if (file := beside["text_encoder"]).is_file() and file != path:
        check_sizes(file, source := open_tensors(file))
        lora.pairs["text_encoder"] = pair_list(file, source)
    if (file := beside["embeddings"]).is_file():
        check_sizes(file, source := open_tensors(file))
        for name, tensor in source.read().items():
            lora.embeddings[name] = {"emb_params": tensor}
    return lora


def pair_list(path: Path, source: TensorSource) -> list[tuple[Tensor, Tensor]]:
    by_place: dict[int, dict[str, Tensor]] = {}
    for key, tensor in source.read().items():
        if not LISTED.fullmatch(key):
            raise BadCheckpoint(f"{path} has {escape(key, 100)} in a list", "fetch the file again")
        place, side = divmod(int(key), 2)
        by_place.setdefault(place, {})["down" if side else "up"] = tensor
    return collect_pairs(path, "the list", by_place)


def collect_pairs(
    path: Path, part: str, by_place: Mapping[int, Mapping[str, Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """(up, down) in order. Raises BadCheckpoint where a number or one of two is missing."""
    pairs = []
    for place in range(len(by_place)):
        pair = by_place.get(place, {})
        if pair.keys() != {"up", "down"} or min(t.ndim for t in pair.values()) < 2:
            fault = f"{path}, {part}: pair {place} of {len(by_place)} is not there as up and down"
            raise BadCheckpoint(fault, "fetch the file again")
        pairs.append((pair["up"], pair["down"]))
    return pairs


def read_number(path: Path, key: str, tensor: Tensor) -> float:
    """The one number in a tensor. Raises BadCheckpoint where it is none, or is not finite."""
    value = float(tensor) if tensor.numel() == 1 else math.nan
    if not abs(value) <= 1e6:
        fault = f"{path}: {escape(key, 200)} is not one number between -1e6 and 1e6"
        raise BadCheckpoint(fault, "fetch the file again")
    return value
