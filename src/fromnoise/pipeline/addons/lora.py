"""LoRA: low-rank changes of weights, put on copies of the networks."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

from fromnoise.checkpoints.formats.lora import load
from fromnoise.checkpoints.lora.place import Placement, place
from fromnoise.errors import BadInput, escape
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.addon_fields.lora import Lora
from fromnoise.pipeline.addons.files import find_file
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.patches import Patch, patch, patch_network
from fromnoise.runtime.prepare import Prepared

LISTED = 20  # modules that a warning names


def put_on(
    model: LatentDiffusion, unet: Prepared, request: GenerationRequest, items: Sequence[Lora]
) -> tuple[LatentDiffusion, Prepared, list[str]]:
    """(the model with these LoRA in its networks, its prepared network, notes). Their changes add
    up, each counted from the model's own weights, so that their order does not matter.

    Warns of a file that has only in part a place in the model. Raises NotFound, BadCheckpoint, and
    BadInput for one that has none at all, and for a wrong number of weights by block."""
    patches = collect_patches(model, items)
    if of_unet := patches.pop("unet", None):
        unet = patch(unet, of_unet)
        model = replace(model, unet=unet.network)
    return patch_texts(model, patches), unet, []


def merge(model: LatentDiffusion, items: Sequence[Lora]) -> LatentDiffusion:
    """The model with these LoRA in its weights, for a file. Warns and raises as `put_on`."""
    patches = collect_patches(model, items)
    network = patch_network(model.unet, patches.pop("unet", []))
    return patch_texts(replace(model, unet=network), patches)


def collect_patches(model: LatentDiffusion, items: Sequence[Lora]) -> dict[str, list[Patch]]:
    """What changes in each part."""
    patches: dict[str, list[Patch]] = {}
    for item in items:
        placement = read_placement(item, model)
        for part, deltas in placement.deltas.items():
            share = item.weight
            if part != "unet" and item.text_weight is not None:
                share = item.text_weight
            for parameter, delta in deltas:
                block = weigh(item, placement, part, parameter)
                patches.setdefault(part, []).append(Patch(parameter, delta, share * block))
    return patches


def patch_texts(model: LatentDiffusion, patches: dict[str, list[Patch]]) -> LatentDiffusion:
    """The model with these changes in its text encoders."""
    encoders = list(model.text_encoders)
    for i, part in enumerate(("text_encoder", "text_encoder_2")[: len(encoders)]):
        if of_text := patches.get(part):
            network = patch_network(encoders[i].network, of_text)
            encoders[i] = replace(encoders[i], network=network)
    return replace(model, text_encoders=tuple(encoders))


def read_placement(item: Lora, model: LatentDiffusion) -> Placement:
    """What one LoRA changes. Warns and raises as `put_on`."""
    path = find_file("lora", item)
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
    if lora.embeddings:
        names = ", ".join(escape(name, 100) for name in [*lora.embeddings][:LISTED])
        warnings.warn(
            f"{path} holds embeddings too, which are not used: {names}; save them as files of "
            "their own",
            stacklevel=2,
        )
    if lost := [*placement.unplaced, *lora.unknown]:
        listed = ", ".join(escape(name, 100) for name in lost[:LISTED])
        more = f" and {len(lost) - LISTED:,} more" if len(lost) > LISTED else ""
        warnings.warn(
            f"{path} has {len(lost):,} modules or tensors without a place in this model, which are "
            f"not used: {listed}{more}",
            stacklevel=2,
        )
    return placement


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
