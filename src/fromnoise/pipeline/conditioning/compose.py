"""Prompts with weights, times and parts: what the network is shown at each step, and how its
answers become one."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from fromnoise.diffusion import samplers
from fromnoise.diffusion.guidance import Guidance
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.variation import slerp
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.unet import Conditioning
from fromnoise.pipeline.conditioning import regions
from fromnoise.pipeline.conditioning.blocks import Observer, Texts, split_blocks
from fromnoise.pipeline.conditioning.encode import repeat_to_equal_length
from fromnoise.pipeline.conditioning.regions import place_regions
from fromnoise.pipeline.conditioning.weights import encode_weighted, join_texts, pad_with_empty
from fromnoise.pipeline.denoiser import make_denoiser
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.prompt.grammar import parse_prompt
from fromnoise.prompt.tree import Mask, Prompt
from fromnoise.runtime.prepare import Prepared

Shown = tuple[
    list["Texts | InterpolatedTexts"], list[Tensor | float]
]  # the parts of a prompt at a step, and their weights


class InterpolatedPrompt(str):
    """A prompt `share` ∈ (0, 1) of the way from the prompt `start` to the prompt `end`. As a text,
    a mere description. blend: "linear" or "slerp", of the text encoder's states, see `interpolate_prompts`."""

    def __new__(
        cls, start: str, end: str, share: float, blend: str = "linear"
    ) -> "InterpolatedPrompt":
        made = super().__new__(
            cls, f"[{start!r} to {end!r}, {blend} {share!r}]"
        )  # brackets: it is more than words
        made.start, made.end, made.share, made.blend = start, end, share, blend
        return made

    start: str
    end: str
    share: float
    blend: str


class InterpolatedTexts(NamedTuple):
    """Texts on the way to other texts, each with whether compel's .blend joins it."""

    start: tuple[Texts, bool]
    end: tuple[Texts, bool]
    share: float
    blend: str


def interpolate_prompts(
    a: Shown, b: Shown, blends: Sequence[bool], to: InterpolatedPrompt
) -> Shown:
    """Two prompts at a step → what is `to.share` of the way from one to the other: part by part the
    states of both, and their weights in proportion. A part that only one of them has comes or goes
    by its weight."""
    parts: list[Texts | InterpolatedTexts] = []
    weights: list[Tensor | float] = []
    for (x, before), (y, after) in zip_longest(
        zip(*a, strict=True), zip(*b, strict=True), fillvalue=(None, 0.0)
    ):
        assert not isinstance(x, InterpolatedTexts) and not isinstance(y, InterpolatedTexts)  # noqa: PT018
        both = x and y and InterpolatedTexts((x, blends[0]), (y, blends[1]), to.share, to.blend)
        parts.append(both or x or y or ())
        weights.append(before + to.share * (after - before))
    return parts, weights


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
    """What `generate.build_denoiser` gives, of prompts that are more than words: (answers, notes for who
    asked)."""
    notes: dict[str, None] = {}  # each once
    made = {
        text: _of_one(model, unet, request, text, guide, notes, observer, first)
        for text in dict.fromkeys(prompts)
    }
    if len(made) == 1:
        return made[prompts[0]], list(notes)

    def answer(query: Query) -> Answer:
        images = range(len(query.x)) if query.image is None else [query.image]
        found = [
            made[prompts[i]](replace(query, x=x, image=i))
            for i, x in zip(images, query.x.split(1), strict=True)
        ]
        unguided = [a.x0_uncond for a in found if a.x0_uncond is not None]
        return Answer(torch.cat([a.x0 for a in found]), torch.cat(unguided) if unguided else None)

    return answer, list(notes)


