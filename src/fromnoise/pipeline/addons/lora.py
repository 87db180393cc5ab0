"""LoRA: low-rank changes of weights, put on copies of the networks."""

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from fromnoise.checkpoints.formats.lora import list_files, load
from fromnoise.checkpoints.lora.names import list_networks
from fromnoise.checkpoints.lora.place import Placement, place
from fromnoise.errors import BadInput, escape
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.addon_fields.lora import Lora
from fromnoise.pipeline.addons.files import find_file
from fromnoise.pipeline.addons.patched import Changes, find_patched
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.patches import Patch, patch_network
from fromnoise.runtime.prepare import Prepared

LISTED = 20  # modules that a warning names


def put_on(
    model: LatentDiffusion, unet: Prepared, request: GenerationRequest, items: Sequence[Lora]
) -> tuple[LatentDiffusion, Prepared, list[str]]:
    """(the model with these LoRA in its networks, its prepared network, notes). Their changes add
    up, each counted from the model's own weights, so that their order does not matter.

    Warns of a file that has only in part a place in the model. Raises NotFound, BadCheckpoint, and
    BadInput for one that has none at all, and for a wrong number of weights by block."""
    files = [list_files(find_file("lora", item)) for item in items]
    networks = {**list_networks(model), "unet": unet.network}
    loras = [*zip(items, files, strict=True)]
    patched = find_patched(networks, loras, lambda: collect_changes(model, loras))
    if "unet" in patched.networks:
        unet = copy(unet)
        unet.network = patched.networks["unet"]  # type: ignore[assignment]
    return exchange(model, patched.networks), unet, []


def merge(model: LatentDiffusion, items: Sequence[Lora]) -> LatentDiffusion:
    """The model with these LoRA in its weights, for a file. Warns and raises as `put_on`."""
    files = [list_files(find_file("lora", item)) for item in items]
    changes, networks = (
        collect_changes(model, [*zip(items, files, strict=True)]),
        list_networks(model),
    )
    for text in changes.warnings:
        warnings.warn(text, stacklevel=2)
    return exchange(
        model, {part: patch_network(networks[part], of) for part, of in changes.patches.items()}
    )


def exchange(model: LatentDiffusion, networks: Mapping[str, Any]) -> LatentDiffusion:
    """The model with these networks in place of its own."""
    names = ("text_encoder", "text_encoder_2")
    encoders = tuple(
        replace(encoder, network=networks.get(name, encoder.network))
        for name, encoder in zip(names, model.text_encoders, strict=False)
    )
    return replace(model, unet=networks.get("unet", model.unet), text_encoders=encoders)


def collect_changes(
    model: LatentDiffusion, loras: Sequence[tuple[Lora, Sequence[Path]]]
) -> Changes:
    """What these LoRA, each with its files, change in each part. Raises as `put_on`."""
    patches: dict[str, list[Patch]] = {}
    told: list[str] = []
    for item, files in loras:
        placement, texts = read_placement(files[0], model)
        told += texts
        for part, deltas in placement.deltas.items():
            share = item.weight
            if part != "unet" and item.text_weight is not None:
                share = item.text_weight
            for parameter, delta in deltas:
                block = weigh(item, placement, part, parameter)
                patches.setdefault(part, []).append(Patch(parameter, delta, share * block))
    return Changes(patches, (), told)


def read_placement(path: Path, model: LatentDiffusion) -> tuple[Placement, list[str]]:
    """(what one LoRA changes, warnings). Raises as `put_on`."""
    lora = load(path)
    placement = place(lora, model)
    count = len(lora.modules) + sum(map(len, lora.pairs.values()))
    if not placement.counts:
        made = f"; it was made for {lora.base}" if lora.base else ""
        raise BadInput(
            f"{path} changes nothing in {model.source or 'this model'}: none of its {count:,} "
            f"modules has a place there{made}",
            "give a LoRA that was made for such a model",
        )
    told = []
    if lora.embeddings:
        names = ", ".join(escape(name, 100) for name in [*lora.embeddings][:LISTED])
        told.append(
            f"{path} holds embeddings too, which are not used: {names}; save them as files of "
            "their own"
        )
    if lost := [*placement.unplaced, *lora.unknown]:
        listed = ", ".join(escape(name, 100) for name in lost[:LISTED])
        more = f" and {len(lost) - LISTED:,} more" if len(lost) > LISTED else ""
        told.append(
            f"{path} has {len(lost):,} modules or tensors without a place in this model, which are "
            f"not used: {listed}{more}"
        )
    return placement, told


def weigh(item: Lora, placement: Placement, part: str, parameter: str) -> float:
    """The factor of a parameter by its block."""
    if not item.blocks:
        return 1.0
    try:
        module = parameter.rpartition(".")[0] if part == "unet" else ""
        return placement.names.weigh_block(module, item.blocks)
    except ValueError as counts:
        raise BadInput(
            f"the LoRA {item.name} has weights for {len(item.blocks)} blocks",
            f"give {counts} numbers for this model",
        ) from None
