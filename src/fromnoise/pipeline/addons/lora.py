"""LoRA: low-rank changes of weights, put on copies of the networks."""

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from fromnoise.checkpoints.formats.embedding import read_bundled
from fromnoise.checkpoints.formats.lora import list_files, load
from fromnoise.checkpoints.lora import contents as formats
from fromnoise.checkpoints.lora.names import list_networks
from fromnoise.checkpoints.lora.place import Placement, place
from fromnoise.errors import BadCheckpoint, BadInput, escape
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.addon_fields.lora import Lora
from fromnoise.pipeline.addons.files import find_file
from fromnoise.pipeline.addons.patched import Changes, find_patched
from fromnoise.pipeline.addons.vectors import Named, add_vectors, fit_parts
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.patches import Patch, patch_network
from fromnoise.runtime.prepare import Prepared

LISTED = 20  # modules that a warning names
MOST = 99  # embeddings of one file


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
    model = exchange(model, patched.networks)
    if patched.embeddings:
        model = add_vectors(model, patched.embeddings, request.dialect)
    return model, unet, []


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
    embeddings: list[Named] = []
    told: list[str] = []
    for item, files in loras:
        lora = load(files[0])
        placement = place(lora, model)
        named, misfits = read_embeddings(lora, model)
        embeddings += named
        told += [*misfits, *check_places(lora, placement, model, len(named))]
        for part, deltas in placement.deltas.items():
            share = item.weight
            if part != "unet" and item.text_weight is not None:
                share = item.text_weight
            for parameter, delta in deltas:
                block = weigh(item, placement, part, parameter)
                patches.setdefault(part, []).append(Patch(parameter, delta, share * block))
    return Changes(patches, embeddings, told)


def read_embeddings(lora: formats.Lora, model: LatentDiffusion) -> tuple[list[Named], list[str]]:
    """(the textual inversions in the file that fit the model, warnings of the others). Raises
    BadCheckpoint."""
    named, told = [], []
    if len(lora.embeddings) > MOST:
        fault = f"{lora.path} holds {len(lora.embeddings):,} embeddings"
        raise BadCheckpoint(fault, f"give a file of at most {MOST}")
    for name, tensors in lora.embeddings.items():
        one = Named([name], read_bundled(tensors, lora.path))
        try:
            fit_parts(model, one)
            named.append(one)
        except BadInput as error:
            told.append(f"{lora.path}: {error.message}; {escape(name, 100)} is read as words")
    return named, told


def check_places(
    lora: formats.Lora, placement: Placement, model: LatentDiffusion, embeddings: int
) -> list[str]:
    """A warning of what has no place in the model. Raises BadInput where nothing has."""
    path, count, lost = lora.path, lora.count, [*placement.unplaced, *lora.unknown]
    listed = ", ".join(escape(name, 100) for name in lost[:LISTED])
    listed += f" and {len(lost) - LISTED:,} more" if len(lost) > LISTED else ""
    if not placement.counts and not embeddings:
        made = f"; it was made for {lora.base}" if lora.base else ""
        raise BadInput(
            f"{path} changes nothing in {model.source or 'this model'}: none of its {count:,} "
            f"modules has a place there{made}; it has {listed}",
            "give a LoRA that was made for such a model",
        )
    if not lost:
        return []
    return [
        f"{path} has {len(lost):,} modules or tensors without a place in this model, which are "
        f"not used: {listed}"
    ]


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