def _of_one(
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    text: str,
    guide: Prepared | None,
    notes: dict[str, None],
    observer: Observer | None,
    first: int,
) -> Callable[[Query], Answer]:
    """One prompt's answers. Of words alone they are, to the bit, those of the same words in
    `build_denoiser`."""
    entry, steps, guidance = (
        samplers.find(request.sampler or ""),
        request.steps or 1,
        request.guidance,
    )
    ends = (text.start, text.end) if isinstance(text, InterpolatedPrompt) else (text,)
    prompts = [parse_prompt(one, request.dialect) for one in ends]
    # in A1111's negative prompts AND is a word like another
    negative = parse_prompt(re.sub(r"\bAND\b", "and", request.negative_prompt), request.dialect)
    for network in (network for one in (*prompts, negative) for network in one.networks):
        raise BadInput(
            f"the prompt asks for {network.kind} {network.name!r}",
            "leave it out: none can be loaded yet",
        )
    if any(part.regions for part in negative.parts):
        raise BadInput(
            "a negative prompt holds everywhere, and this one has a region", "leave out its MASK"
        )
    if request.dialect != "compel" and any(part.weight != 1 for part in negative.parts):
        notes[
            "the weight of the negative prompt as a whole is not used: weigh its words, as in (dog:0.5)"
        ] = None
    factor = model.vae.config.factor
    side = (request.height or model.size) // factor, (request.width or model.size) // factor
    masks = regions.read_region_masks(request.masks, *side, notes) if request.masks else {}
    parts = [part for one in prompts for part in one.parts]
    used = [region.name for part in parts for region in part.regions if isinstance(region, Mask)]
    for name in masks:
        if name not in used:
            notes[f"the mask {name!r} is not used: the prompt has no IMASK({name})"] = None
    distilled = None
    if model.unet.config.guidance_dim is not None:
        distilled, guidance = torch.tensor([float(request.cfg or 0)]), Guidance()

    compel = request.dialect == "compel"

    def level(both: list[Tensor]) -> Sequence[Tensor]:
        return (
            pad_with_empty(both, states((((), 1.0),), False))
            if compel
            else repeat_to_equal_length(both)
        ).split(1)

    @cache
    def states(texts: Texts | InterpolatedTexts, blend: bool) -> Tensor:
        if isinstance(texts, InterpolatedTexts):
            start, end = level([states(*texts.start), states(*texts.end)])
            return (
                torch.lerp(start, end, texts.share)
                if texts.blend == "linear"
                else slerp(texts.share, start, end)
            )
        if compel:
            return join_texts(model, texts, blend, request.clip_skip)
        return encode_weighted(model, texts[0][0], request.dialect, request.clip_skip)

    @cache
    def asker(texts: Texts | InterpolatedTexts, against: Texts | None) -> Callable[[Query], Answer]:
        """Shows the network texts, and beside them, if given, what to stay away from, or the weaker
        network."""
        shown, unlike = states(texts, prompts[0].blend), None
        if against is not None and guide is None:
            shown, unlike = level([shown, states(against, negative.blend)])
        conditioning, weaker = (
            Conditioning(shown, guidance=distilled),
            None if against is None else guide,
        )
        return make_denoiser(
            unet,
            model.schedule,
            model.prediction,
            conditioning,
            unlike,
            None,
            against is not None,
            weaker,
            None
            if observer is None or isinstance(texts, InterpolatedTexts)
            else partial(observer, texts),
        )

    def shown(prompt: Prompt, step: int, total: int) -> Shown:
        now = prompt.resolve(step, total, first)
        if compel:
            return [tuple((part.chunks, part.weight) for part in now)], [1.0]
        weights = [part.weight * place_regions(part.regions, *side, factor, masks) for part in now]
        return [((part.chunks, 1.0),) for part in now], weights

    @cache
    def at(
        step: int, total: int
    ) -> tuple[list[Texts | InterpolatedTexts], list[Tensor | float], Texts]:
        """(the parts, their weights, the negative prompt) at a step of so many."""
        texts, weights = shown(prompts[0], step, total)
        if isinstance(text, InterpolatedPrompt):
            blends = [one.blend for one in prompts]
            texts, weights = interpolate_prompts(
                (texts, weights), shown(prompts[1], step, total), blends, text
            )
        against = negative.resolve(step, total, first)[: None if compel else 1]
        return (
            texts,
            weights,
            tuple((part.chunks, part.weight if compel else 1.0) for part in against),
        )

    for name, which in (*(("prompt", one) for one in prompts), ("negative prompt", negative)):
        for resolved in which.resolve(0, steps, first):
            found = split_blocks(model.tokenizer, resolved.chunks, which.dialect)
            if len(found) > 1:
                count, room = sum(map(len, found)), model.tokenizer.max_length - 2
                notes[f"the {name} has {count} tokens, read in {len(found)} blocks of {room}"] = (
                    None
                )
    at(0, steps)  # so that what is wrong is said before the first step
    remembered: dict[int, Tensor | None] = {}  # what projected guidance remembers of pictures
    calls: Counter[int | None] = Counter()

    def answer(query: Query) -> Answer:
        step, total = query.step, steps
        if request.prompt_steps == "call":
            step, total = max(calls[query.image] - 1, 0), steps * (entry.evaluations or 1)
            calls[query.image] += 1
        texts, weights, against = at(step, total)
        acts = guidance.acts(query.sigma, query.step)
        paired = acts or entry.uncond or not adds_up_to_one(weights)
        if paired and distilled is not None:
            raise BadInput(
                "this model was distilled to guide itself: AND cannot add up to more or less than one part",
                "give weights that add up to 1, such as: a cat :0.5 AND a dog :0.5",
            )
        found = [
            asker(part, against if paired and i == 0 else None)(query)
            for i, part in enumerate(texts)
        ]
        x0, uncond = found[0].x0, found[0].x0_uncond
        if len(weights) > 1 or isinstance(weights[0], Tensor) or weights[0] != 1:
            x0 = combine_predictions([a.x0 for a in found], weights, uncond)
        if (
            acts and uncond is not None
        ):  # image by image, so that each has its own bits in any batch
            images = range(len(x0)) if query.image is None else [query.image]
            mixed = []
            for i, with_words, without in zip(images, x0.split(1), uncond.split(1), strict=True):
                guided, remembered[i] = guidance.mix(with_words, without, remembered.get(i))
                mixed.append(guided)
            x0 = torch.cat(mixed)
        return Answer(x0, uncond)

    return answer
