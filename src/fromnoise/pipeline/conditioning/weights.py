"""Words with weights → the text encoder's states, weighted as the prompt's dialect does."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.conditioning.blocks import Block, Chunks, Texts, split_blocks
from fromnoise.pipeline.conditioning.encode import repeat_to_equal_length
from fromnoise.prompt.tree import Break, Chunk


@torch.inference_mode()
def encode_weighted(
    model: LatentDiffusion,
    chunks: Chunks,
    dialect: str = "a1111",
    clip_skip: int = 1,
    remove: bool = False,
) -> Tensor:
    """(1, blocks · N, dim): the text encoder's states of every block, weighted as the dialect does.

    a1111: a state is multiplied by its token's weight, then the whole block so that its mean is
    what it was (the web UI 1.10, `EmphasisOriginal`; there the mean is over all the texts of one
    prompt's schedule at once). comfy: a state is moved away from what the empty prompt has in its
    place, by its weight (ComfyUI `sd1_clip.py`). compel: the same, and for every chunk of a weight
    w below 1 the prompt without it has tan((1 − w)·π/2) parts in the average (compel 2,
    `EmbeddingsProvider`). Without it: no token sees the chunk's, but all keep their places (compel
    2's mode MASK); or, with `remove`, the others move up (REMOVE, compel 1's). clip_skip: 1 takes
    the last layer, 2 the one before, its states through the last norm. Raises BadInput."""
    encoder, words = model.text_encoder, model.tokenizer
    device = next(encoder.parameters()).device
    layers = len(encoder.text_model.encoder.layers)
    if clip_skip > layers:
        raise BadInput(
            f"the text encoder has no layer {clip_skip} from its end",
            f"give clip_skip from 1 to {layers}",
        )

    def states(block: Block, hidden: Sequence[bool] = ()) -> Tensor:
        ids, seen = [words.bos_id, *(token for token, _ in block), words.eos_id], None
        if hidden:
            seen = torch.ones(1, words.max_length, dtype=torch.bool, device=device)
            seen[0, 1 : len(block) + 1] = ~torch.tensor(hidden, device=device)
        out = encoder(
            torch.tensor([ids + [words.pad_id] * (words.max_length - len(ids))], device=device),
            seen,
        )
        return (
            out.last_hidden
            if clip_skip == 1
            else encoder.text_model.final_layer_norm(out.hidden_states[-clip_skip])
        )

    def weighted(block: Block, hidden: Sequence[bool] = ()) -> Tensor:
        z = states(block, hidden)
        if all(weight == 1 for _, weight in block):
            return z
        by = torch.ones(1, z.shape[1], 1, device=device)
        by[0, 1 : len(block) + 1, 0] = torch.tensor([weight for _, weight in block])
        if dialect != "a1111":
            return torch.lerp(states([]), z, by)
        mean, new = z.mean(), z * by
        return new * (mean / new.mean()) if new.mean() else new

    def whole(some: Sequence[Chunk | Break]) -> Tensor:
        return torch.cat([weighted(block) for block in split_blocks(words, some, dialect)], 1)

    if dialect != "compel":
        return whole(chunks)
    shares = {
        i: math.tan((1 - max(chunk.weight, 1e-5)) * math.pi / 2)
        for i, chunk in enumerate(chunks)
        if isinstance(chunk, Chunk) and chunk.weight < 1
    }
    total = 1 + sum(shares.values())
    if remove:
        found = repeat_to_equal_length(
            [whole(chunks), *(whole(chunks[:i] + chunks[i + 1 :]) for i in shares)]
        )
        return weighted_sum(found, [share / total for share in (1.0, *shares.values())])
    numbered = [
        Chunk(c.text, i) if isinstance(c, Chunk) else c for i, c in enumerate(chunks)
    ]  # a token's chunk
    done: list[Tensor] = []
    for block, of in zip(
        split_blocks(words, chunks, dialect), split_blocks(words, numbered, dialect), strict=True
    ):
        inside = {owner for _, owner in of}
        here = {
            i: share for i, share in shares.items() if i in inside
        }  # the others change nothing in this block
        found = [weighted(block), *(weighted(block, [owner == i for _, owner in of]) for i in here)]
        rest = total - sum(here.values())
        done.append(
            weighted_sum(torch.cat(found), [share / total for share in (rest, *here.values())])
            if here
            else found[0]
        )
    return torch.cat(done, 1)


def join_texts(model: LatentDiffusion, texts: Texts, blend: bool, clip_skip: int = 1) -> Tensor:
    """(1, N, dim): what compel makes of its parts. By .blend they are added, by weight; by .and
    they are put one behind the other, each moved away from what the empty prompt has in its place,
    by its weight."""
    found, weights = (
        [encode_weighted(model, chunks, "compel", clip_skip) for chunks, _ in texts],
        [w for _, w in texts],
    )
    if weights == [1.0]:
        return found[0]
    empty = encode_weighted(model, (), "compel", clip_skip)
    if blend:
        return weighted_sum(pad_with_empty(found, empty), weights)
    bases = [empty.repeat(1, z.shape[1] // empty.shape[1], 1) for z in found]
    return torch.cat(
        [torch.lerp(base, z, w) for base, z, w in zip(bases, found, weights, strict=True)], 1
    )


def pad_with_empty(states: Sequence[Tensor], empty: Tensor) -> Tensor:
    """States (1, N, dim) of unequal N, the shorter ones with the empty prompt's behind them, as
    compel makes them equal: (B, N, dim)."""
    longest = max(z.shape[1] for z in states)
    return torch.cat(
        [
            torch.cat([z, empty.repeat(1, (longest - z.shape[1]) // empty.shape[1], 1)], 1)
            for z in states
        ]
    )


def weighted_sum(states: Tensor, weights: Sequence[float]) -> Tensor:
    """Σ weights[i]·states[i], (N, dim) each: (1, N, dim)."""
    return (states * torch.tensor(weights, device=states.device)[:, None, None]).sum(
        0, keepdim=True
    )
