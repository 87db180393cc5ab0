"""Measures whether word maps point at what a word names: maps of cross-attention against the true
mask, on pictures of a source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fromnoise.api import Engine
from fromnoise.data.loader import to_tensor
from fromnoise.data.source import Sample, Source
from fromnoise.diffusion.samplers.base import Query
from fromnoise.pipeline.generate import build_denoiser
from fromnoise.pipeline.inside.trace import END, START, Trace, Word
from fromnoise.pipeline.request import GenerationRequest

SEEDS = 9_000_000_000  # pictures for this measurement and nothing else
# from a map's least to its most, chosen on 250 other pictures (seeds from 9.1e9): what fills the
# picture draws weaker and wider attention than what stands in it
INSIDE, OUTSIDE = 0.6, 0.25


@dataclass(frozen=True)
class Pointing:
    """Intersection over union of thresholded maps with the mask: of the word itself, and of another
    word of the same caption, drawn by lot. Each (n,)."""

    own: np.ndarray
    other: np.ndarray

    def figures(self) -> dict[str, tuple[float, float]]:
        """Means and standard errors; `above` is that of the paired difference."""
        rows = {"own": self.own, "other": self.other, "above": self.own - self.other}
        return {
            name: (float(v.mean()), float(v.std(ddof=1) / len(v) ** 0.5))
            for name, v in rows.items()
        }


def choose_scenes(
    source: Source, inside: str, outside: str, n: int, seed: int
) -> Iterator[tuple[int, Sample, list[str]]]:
    """(seed, sample, [the words for what is in the mask, for what is not]) of n samples whose
    captions have both."""
    count = 0
    while count < n:
        sample = source.sample(seed)
        words = [_phrase(sample, source, name) for name in (inside, outside)]
        one = sum(source.schema[inside] == source.schema[name] for name in sample.attributes) == 1
        if all(words) and one:  # a second object is in the mask too, under another name
            yield seed, sample, words
            count += 1
        seed += 1


def _phrase(sample: Sample, source: Source, attribute: str) -> str:
    """What the caption calls its value of an attribute, the longest of its names; "" where it does
    not."""
    names = (
        source.list_names(attribute)[sample.attributes[attribute]]
        if attribute in sample.stated
        else ()
    )
    return max((name for name in names if name in sample.caption), key=len, default="")


def _split(words: Sequence[Word], caption: str, phrase: str) -> tuple[list[Word], list[Word]]:
    """(the words that lie in the phrase, the others)."""
    start, position = caption.rindex(phrase), 0
    both: tuple[list[Word], list[Word]] = [], []
    for word in words:
        if word.text not in (START, END):
            position = caption.index(word.text, position)
            both[not start <= position < start + len(phrase)].append(word)
            position += len(word.text)
    return both


def _mask(map: Tensor, size: int, level: float) -> np.ndarray:
    """A map (h, w) → bool (size, size): more than `level` of the way from its least to its most."""
    large = F.interpolate(map[None, None], (size, size), mode="bilinear", align_corners=False)[0, 0]
    return (large > large.min() + level * (large.max() - large.min())).numpy()


@torch.inference_mode()
def evaluate(
    engine: Engine, source: Source, inside: str, outside: str, n: int = 200, seed: int = SEEDS
) -> tuple[Pointing, Pointing]:
    """(of the words for what the mask holds, of the words for what it leaves), on pictures of the
    source with noise of the schedule's middle, maps averaged over layers and heads."""
    model = engine.model
    sigma = float(model.schedule.sigmas[len(model.schedule) // 2])
    rng, rows = np.random.default_rng(seed), []
    for scene_seed, sample, phrases in choose_scenes(source, inside, outside, n, seed):
        assert sample.image is not None and sample.mask is not None  # noqa: PT018
        request = GenerationRequest.of(
            prompt=sample.caption, cfg=1, seed=scene_seed % 2**32
        ).resolve(model)
        trace = Trace(model, request)
        x0 = (
            model.vae.to_latents(to_tensor(sample.image[None]).to(next(model.vae.parameters())))
            .float()
            .cpu()
        )
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(scene_seed % 2**32))
        answer, _ = build_denoiser(
            model, engine.unet, request, [sample.caption], None, trace.observe
        )
        answer(Query(x0 + sigma * noise, sigma, 0))
        row = []
        for phrase, mask, level in zip(
            phrases, (sample.mask, ~sample.mask), (INSIDE, OUTSIDE), strict=True
        ):
            own, others = _split(trace.calls[0][0].words, sample.caption, phrase)
            for words in (own, [others[int(rng.integers(len(others)))]]):
                area = _mask(
                    torch.stack([trace.map(word) for word in words]).sum(0), source.size, level
                )
                row.append((area & mask).sum() / (area | mask).sum())
        rows.append(row)
    values = np.array(rows)
    return Pointing(values[:, 0], values[:, 1]), Pointing(values[:, 2], values[:, 3])
