"""Prompts with weights, times and parts: what the network is shown at each step, and how its
answers become one."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import torch
from torch import Tensor

from fromnoise.diffusion import samplers
from fromnoise.diffusion.guidance import Guidance
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.variation import slerp
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.conditioning.blocks import Observer, Texts, split_blocks
from fromnoise.pipeline.conditioning.cost import check_cost
from fromnoise.pipeline.conditioning.interpolation import (
    InterpolatedPrompt,
    InterpolatedTexts,
    WeightedParts,
    interpolate_prompts,
)
from fromnoise.pipeline.conditioning.regions import place_regions, read_region_masks
from fromnoise.pipeline.conditioning.weights import (
    encode_weighted,
    join_texts,
    pad_with_empty,
    repeat_to_equal_length,
)
from fromnoise.pipeline.denoiser import make_denoiser
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.prompt.grammar import parse_prompt
from fromnoise.prompt.tree import Mask, Prompt, list_leaves
from fromnoise.runtime.prepare import Prepared

RATIO = re.compile(r"\d:\d+(?:\.\d+)?\s*(?:\bAND\b|\Z)")  # as in "ratio 16:9 AND a dog"
# texts whose states and projections are kept for the steps to come; a prompt that changes at every
# step would otherwise keep those of every step
KEPT = 16


def combine_predictions(
    x0: list[Tensor], weights: Sequence[Tensor | float], uncond: Tensor | None
) -> Tensor:
    """AND's parts as one conditional picture: uncond + Σ w·(x0 − uncond) (Liu et al. 2022
    "Compositional visual generation", eq. 11, and A1111). Where weights are of regions, (1, 1, h,
    w), a place takes the mean of the parts that hold there, by their weights, as in ComfyUI, and
    `uncond` where none does. See `adds_up_to_one` for uncond None."""
    whole, total = sum(weights), sum(w * x for w, x in zip(weights, x0, strict=True))
    assert isinstance(total, Tensor)
    if isinstance(whole, Tensor):
        mean = total / whole.where(whole > 0, 1.0)
        return mean if uncond is None else torch.where(whole > 0, mean, uncond)
    return total if uncond is None else total + (1 - whole) * uncond


def adds_up_to_one(weights: Sequence[Tensor | float]) -> bool:
    """Whether `combine_predictions` of parts of these weights needs no unconditional picture."""
    whole = sum(weights)
    return bool((whole > 0).all()) if isinstance(whole, Tensor) else whole == 1


def build_composed_denoiser(
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    prompts: list[str],
    guide: Prepared | None,
    observer: Observer | None = None,
    first: int = 0,
) -> tuple[Callable[[Query], Answer], list[str]]:
    """What `generate.build_denoiser` gives, for prompts that are more than words, and for models
    that were distilled to guide themselves: (answers, notes for the user)."""
    if model.unet.config.guidance_dim is not None and (
        request.negative_prompt or guide or samplers.find(request.sampler or "").uncond
    ):
        raise BadInput(
            "this model was distilled to guide itself and knows no negative prompt, CFG++ or guide",
            "leave them out; --cfg still says how strongly the prompt pulls",
        )
    check_cost(model, request, prompts)
    notes: dict[str, None] = {}  # each once
    denoisers = {
        text: _build_one(model, unet, request, text, guide, notes, observer, first)
        for text in dict.fromkeys(prompts)
    }
    if len(denoisers) == 1:
        return denoisers[prompts[0]], list(notes)

    def answer(query: Query) -> Answer:
        images = range(len(query.x)) if query.image is None else [query.image]
        answers = [
            denoisers[prompts[i]](replace(query, x=x, image=i))
            for i, x in zip(images, query.x.split(1), strict=True)
        ]
        unguided = [a.x0_uncond for a in answers if a.x0_uncond is not None]
        return Answer(torch.cat([a.x0 for a in answers]), torch.cat(unguided) if unguided else None)

    return answer, list(notes)


def _parse(request: GenerationRequest, text: str) -> tuple[list[Prompt], Prompt]:
    """(the prompt, or both ends of an interpolated one; the negative prompt). Raises BadInput for
    what cannot be drawn."""
    ends = (text.start, text.end) if isinstance(text, InterpolatedPrompt) else (text,)
    prompts = [parse_prompt(end, request.dialect) for end in ends]
    # in A1111's negative prompts AND is a word like another
    negative = parse_prompt(re.sub(r"\bAND\b", "and", request.negative_prompt), request.dialect)
    if any(part.regions for part in negative.parts):
        raise BadInput(
            "a negative prompt holds everywhere, and this one has a region", "leave out its MASK"
        )
    return prompts, negative


def _note_prompts(
    model: LatentDiffusion,
    request: GenerationRequest,
    text: str,
    prompts: list[Prompt],
    negative: Prompt,
    first: int,
) -> list[str]:
    """What the user should know of the prompts."""
    notes = []
    if request.dialect == "a1111" and RATIO.search(text) and len(prompts[0].parts) > 1:
        notes.append(r"a number behind a colon weighs a part of AND; \: makes it words: 16\:9")
    used = {
        region.name
        for one in prompts
        for part in one.parts
        for region in part.regions
        if isinstance(region, Mask)
    }
    notes += [
        f"the mask {name!r} is not used: the prompt has no IMASK({name})"
        for name in request.masks
        if name not in used
    ]
    named = [*(("prompt", one) for one in prompts), ("negative prompt", negative)]
    for name, prompt in named:
        for part in prompt.resolve(0, request.steps or 1, first):
            blocks = split_blocks(model.tokenizer, part.chunks, prompt.dialect)
            if len(blocks) > 1:
                count, room = sum(map(len, blocks)), model.tokenizer.max_length - 2
                notes.append(
                    f"the {name} has {count} tokens, read in {len(blocks)} blocks of {room}"
                )
    nodes = (part.nodes for one in (*prompts, negative) for part in one.parts)
    return notes + model.note_unknown_words(c.text for n in nodes for c in list_leaves(n))


def _build_one(
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    text: str,
    guide: Prepared | None,
    notes: dict[str, None],
    observer: Observer | None,
    first: int,
) -> Callable[[Query], Answer]:
    """The answers of one prompt. Those of words alone are, to the bit, `generate.build_denoiser`'s
    of the same words."""
    entry, steps = samplers.find(request.sampler or ""), request.steps or 1
    guidance, compel = request.guidance, request.dialect == "compel"
    prompts, negative = _parse(request, text)
    factor = model.vae.config.factor
    side = (request.height or model.size) // factor, (request.width or model.size) // factor
    masks = read_region_masks(request.masks, *side, notes) if request.masks else {}
    notes.update(dict.fromkeys(_note_prompts(model, request, text, prompts, negative, first)))
    # what the network is told beside the prompt and the negative prompt
    extras: tuple[dict[str, Tensor], ...] = {}, {}
    distilled = model.unet.config.guidance_dim is not None
    if distilled:  # to guide itself
        extras[0]["guidance"], guidance = torch.tensor([float(request.cfg or 0)]), Guidance()
    if model.addons and model.addons.controls:  # some act where the prompt is shown alone
        extras[0]["negative"], extras[1]["negative"] = torch.zeros(1), torch.ones(1)
    if model.image_tokens is not None:
        if guide is not None:
            raise BadInput("a guide cannot look at pictures", "leave out --guide or --ip-adapter")
        for one, tokens in zip(extras, model.image_tokens, strict=True):
            one["image_tokens"] = tokens
    if model.unet.config.added_dim:
        from fromnoise.pipeline.conditioning.sizes import make_time_ids

        for one, ids in zip(extras, make_time_ids(model, request), strict=True):
            one["time_ids"] = ids
    elif request.size_conditions:
        raise BadInput(
            f"this model is told no sizes: {', '.join(request.size_conditions)}",
            "leave out size_conditions, which are for Stable Diffusion XL",
        )
    kept = KEPT + max(len(one.parts) for one in prompts)

    def make_equal(*pair: Conditioning) -> list[Conditioning]:
        contexts = [one.context for one in pair]
        if compel:
            equal = pad_with_empty(contexts, encode((((), 1.0),), False).context)
        else:
            equal = repeat_to_equal_length(contexts)
        return [replace(one, context=z) for one, z in zip(pair, equal.split(1), strict=True)]

    @lru_cache(kept)
    def encode(texts: Texts | InterpolatedTexts, blend: bool) -> Conditioning:
        if isinstance(texts, InterpolatedTexts):
            start, end = make_equal(encode(*texts.start), encode(*texts.end))
            if texts.blend == "linear":
                return start.map(lambda k, v: torch.lerp(v, getattr(end, k), texts.share))
            return start.map(lambda k, v: slerp(texts.share, v, getattr(end, k)))
        if compel:
            return join_texts(model, texts, blend, request.clip_skip)
        return encode_weighted(model, texts[0][0], request.dialect, request.clip_skip)

    def encode_negative(texts: Texts) -> Conditioning:
        unlike = encode(texts, negative.blend)
        if model.zero_empty_negative and not request.negative_prompt:
            return unlike.map(lambda _, value: torch.zeros_like(value))
        return unlike

    @lru_cache(kept)
    def make_part(
        texts: Texts | InterpolatedTexts, against: Texts | None
    ) -> Callable[[Query], Answer]:
        """Answers for one part; against: what to stay away from, or None where the part is shown
        alone. A guide, where there is one, takes its place."""
        shown, unlike = encode(texts, prompts[0].blend), None
        if against is not None and guide is None:
            unlike = encode_negative(against)
            short, long = sorted((shown.context.shape[1], unlike.context.shape[1]))
            # in one call where that costs no more than two equal prompts, else in two calls
            if compel or long % short == 0:
                shown, unlike = make_equal(shown, unlike)
            unlike = replace(unlike, **extras[1])
        watch = None
        if observer is not None and not isinstance(texts, InterpolatedTexts):
            watch = partial(observer, texts)
        return make_denoiser(
            unet,
            model.schedule,
            model.prediction,
            replace(shown, **extras[0]),
            unlike,
            always=against is not None,
            guide=None if against is None else guide,
            observer=watch,
        )

    @lru_cache(2)
    def make_blind(against: Texts, network: Prepared) -> Callable[[Query], Answer]:
        """Answers for the negative prompt, of the network that sees no picture."""
        unlike = replace(encode_negative(against), **extras[1])
        return make_denoiser(network, model.schedule, model.prediction, unlike)

    @lru_cache(kept)
    def place_part(regions: tuple) -> Tensor | float:
        return place_regions(regions, *side, factor, masks)

    def weigh_parts(prompt: Prompt, step: int, total: int) -> WeightedParts:
        parts = prompt.resolve(step, total, first)
        if compel:
            return [tuple((part.chunks, part.weight) for part in parts)], [1.0]
        weights = [part.weight * place_part(part.regions) for part in parts]
        return [((part.chunks, 1.0),) for part in parts], weights

    @lru_cache(2)
    def resolve(
        step: int, total: int
    ) -> tuple[list[Texts | InterpolatedTexts], list[Tensor | float], Texts]:
        """(the parts, their weights, the negative prompt) at a step of so many."""
        texts, weights = weigh_parts(prompts[0], step, total)
        if isinstance(text, InterpolatedPrompt):
            end = weigh_parts(prompts[1], step, total)
            blends = [one.blend for one in prompts]
            texts, weights = interpolate_prompts((texts, weights), end, blends, text)
        against = negative.resolve(step, total, first)[: None if compel else 1]
        weighted = tuple((part.chunks, part.weight if compel else 1.0) for part in against)
        return texts, weights, weighted

    resolve(0, steps)  # so that what is wrong is said before the first step
    momenta: dict[int, Tensor | None] = {}  # of projected guidance, by picture
    calls: Counter[int | None] = Counter()

    def answer(query: Query) -> Answer:
        step, total = query.step, steps
        if request.prompt_steps == "call":
            step, total = max(calls[query.image] - 1, 0), steps * (entry.evaluations or 1)
            calls[query.image] += 1
        texts, weights, against = resolve(step, total)
        acts = guidance.acts(query.sigma, query.step)
        blind = unet.without_picture
        paired = acts or entry.uncond or blind is not None or not adds_up_to_one(weights)
        if paired and distilled:
            raise BadInput(
                "this model was distilled to guide itself: the weights of AND must add up to 1",
                "give such weights: a cat :0.5 AND a dog :0.5",
            )
        answers = [
            make_part(part, against if paired and i == 0 else None)(query)
            for i, part in enumerate(texts)
        ]
        x0, uncond = answers[0].x0, answers[0].x0_uncond
        if len(weights) > 1 or isinstance(weights[0], Tensor) or weights[0] != 1:
            x0 = combine_predictions([a.x0 for a in answers], weights, uncond)
        # image by image, so that each has its own bits in any batch
        if acts and uncond is not None:
            images = range(len(x0)) if query.image is None else [query.image]
            mixed = []
            for i, with_words, without in zip(images, x0.split(1), uncond.split(1), strict=True):
                guided, momenta[i] = guidance.mix(with_words, without, momenta.get(i))
                mixed.append(guided)
            x0 = torch.cat(mixed)
        if blind is not None and uncond is not None:
            # Brooks et al. 2023 "InstructPix2Pix", eq. 3: how far the picture changes the answer
            without = make_blind(against, blind[0])(query).x0
            x0 = x0 + (blind[1] - 1) * (uncond - without)
        return Answer(x0, uncond)

    return answer
