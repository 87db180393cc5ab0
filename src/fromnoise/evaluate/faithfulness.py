"""Measures prompt-following: compares what captions state with what the judge reads in the pictures
that were drawn from them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from math import sqrt

import numpy as np

from fromnoise.api import Engine
from fromnoise.data.source import Sample, Source
from fromnoise.diffusion.samplers.drive import drive
from fromnoise.evaluate.judge import Judge
from fromnoise.evaluate.reconstruction import to_pictures
from fromnoise.pipeline.generate import build_denoiser, start_sampler
from fromnoise.pipeline.request import GenerationRequest

SEEDS = 7_000_000_000  # captions (and seeds of the pictures) for this measurement and nothing else
HELD_OUT_SEEDS = 7_500_000_000

# prompts and seeds → uint8 pictures (B, H, W, 3)
Draw = Callable[[list[str], list[int]], np.ndarray]


@dataclass(frozen=True)
class Score:
    """A count: `right` of `n`."""

    right: int
    n: int

    @property
    def accuracy(self) -> float:
        return self.right / self.n if self.n else float("nan")

    @property
    def error(self) -> float:
        """The standard error of the accuracy. Two successes and two failures are added (Agresti and
        Coull), so that it is never 0."""
        p, n = (self.right + 2) / (self.n + 4), self.n + 4
        return sqrt(p * (1 - p) / n)


@dataclass(frozen=True)
class Ratio:
    """An accuracy as a fraction of another, with its standard error.

    The error is that of independent accuracies. Accuracies on the same scenes are correlated, and
    for them it is an upper bound.
    """

    value: float
    error: float

    @classmethod
    def of(cls, a: Score, b: Score) -> "Ratio":
        if not a.n or not b.right:
            return cls(float("nan"), float("nan"))
        value = a.accuracy / b.accuracy
        return cls(value, sqrt((a.error / b.accuracy) ** 2 + (value * b.error / b.accuracy) ** 2))


@dataclass(frozen=True)
class Scene:
    """A caption to draw, and those of its stated attributes that are counted."""

    seed: int
    sample: Sample  # without its picture
    counted: tuple[str, ...]


@dataclass
class Tally:
    """Right and wrong of one kind of pictures (drawn, real or reconstructed)."""

    right: Counter[str] = field(default_factory=Counter)
    n: Counter[str] = field(default_factory=Counter)
    # (attribute, stated value, value that the judge reads)
    pairs: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    # pictures in which everything stated is right, of how many
    whole: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, scene: Scene, read: Mapping[str, str]) -> None:
        wanted = scene.sample.attributes
        for name in scene.counted:
            self.n[name] += 1
            self.right[name] += wanted[name] == read[name]
            self.pairs[name, wanted[name], read[name]] += 1
        if set(scene.counted) == set(scene.sample.stated):
            self.whole[0] += all(wanted[name] == read[name] for name in scene.counted)
            self.whole[1] += 1

    def scores(self) -> dict[str, Score]:
        return {name: Score(self.right[name], self.n[name]) for name in self.n}

    def confusions(self, name: str, most: int = 5) -> list[tuple[str, str, int]]:
        """The most frequent mistakes of an attribute: (stated, read, how often)."""
        wrong = [
            (wanted, read, k)
            for (a, wanted, read), k in self.pairs.items()
            if a == name and wanted != read
        ]
        return sorted(wrong, key=lambda row: -row[2])[:most]

    def by_value(self, name: str) -> dict[str, Score]:
        """Scores of every value of an attribute, worst first."""
        right, n = Counter[str](), Counter[str]()
        for (a, wanted, read), k in self.pairs.items():
            if a == name:
                n[wanted] += k
                right[wanted] += k * (wanted == read)
        return {v: Score(right[v], n[v]) for v in sorted(n, key=lambda v: right[v] / n[v])}

    def balanced(self, name: str) -> float:
        """The mean accuracy over the values of an attribute: rare and frequent values weigh the
        same."""
        return float(np.mean([score.accuracy for score in self.by_value(name).values()]))


@dataclass
class Faithfulness:
    """One split's tallies, and the first pictures of each kind for contact sheets."""

    split: str
    schema: tuple[str, ...]  # the source's attributes, in order
    drawn: Tally = field(default_factory=Tally)
    real: Tally = field(default_factory=Tally)
    reconstructed: Tally | None = None
    shown: list[tuple[Scene, dict[str, str], np.ndarray, np.ndarray]] = field(default_factory=list)
    # (scene, what was read in the drawn picture, drawn, real)

    @property
    def attributes(self) -> list[str]:
        """The attributes that were counted."""
        return [name for name in self.schema if self.drawn.n[name]]

    def ratio(self, name: str) -> Ratio:
        """Accuracy on drawn pictures as a fraction of the judge's own on real pictures of the same
        captions."""
        return Ratio.of(self.drawn.scores()[name], self.real.scores()[name])


