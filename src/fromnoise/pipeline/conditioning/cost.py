"""What a request costs, estimated before its first step, and the limit that refuses it.

The unit is one default picture of the model: of its own size, with its default steps, guided, from
one block of words. Its cost counts multiplications and additions of the networks: calls × rows ×
pixels × tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fromnoise.diffusion import samplers
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig
from fromnoise.models.tiny_vae import TinyVAEConfig
from fromnoise.pipeline.conditioning.blocks import split_blocks
from fromnoise.pipeline.conditioning.interpolation import InterpolatedPrompt
from fromnoise.pipeline.request import FALLBACK, GenerationRequest
from fromnoise.prompt.grammar import parse_prompt
from fromnoise.prompt.tree import Chunk, Prompt
from fromnoise.runtime.memory import find_memory

LIMIT = 1000.0  # default pictures: as many as the greatest `count` of them
ADAPTIVE = 5  # calls a step of a sampler that takes as many as it needs, about
LOOKS = 8  # steps at which a prompt that changes is looked at
FLOAT = 4  # bytes
CONTROL = 0.5  # of a call of the U-Net: a ControlNet is its way down and its middle


@dataclass(frozen=True)
class Cost:
    """What a request costs: `pictures` in default pictures of the model, `memory` in bytes at the
    peak, both about; `calls` of the network in all, a call counted once for each row; `tokens` of
    the longest context; `blocks` that the text encoder reads."""

    pictures: float
    calls: int
    tokens: int
    blocks: int
    memory: int


def check_cost(
    model: LatentDiffusion,
    request: GenerationRequest,
    prompts: Sequence[str],
    times: int = 1,
    share: float = 1.0,
) -> None:
    """Raises BadInput where a resolved request costs more than its `max_cost`, or more memory than
    there is. prompts, times and share: see `estimate_cost`."""
    limit = LIMIT if request.max_cost is None else request.max_cost
    cost = estimate_cost(model, request, prompts, times, share)
    figure = (
        f"{cost.calls:,} calls of the network for one picture each, at {request.width}x"
        f"{request.height} pixels with {cost.tokens:,} tokens"
    )
    if cost.pictures > limit:
        raise BadInput(
            f"this costs as much as {_round(cost.pictures)} default pictures of this model "
            f"({figure}), and the limit is {_round(limit)}",
            "ask for fewer pictures, steps, pixels or parts of the prompt, or allow it: "
            f"--max-cost {math.ceil(cost.pictures)}, in Python max_cost=…",
        )
    memory = find_memory(next(model.unet.parameters()).device)
    if cost.memory > memory and limit < math.inf:
        raise BadInput(
            f"this takes about {cost.memory / 2**30:,.0f} GiB of memory ({figure}), and there are "
            f"{memory / 2**30:,.0f} GiB",
            "ask for fewer pixels or parts of the prompt; --max-cost inf tries it all the same",
        )


def estimate_cost(
    model: LatentDiffusion,
    request: GenerationRequest,
    prompts: Sequence[str] | None = None,
    times: int = 1,
    share: float = 1.0,
) -> Cost:
    """The cost of a resolved request. prompts: as build_denoiser takes them, the request's own if
    left out; times: the frames of a film; share: the share of the steps that an edit takes."""
    prompts = [request.prompt] if prompts is None else prompts
    factor, size = model.vae.config.factor, model.size
    high, wide = (request.height or size) // factor, (request.width or size) // factor
    entry, block = samplers.find(request.sampler or ""), model.tokenizer.max_length
    steps = math.ceil((request.steps or 1) * share * (entry.evaluations or ADAPTIVE))
    negative = parse_prompt(request.negative_prompt, request.dialect)
    distilled = model.unet.config.guidance_dim is not None  # such a model guides itself
    paired = (request.cfg != 1 or entry.uncond) and not distilled
    unlike = max(_list_lengths(model, negative, request.steps or 1)) * block if paired else 0
    # what an IP-Adapter shows beside the words, and networks that run beside the U-Net
    seen = 0 if model.image_tokens is None else model.image_tokens[0].shape[1]
    addons = model.addons or request.addons
    beside = 1 + CONTROL * (len(addons.controls) if addons else 0)
    work, calls, longest, blocks, contexts = 0.0, 0, unlike, unlike // block, 0
    for text in prompts:
        count = (request.count if len(prompts) == 1 else 1) * times
        ends = (text.start, text.end) if isinstance(text, InterpolatedPrompt) else (text,)
        parsed = [parse_prompt(end, request.dialect) for end in ends]
        lengths = [[n * block for n in _list_lengths(model, p, request.steps or 1)] for p in parsed]
        parts = max(lengths, key=sum)
        for tokens in (*parts, *([unlike] if paired else [])):
            each = count_unet_work(model.unet.config, high, wide, tokens + seen)
            work += steps * count * beside * each
        calls += steps * count * (len(parts) + paired)
        longest, contexts = max(longest, *parts), contexts + sum(parts) + unlike
        versions = 1 if all(map(_is_constant, parsed)) else request.steps or 1
        blocks += sum(map(sum, lengths)) // block * versions + _count_weak_chunks(parsed)
        work += count * count_decoder_work(model.vae.config, high, wide)
    reading = sum(count_text_work(encoder.network.config) for encoder in model.text_encoders)
    work += blocks * reading
    default = int((FALLBACK | model.defaults)["steps"]), size // factor
    unit = 2 * default[0] * count_unet_work(model.unet.config, default[1], default[1], block)
    unit += count_decoder_work(model.vae.config, default[1], default[1])
    unit += 2 * reading
    contexts += 2 * seen
    memory = _count_memory(model, high, wide, contexts, request.count)
    return Cost(work / unit, calls, longest + seen, blocks, memory)


def count_unet_work(config: UNetConfig, high: int, wide: int, tokens: int) -> float:
    """Multiplications (with their additions) of one call for one picture of high × wide latents,
    shown so many tokens: convolutions, and attention over pixels and tokens."""
    work, layers, last = 0.0, config.layers_per_block, len(config.block_out_channels) - 1
    for level, width in enumerate(config.block_out_channels):
        pixels = math.ceil(high / 2**level) * math.ceil(wide / 2**level)
        # two 3×3 convolutions a layer on the way down; on the way up the first sees twice as much
        work += 9 * width**2 * pixels * (2 * layers + 3 * (layers + 1))
        attentions = (2 * layers + 1) * config.attention[level]
        attentions += config.mid_attention and level == last
        # projections, GEGLU (4 + 2 + 12 matrices of width²), the two attentions
        each = 18 * width**2 * pixels + 2 * pixels * width * (pixels + tokens)
        work += attentions * config.transformer_depth[level] * each
    return work


def count_decoder_work(config: VAEConfig | TinyVAEConfig, high: int, wide: int) -> float:
    """The same of the autoencoder's decoder, for high × wide latents."""
    if isinstance(config, TinyVAEConfig):  # three convolutions a block, and one a level
        levels = enumerate(zip(config.decoder_widths, config.decoder_blocks, strict=True))
        return float(sum(9 * w**2 * high * wide * 4**i * (3 * n + 1) for i, (w, n) in levels))
    widths = config.block_out_channels
    work = 2.0 * config.mid_attention * (high * wide) ** 2 * widths[-1]
    for level, width in enumerate(reversed(widths)):
        work += 9 * width**2 * high * wide * 4**level * 2 * (config.layers_per_block + 1)
    return work


