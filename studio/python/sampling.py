"""Runs a sampler of this repository, or one of the reader's own, question by question.

The worker's TypeScript holds a `Run` and passes its questions to whatever answers them: the network
or a formula."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict
from inspect import isgeneratorfunction, signature
from typing import Any

from limits import ReaderFault, limit, load_function
from torch import Tensor

from fromnoise.diffusion import samplers
from fromnoise.diffusion.samplers.base import Answer, Query

# its levels are those of a schedule, whose tables need all of torch
ABSENT = ("tcd",)


def list_samplers() -> list[dict[str, Any]]:
    """The metadata of the samplers that run in the tab."""
    return [asdict(entry) for name, entry in samplers.SAMPLERS.items() if name not in ABSENT]


class NoiseNeeded(BaseException):
    """A sampler asks for noise that has not been drawn yet. Not an Exception, so that no sampler
    catches it."""

    def __init__(self, sigma: float, sigma_next: float):
        self.step = sigma, sigma_next


def build_sampler(name: str | None, source: str | None, function: str) -> Callable:
    """A sampler by its name, or from the reader's source."""
    if source is None:
        return samplers.load(name or "")
    sampler = load_function(source, function)
    if not isgeneratorfunction(sampler):
        raise ReaderFault(
            f"{function} is no sampler, because it never asks: a sampler contains a line such as "
            "x0 = (yield Query(x, s, i)).x0",
            sampler.__code__.co_firstlineno if hasattr(sampler, "__code__") else None,
            "NoQuestion",
        )
    return sampler


def rehearse(
    sampler: Callable, x: Tensor, sigmas: Tensor, options: dict[str, Any]
) -> list[tuple[float, float]]:
    """The steps for which the sampler asks noise, where all answers are zero. Samplers that choose
    their own steps may ask for others."""
    steps: list[tuple[float, float]] = []
    zero = Tensor(array(x.dtype, bytes(len(x.values) * x.values.itemsize)), x.shape)

    def record(sigma: float, sigma_next: float, image: int | None = None) -> Tensor:
        steps.append((sigma, sigma_next))
        return zero

    run = sampler(x.clone(), sigmas, record, **options)
    query = next(run)
    try:
        while len(steps) < 100_000:
            rows = Tensor(zero.values[: len(query.x.values)], query.x.shape)
            query = run.send(Answer(rows.clone(), rows.clone()))
    except StopIteration:
        pass
    except Exception:  # the real run meets the same error, with its own values
        pass
    return steps


class Run:
    """One run. `start` and `send` return the next question, or the last x, or the steps whose noise
    must come first (after `supply`, `resume` goes on)."""

    def __init__(
        self,
        sampler: Callable,
        x: array,
        shape: Sequence[int],
        sigmas: Sequence[float],
        options: dict[str, Any],
        draw: Callable[[float, float], Any] | None = None,
        seconds: float | None = None,
    ):
        self.sampler, self.shape, self.options, self.seconds = sampler, shape, options, seconds
        self.x = Tensor(x, shape)
        self.sigmas = Tensor(array("d", sigmas), (len(sigmas),))
        self.draw = draw  # a source of noise in the worker; None: the page supplies it
        self.noises: list[tuple[tuple[float, float], array]] = []
        self.answers: list[Answer] = []
        self.used = 0
        known = signature(sampler).parameters
        if unknown := [name for name in options if name not in known]:
            takes = [name for name in known if name not in ("x", "sigmas", "noise", "past")]
            raise ValueError(
                f"this sampler has no option {unknown[0]}. It takes: {', '.join(takes) or 'none'}."
            )

    def noise(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor:
        shape = self.shape if image is None else (1, *self.shape[1:])
        if self.draw is not None:
            return Tensor(array(self.x.dtype, self.draw(sigma, sigma_next)), shape)
        if self.used == len(self.noises):
            raise NoiseNeeded(sigma, sigma_next)
        step, values = self.noises[self.used]
        if step != (sigma, sigma_next):  # the rehearsal guessed another step
            del self.noises[self.used :]
            raise NoiseNeeded(sigma, sigma_next)
        self.used += 1
        return Tensor(values[:], shape)

    def start(self) -> dict[str, Any]:
        return self._go(self._begin)

    def send(self, x0: array, x0_uncond: array | None = None) -> dict[str, Any]:
        def make(values: array) -> Tensor:
            return Tensor(array(self.x.dtype, values), self.query.x.shape)

        answer = Answer(make(x0), None if x0_uncond is None else make(x0_uncond))
        if self.draw is None:
            self.answers.append(answer)
        return self._go(lambda: self.sampling.send(answer))

    def supply(self, steps: Sequence[Sequence[float]], noises: Sequence[array]) -> dict[str, Any]:
        """Adds noises, then repeats the run from its start up to where it was."""
        for (sigma, sigma_next), values in zip(steps, noises, strict=True):
            self.noises.append(((sigma, sigma_next), values))
        return self._go(self._repeat)

    def _begin(self) -> Query:
        self.used = 0
        self.sampling = self.sampler(self.x.clone(), self.sigmas, self.noise, **self.options)
        return next(self.sampling)

    def _repeat(self) -> Query:
        query = self._begin()
        for answer in self.answers:
            copy = None if answer.x0_uncond is None else answer.x0_uncond.clone()
            query = self.sampling.send(Answer(answer.x0.clone(), copy))
        return query

    def _go(self, advance: Callable[[], Query]) -> dict[str, Any]:
        try:
            with limit(self.seconds):
                self.query = query = advance()
        except StopIteration as end:
            return {"x": self._read(end.value, "the sampler returned")}
        except NoiseNeeded as needed:
            with limit(self.seconds):
                steps = rehearse(self.sampler, self.x, self.sigmas, self.options)
            ahead = steps[len(self.noises) :]
            if steps[: len(self.noises)] != [step for step, _ in self.noises] or (
                ahead[:1] != [needed.step]
            ):
                ahead = [needed.step]
            return {"steps": [list(step) for step in ahead]}
        if not isinstance(query, Query):
            raise ReaderFault(
                f"the sampler yielded {type(query).__name__}. Yield Query(x, sigma, step).",
                None,
                "NoQuery",
            )
        return {
            "query": self._read(query.x, "the question holds"),
            "sigma": float(query.sigma),
            "step": int(query.step),
            "stage": int(query.stage),
        }

    def _read(self, x: Any, what: str) -> array:
        if not isinstance(x, Tensor):
            raise ReaderFault(
                f"{what} {type(x).__name__}. It must be a Tensor, such as x.", None, "NoTensor"
            )
        return x.values
