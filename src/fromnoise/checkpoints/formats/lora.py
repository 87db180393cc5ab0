"""LoRA files of every trainer → what changes in a model: kohya-ss, LyCORIS, PEFT, diffusers (its
attention processors too), OneTrainer, ComfyUI, and the numbered pairs of 2022."""

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fromnoise.checkpoints.families import tell_family
from fromnoise.checkpoints.lora.config import ADAPTER, CONFIG, read_alphas
from fromnoise.checkpoints.lora.contents import Lora
from fromnoise.checkpoints.lora.keys import EMBEDDED, LISTED, NUMBERED, split_key
from fromnoise.checkpoints.sources import TensorSource, open_tensors
from fromnoise.errors import BadCheckpoint

BESIDE = {"text_encoder": ".text_encoder.pt", "embeddings": ".ti.pt"}  # beside a list of 2022


def list_files(path: Path) -> list[Path]:
    """The file of a LoRA, and those beside it that say more of it."""
    beside = [path.with_suffix(end) for end in BESIDE.values()]
    beside += [path.parent / CONFIG] if path.stem == ADAPTER else []
    return [path, *(file for file in beside if file.is_file() and file != path)]


def load(path: Path) -> Lora:
    """Reads a LoRA. Raises NotFound, and BadCheckpoint for a file that is none or is damaged."""
    source = open_tensors(path)
    if all(LISTED.fullmatch(key) for key in source.stored):
        return load_list(path, source)
    tensors = source.read()
    lora = Lora(path, dict(source.metadata))
    numbered: dict[str, dict[int, dict[str, Tensor]]] = {}
    unknown = []
    for key, tensor in tensors.items():
        if place := split_key(key):
            if place.leaf == "alpha":
                lora.alphas[place.stem] = read_number(path, key, tensor)
            elif (
                lora.modules.setdefault(place.stem, {}).setdefault(place.leaf, tensor) is not tensor
            ):
                raise BadCheckpoint(
                    f"{path} has {key[:200]} twice, under two names", "fetch it again"
                )
        elif match := NUMBERED.fullmatch(key):
            numbered.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = tensor
        elif match := EMBEDDED.fullmatch(key):
            lora.embeddings.setdefault(match[1], {})[match[2]] = tensor
        elif source.metadata.get(key) == "<embed>":
            lora.embeddings.setdefault(key, {})["emb_params"] = tensor
        else:
            unknown.append(key)
    for stem in [stem for stem, leaves in lora.modules.items() if leaves.keys() == {"weight"}]:
        del lora.modules[stem]  # of no kind that changes a weight
        unknown.append(f"{stem}.weight")
    for part, by_place in numbered.items():
        lora.pairs[part] = collect_pairs(path, part, by_place)
    if not (lora.modules or lora.pairs):
        family = tell_family({key: entry.shape for key, entry in source.stored.items()})
        fault = f"{path} is no LoRA, but {family.name}: {family.reason}"
        raise BadCheckpoint(fault, "give a LoRA, LyCORIS or DoRA file")
    ranks = {s: len(t["lora_down"]) for s, t in lora.modules.items() if "lora_down" in t}
    alphas = read_alphas(path, source.metadata, ranks) | lora.alphas
    lora.alphas.update({stem: alpha for stem, alpha in alphas.items() if stem in lora.modules})
    object.__setattr__(lora, "unknown", (*unknown, *(lora.alphas.keys() - lora.modules.keys())))
    return lora


def load_list(path: Path, source: TensorSource) -> Lora:
    """A list of tensors of 2022: up, down, up, down. Its text encoder and its embeddings lie in
    files beside it."""
    lora = Lora(path, {})
    lora.pairs["unet"] = pair_list(path, source)
    beside = {what: path.with_suffix(end) for what, end in BESIDE.items()}
    if (file := beside["text_encoder"]).is_file() and file != path:
        lora.pairs["text_encoder"] = pair_list(file, open_tensors(file))
    if (file := beside["embeddings"]).is_file():
        for name, tensor in open_tensors(file).read().items():
            lora.embeddings[name] = {"emb_params": tensor}
    return lora


def pair_list(path: Path, source: TensorSource) -> list[tuple[Tensor, Tensor]]:
    by_place: dict[int, dict[str, Tensor]] = {}
    for key, tensor in source.read().items():
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
    """The one finite number in a tensor. Raises BadCheckpoint."""
    value = float(tensor) if tensor.numel() == 1 else math.nan
    if not math.isfinite(value):
        fault = f"{path}: {key[:200]} has {tensor.numel():,} values, or none that is finite"
        raise BadCheckpoint(fault, "fetch the file again")
    return value
