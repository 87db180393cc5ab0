"""The simplest driver of a sampler."""

from collections.abc import Callable

from torch import Tensor

from fromnoise.diffusion.samplers.base import Answer, Query, Sampling


def drive(sampling: Sampling, answer: Callable[[Query], Answer]) -> Tensor:
    """Runs a sampler to its end; `answer` takes its questions. Returns the last x (B, C, H, W)."""
    try:
        query = next(sampling)
        while True:
            query = sampling.send(answer(query))
    except StopIteration as end:
        return end.value