def count_text_work(config: CLIPTextConfig) -> float:
    """The same of the text encoder, for one block of tokens."""
    tokens, width = config.max_length, config.dim
    each = tokens * (4 * width**2 + 2 * width * config.mlp_dim) + 2 * tokens**2 * width
    return float(config.layers * each)


def _list_lengths(model: LatentDiffusion, prompt: Prompt, steps: int) -> list[int]:
    """Blocks of each context that the network is shown at a step, at most: one context a part of
    a1111's AND, one for all that compel joins."""
    longest: list[int] = []
    for step in sorted({round(i * (steps - 1) / (LOOKS - 1)) for i in range(LOOKS)}):
        resolved = prompt.resolve(step, steps)
        lengths = [len(split_blocks(model.tokenizer, p.chunks, prompt.dialect)) for p in resolved]
        if prompt.dialect == "compel":
            lengths = [max(lengths) if prompt.blend else sum(lengths)]
        longest = max(longest, lengths, key=sum)
        if _is_constant(prompt):
            break
    return longest


def _is_constant(prompt: Prompt) -> bool:
    """Whether a prompt is the same at every step."""
    return all(isinstance(node, Chunk) for part in prompt.parts for node in part.nodes)


def _count_weak_chunks(prompts: Sequence[Prompt]) -> int:
    """Blocks that compel reads once more: without each chunk that weighs less than 1."""
    return sum(
        isinstance(node, Chunk) and node.weight < 1
        for prompt in prompts
        for part in prompt.parts
        for node in part.nodes
        if prompt.dialect == "compel"
    )


def _count_memory(model: LatentDiffusion, high: int, wide: int, tokens: int, count: int) -> int:
    """Bytes at the peak: the activations that the U-Net keeps for its way up, or the widest layers
    of the decoder; and what stays: projected tokens, latents and finished pictures."""
    config, vae = model.unet.config, model.vae.config
    kept = sum(
        2 * (config.layers_per_block + 2) * width * high * wide // 4**level
        for level, width in enumerate(config.block_out_channels)
    )
    pixels = high * wide * vae.factor**2
    decoded = 3 * pixels * vae.block_out_channels[0]
    projected = tokens * sum(
        2 * width * depth * (2 * config.layers_per_block + 1)
        for width, depth, holds in zip(
            config.block_out_channels, config.transformer_depth, config.attention, strict=True
        )
        if holds
    )
    states = 3 * tokens * config.context_dim
    latents = 6 * count * vae.latent_channels * high * wide
    return FLOAT * (max(kept, decoded) + projected + states + latents) + 3 * count * pixels


def _round(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
