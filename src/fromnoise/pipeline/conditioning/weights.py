"""Words with weights → the text encoder's states, weighted as the prompt's dialect does."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion, TextEncoder
from fromnoise.models.clip import TextOutput
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.conditioning.blocks import Block, Chunks, Texts, split_blocks
from fromnoise.pipeline.denoiser import check_finite
from fromnoise.prompt.tree import Break, Chunk

LEAST = 1e-5  # compel's least weight of a chunk
MOST_REPEATS = 8  # contexts grow to so many times the longest, to become equally long


@torch.inference_mode()
def encode_weighted(
    model: LatentDiffusion,
    chunks: Chunks,
    dialect: str = "a1111",
    clip_skip: int = 1,
    remove: bool = False,
) -> Conditioning:
    """Context (1, blocks · N, dim): the states of every block, weighted as the dialect does; and
    `pooled` (1, D), for a U-Net that takes it.

    a1111: a state is multiplied by its token's weight, then the whole block so that its mean is
    what it was (the web UI 1.10, `EmphasisOriginal`; there the mean is over all the texts of one
    prompt's schedule at once). comfy: a state is moved away from what the empty prompt has in its
    place, by its weight (ComfyUI `sd1_clip.py`). compel: the same, and for every chunk of a weight
    w below 1 the prompt without it has tan((1 − w)·π/2) parts in the average (compel 2,
    `EmbeddingsProvider`). The prompt without a chunk is, by default, one where no token sees the
    chunk's but all keep their places (compel 2's mode MASK); with `remove`, one where the others
    move up (REMOVE, compel 1's).

    Each encoder reads and weighs by itself; their states are joined on features. The pooled text is
    the last encoder's, of the first block, without weights, and of the last layer whatever
    clip_skip says: so do A1111 and ComfyUI.

    clip_skip: 1 takes the layer that the U-Net was trained with, n at least the nth from the end,
    as A1111 counts for Stable Diffusion 1 and ComfyUI for all (its −2 is our 2). diffusers counts
    what it leaves out beyond the usual: its 1 is our 2, but our 3 for Stable Diffusion XL, whose
    usual layer is the last but one; there its negative prompt keeps the usual layer, which ours
    does not. A1111 ignores the setting for XL. Raises BadInput and NotFinite."""
    encoded = [
        _encode_with(encoder, chunks, dialect, clip_skip, remove) for encoder in model.text_encoders
    ]
    if len({states.shape[1] for states, _ in encoded}) > 1:
        raise BadInput(
            "the model's text encoders read this prompt in different numbers of blocks",
            "make it shorter",
        )
    context = torch.cat([states for states, _ in encoded], 2)
    return Conditioning(context, encoded[-1][1] if model.unet.config.added_dim else None)


def _encode_with(
    encoder: TextEncoder, chunks: Chunks, dialect: str, clip_skip: int, remove: bool
) -> tuple[Tensor, Tensor]:
    """(the states (1, blocks · N, dim) of one encoder; what it pools of the first, (1, D))."""
    network, tokenizer = encoder.network, encoder.tokenizer
    device = next(network.parameters()).device
    layers, layer = len(network.text_model.encoder.layers), max(encoder.layer, clip_skip)
    if clip_skip > layers:
        raise BadInput(
            f"the text encoder has no layer {clip_skip} from its end",
            f"give clip_skip from 1 to {layers}",
        )

    @cache
    def run(tokens: tuple[int, ...], hidden: tuple[bool, ...]) -> TextOutput:
        ids = [tokenizer.bos_id, *tokens, tokenizer.eos_id]
        ids += [tokenizer.pad_id] * (tokenizer.max_length - len(ids))
        visible = None
        if hidden:
            visible = torch.ones(1, tokenizer.max_length, dtype=torch.bool, device=device)
            visible[0, 1 : len(tokens) + 1] = ~torch.tensor(hidden, device=device)
        return network(torch.tensor([ids], device=device), visible)

    def encode(block: Block, hidden: Sequence[bool] = ()) -> Tensor:
        out = run(tuple(token for token, _ in block), tuple(hidden))
        if not encoder.final_norm:
            return out.hidden_states[-layer]
        if layer == 1:
            return out.last_hidden
        return network.text_model.final_layer_norm(out.hidden_states[-layer])

    def encode_block(block: Block, hidden: Sequence[bool] = ()) -> Tensor:
        z = encode(block, hidden)
        if all(weight == 1 for _, weight in block):
            return z
        weights = torch.ones(1, z.shape[1], 1, device=device)
        weights[0, 1 : len(block) + 1, 0] = torch.tensor([weight for _, weight in block])
        if dialect != "a1111":
            return torch.lerp(encode([]), z, weights)
        mean, weighted = z.mean(), z * weights
        return weighted * (mean / weighted.mean()) if weighted.mean() else weighted

    def encode_chunks(some: Sequence[Chunk | Break]) -> Tensor:
        return torch.cat(
            [encode_block(block) for block in split_blocks(tokenizer, some, dialect)], 1
        )

    def encode_masked() -> Tensor:
        """compel's MASK, block by block: a chunk outside of a block changes nothing in it."""
        owned = [Chunk(c.text, i) if isinstance(c, Chunk) else c for i, c in enumerate(chunks)]
        encoded: list[Tensor] = []
        for block, owners in zip(
            split_blocks(tokenizer, chunks, dialect),
            split_blocks(tokenizer, owned, dialect),  # with a token's chunk for its weight
            strict=True,
        ):
            inside = {owner for _, owner in owners}
            here = {i: share for i, share in shares.items() if i in inside}
            states = [encode_block(block)]
            states += [encode_block(block, [owner == i for _, owner in owners]) for i in here]
            rest = total - sum(here.values())
            weights = [share / total for share in (rest, *here.values())]
            encoded.append(add_weighted(torch.cat(states), weights) if here else states[0])
        return torch.cat(encoded, 1)

    shares = {
        i: math.tan((1 - max(chunk.weight, LEAST)) * math.pi / 2)
        for i, chunk in enumerate(chunks)
        if isinstance(chunk, Chunk) and chunk.weight < 1
    }
    total = 1 + sum(shares.values())
    if dialect != "compel":
        states = encode_chunks(chunks)
    elif remove:
        without = (encode_chunks(chunks[:i] + chunks[i + 1 :]) for i in shares)
        states = repeat_to_equal_length([encode_chunks(chunks), *without])
        states = add_weighted(states, [share / total for share in (1.0, *shares.values())])
    else:
        states = encode_masked()
    check_finite(states, "the text encoder, with the prompt's weights,", network)
    first = run(tuple(token for token, _ in split_blocks(tokenizer, chunks, dialect)[0]), ())
    return states, first.pooled if first.embeds is None else first.embeds


def join_texts(
    model: LatentDiffusion, texts: Texts, blend: bool, clip_skip: int = 1
) -> Conditioning:
    """What compel makes of its parts. .blend adds their states and their pooled texts, by weight;
    .and puts the states one behind the other, each moved away from what the empty prompt has in its
    place, by its weight, and pools the first part. (compel itself pools the syntax as if it were
    words.)"""
    parts = [encode_weighted(model, chunks, "compel", clip_skip) for chunks, _ in texts]
    weights = [weight for _, weight in texts]
    if weights == [1.0]:
        return parts[0]
    empty = encode_weighted(model, (), "compel", clip_skip).context
    states = [part.context for part in parts]
    if blend:
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Conditioning(
            add_weighted(pad_with_empty(states, empty), weights),
            add_weighted(torch.cat(pooled), weights) if pooled else None,
        )
    moved = (
        torch.lerp(empty.repeat(1, z.shape[1] // empty.shape[1], 1), z, weight)
        for z, weight in zip(states, weights, strict=True)
    )
    return Conditioning(torch.cat(list(moved), 1), parts[0].pooled)


def pad_with_empty(states: Sequence[Tensor], empty: Tensor) -> Tensor:
    """States (1, N, dim) of unequal N → (B, N, dim), the shorter ones with the empty prompt's
    states behind them, as compel makes them equal."""
    longest = max(z.shape[1] for z in states)
    return torch.cat(
        [
            torch.cat([z, empty.repeat(1, (longest - z.shape[1]) // empty.shape[1], 1)], 1)
            for z in states
        ]
    )


def repeat_to_equal_length(states: Sequence[Tensor]) -> Tensor:
    """States (1, N, dim) of unequal N → (B, M, dim), each repeated as a whole: attention over
    states that are there twice is attention over the states.

    M is the least common multiple, up to MOST_REPEATS times the longest; where it is more, M is the
    longest, and the last repetition is cut off, so that the first states weigh a little more."""
    lengths = [z.shape[1] for z in states]
    equal = math.lcm(*lengths)
    if equal > MOST_REPEATS * max(lengths):
        equal = max(lengths)
    return torch.cat([z.repeat(1, -(-equal // z.shape[1]), 1)[:, :equal] for z in states])


def add_weighted(states: Tensor, weights: Sequence[float]) -> Tensor:
    """Σ weights[i]·states[i], (…) each: (1, …)."""
    factors = torch.tensor(weights, device=states.device).view(-1, *[1] * (states.ndim - 1))
    return (states * factors).sum(0, keepdim=True)