def choose_scenes(
    source: Source, n: int, split: str = "seen", minimum: int = 0, seed: int | None = None
) -> Iterator[Scene]:
    """The first `n` captions from a seed on, and more until every attribute has `minimum`.

    A further caption states an attribute that has fewer than `minimum` counts, and it counts for
    such attributes only. So every attribute keeps its own distribution. An attribute that captions
    state too rarely (fewer than `minimum` times in 50·(n + minimum) captions) stays below.
    """
    start = seed if seed is not None else {"seen": SEEDS, "held_out": HELD_OUT_SEEDS}[split]
    counted = Counter[str]()
    for i in islice(count(), 50 * (n + minimum)):
        sample = source.sample(start + i, "train" if split == "seen" else split, draw=False)
        stated = [name for name in source.schema if name in sample.stated]
        if i >= n:
            stated = [name for name in stated if counted[name] < minimum]
            if not stated and all(counted[name] >= minimum for name in source.schema):
                return
        if stated:
            counted.update(stated)
            yield Scene(start + i, sample, tuple(stated))


def evaluate(
    draw: Draw,
    source: Source,
    judge: Judge,
    n: int = 300,
    split: str = "seen",
    minimum: int = 0,
    seed: int | None = None,
    reconstruct: Callable[[np.ndarray], np.ndarray] | None = None,
    batch: int = 32,
    shown: int = 24,
    progress: Callable[[int, int], None] | None = None,
) -> Faithfulness:
    """Draws the captions of `choose_scenes`, and lets the judge read the pictures.

    The judge also reads the real pictures of the same scenes, and with `reconstruct` (uint8 →
    uint8) what an autoencoder makes of them: these are the ceilings.

    Args:
        split: "seen" (combinations that training may show) or "held_out" (those it never shows).
        minimum: goes on until every attribute was counted so often.
        seed: the first caption's seed; a picture has the seed of its caption, so two runs with the
            same seed can be compared in pairs.
    """
    result = Faithfulness(
        split, tuple(source.schema), reconstructed=Tally() if reconstruct else None
    )
    todo = list(choose_scenes(source, n, split, minimum, seed))
    for some in (todo[i : i + batch] for i in range(0, len(todo), batch)):
        drawn = draw([s.sample.caption for s in some], [s.seed for s in some])  # (B, H, W, 3)
        real = draw_real(source, some, split)
        answers = judge.read(drawn)
        for scene, in_drawn, in_real, a, b in zip(
            some, answers, judge.read(real), drawn, real, strict=True
        ):
            result.drawn.add(scene, in_drawn)
            result.real.add(scene, in_real)
            if len(result.shown) < shown:
                result.shown.append((scene, in_drawn, a, b))
        if reconstruct and result.reconstructed is not None:
            for scene, read in zip(some, judge.read(reconstruct(real)), strict=True):
                result.reconstructed.add(scene, read)
        if progress:
            progress(min(len(todo), todo.index(some[-1]) + 1), len(todo))
    return result


def build_request(engine: Engine, **settings) -> GenerationRequest:
    """The request with which `build_drawer` draws every caption, with the model's preferences."""
    return GenerationRequest.of(**settings).resolve(engine.model)


def build_drawer(engine: Engine, **settings) -> Draw:
    """A function that draws prompts with the same settings for all; `settings` are fields of
    GenerationRequest (steps, cfg, sampler, …)."""
    model, request = engine.model, build_request(engine, **settings)

    def draw(prompts: list[str], seeds: list[int]) -> np.ndarray:
        answer, _ = build_denoiser(model, engine.unet, request, prompts, engine.guide)
        return to_pictures(model.vae, drive(start_sampler(model, request, seeds)[1], answer))

    return draw


def measure_judge(judge: Judge, source: Source, n: int, seed: int, batch: int = 100) -> Tally:
    """Counts how well a judge reads real pictures: every attribute of a scene, in `n` pictures that
    training may show."""
    tally = Tally()
    for first in range(seed, seed + n, batch):
        samples = [source.sample(s) for s in range(first, min(first + batch, seed + n))]
        images = np.stack([s.image for s in samples if s.image is not None])
        for i, (sample, read) in enumerate(zip(samples, judge.read(images), strict=True)):
            tally.add(Scene(first + i, sample, tuple(sample.attributes)), read)
    return tally


def draw_real(source: Source, some: Sequence[Scene], split: str) -> np.ndarray:
    """The source's own pictures of the scenes: uint8 (B, H, W, 3)."""
    samples = [source.sample(s.seed, "train" if split == "seen" else split) for s in some]
    return np.stack([s.image for s in samples if s.image is not None])
