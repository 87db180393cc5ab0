"""Checks many requests before the first of them is drawn: one error says what is wrong with each,
and names it."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from fromnoise.errors import BadInput, FromnoiseError
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.generate import build_denoiser, start_sampler
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared

MOST_LISTED = 20  # errors in one message, and names of one error
Item = TypeVar("Item")
Checked = TypeVar("Checked")


def check_each(
    named: Iterable[tuple[str, Item]], check: Callable[[Item], Checked]
) -> list[Checked]:
    """`check` of every item. Raises one BadInput with the names of all items for which `check`
    raises an error, and the reasons."""
    checked: list[Checked] = []
    faults: dict[str, tuple[FromnoiseError, list[str]]] = {}  # equal errors are listed once
    for name, item in named:
        try:
            checked.append(check(item))
        except FromnoiseError as error:
            faults.setdefault(str(error), (error, []))[1].append(name)
    named_faults = [(error, _join(names, "; ")) for error, names in faults.values()]
    if len(named_faults) == 1:
        [(error, name)] = named_faults
        raise BadInput(f"{name}: {error.message}", error.remedy) from error
    if named_faults:
        lines = [f"{name}: {error.message} ({error.remedy})" for error, name in named_faults]
        raise BadInput(_join(lines, "\n"), "nothing was drawn: put these right first")
    return checked


def _join(items: list[str], glue: str) -> str:
    hidden = len(items) - MOST_LISTED
    return glue.join([*items[:MOST_LISTED], *([f"and {hidden} more"] if hidden > 0 else [])])


def check_drawable(
    model: LatentDiffusion, unet: Prepared, request: GenerationRequest, guide: Prepared | None
) -> GenerationRequest:
    """The request resolved, after everything that a run does before its first step. Raises what
    that raises."""
    request = request.resolve(model)
    build_denoiser(model, unet, request, [request.prompt], guide)
    start_sampler(model, request, request.seeds())
    return request
