"""Vectors under names: a model whose prompts can hold words of no vocabulary."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fromnoise.checkpoints.library import ENDINGS
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip import CLIPText, TextOutput
from fromnoise.prompt.inversions import add_names, number_vectors
from fromnoise.prompt.words import split_words

# the width of text encoders → the models that have such ones
WIDTHS = {
    (768,): "Stable Diffusion 1",
    (1024,): "Stable Diffusion 2",
    (768, 1280): "Stable Diffusion XL",
}


@dataclass(frozen=True, eq=False)
class Named:
    """Vectors and the names by which prompts call them. parts: "" for a model with one text
    encoder, "clip_l" and "clip_g" for one with two → (n, dim)."""

    names: Sequence[str]
    parts: Mapping[str, Tensor]


def add_vectors(
    model: LatentDiffusion, named: Sequence[Named], dialect: str = "a1111"
) -> LatentDiffusion:
    """A copy of the model whose prompts can hold these names. The tokenizers and text encoders of
    the model do not change: the copies read ids of no vocabulary, and give CLIP a vector for each.

    dialect: in comfy a name counts behind `embedding:` alone, in the others also by itself. Raises
    BadInput for vectors that do not fit the text encoders."""
    fitting = [fit_parts(model, one) for one in named]
    encoders = []
    for place, encoder in enumerate(model.text_encoders):
        names: dict[str, Sequence[int]] = {}
        vectors: dict[int, Tensor] = {}
        weight = encoder.network.text_model.embeddings.token_embedding.weight
        for one, parts in zip(named, fitting, strict=True):
            ids = number_vectors(len(parts[place]))
            vectors |= zip(ids, parts[place].to(weight), strict=True)
            bare = () if dialect == "comfy" else one.names
            called = (f"embedding:{name}{end}" for name in one.names for end in ("", *ENDINGS))
            names |= dict.fromkeys((*bare, *called), ids)
        network = read_vectors(encoder.network, vectors)
        tokenizer = add_names(encoder.tokenizer, names)
        encoders.append(replace(encoder, network=network, tokenizer=tokenizer))
    changed = replace(model, text_encoders=tuple(encoders))
    if words := model.defaults.get("words"):  # those that the model knows
        known = split_words(" ".join(name for one in named for name in one.names))
        changed.defaults = model.defaults | {"words": [*words, *known, "embedding"]}
    return changed


def read_vectors(network: CLIPText, own: Mapping[int, Tensor]) -> CLIPText:
    """The same text encoder, which also takes the ids of its own vectors; with one of them it reads
    one text at a time."""

    def forward(ids: Tensor, seen: Tensor | None = None, vectors: Any = None) -> TextOutput:
        placed = {i: own[n] for i, n in enumerate(ids[0].tolist()) if n in own}
        if placed:
            assert len(ids) == 1
            ids = ids.index_fill(1, torch.tensor([*placed], device=ids.device), 0)
        return network(ids, seen, placed | (vectors or {}))

    other = copy(network)
    other.forward = forward
    return other


def fit_parts(model: LatentDiffusion, named: Named) -> list[Tensor]:
    """The vectors for each text encoder. Raises BadInput where they do not fit."""
    name, parts = named.names[0], named.parts
    widths = tuple(encoder.network.config.dim for encoder in model.text_encoders)
    keys = ("clip_l", "clip_g") if len(widths) == 2 else ("",)
    if len(widths) == 1 and model.unet.config.added_dim:  # the refiner of Stable Diffusion XL
        keys = ("clip_g",)
    if tuple(parts[key].shape[-1] if key in parts else 0 for key in keys) != widths:
        own = tuple(part.shape[-1] for part in parts.values())
        raise BadInput(
            f"the embedding {name!r} was made for {describe_widths(own)}, and this model is "
            f"{describe_widths(widths)}",
            "give one that was made for this kind of model",
        )
    vectors, room = len(parts[keys[0]]), model.tokenizer.max_length - 2
    if vectors > room:
        raise BadInput(
            f"the embedding {name!r} has {vectors} vectors, and the text encoder reads {room} "
            "tokens at once",
            "give one of fewer vectors",
        )
    return [parts[key] for key in keys]


def describe_widths(widths: tuple[int, ...]) -> str:
    of = f"text of {' and '.join(map(str, widths))} channels"
    return f"{WIDTHS[widths]} ({of})" if widths in WIDTHS else f"a model of {of}"
