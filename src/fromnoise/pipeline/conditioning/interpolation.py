"""Prompts on the way from one prompt to another, as films show them."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from torch import Tensor

from fromnoise.pipeline.conditioning.blocks import Texts


class InterpolatedPrompt(str):
    """A prompt `share` ∈ (0, 1) of the way from the prompt `start` to the prompt `end`. The string
    itself is a mere description. blend: "linear" or "slerp", of the text encoder's states, see
    `interpolate_prompts`."""

    def __new__(
        cls, start: str, end: str, share: float, blend: str = "linear"
    ) -> "InterpolatedPrompt":
        # its brackets make it more than words
        prompt = super().__new__(cls, f"[{start!r} to {end!r}, {blend} {share!r}]")
        prompt.start, prompt.end, prompt.share, prompt.blend = start, end, share, blend
        return prompt

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


# the parts of a prompt at a step, and their weights
WeightedParts = tuple[list[Texts | InterpolatedTexts], list[Tensor | float]]


def interpolate_prompts(
    start: WeightedParts, end: WeightedParts, blends: Sequence[bool], prompt: InterpolatedPrompt
) -> WeightedParts:
    """Two prompts at a step → what is `prompt.share` of the way from one to the other: part by part
    the states of both, and their weights in proportion. A part that only one of them has comes or
    goes by its weight."""
    parts: list[Texts | InterpolatedTexts] = []
    weights: list[Tensor | float] = []
    pairs = zip_longest(zip(*start, strict=True), zip(*end, strict=True), fillvalue=((), 0.0))
    for (first, before), (second, after) in pairs:
        assert not isinstance(first, InterpolatedTexts)
        assert not isinstance(second, InterpolatedTexts)
        if first and second:
            ends = (first, blends[0]), (second, blends[1])
            parts.append(InterpolatedTexts(*ends, prompt.share, prompt.blend))
        else:
            parts.append(first or second)
        weights.append(before + prompt.share * (after - before))
    return parts, weights
