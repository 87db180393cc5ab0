"""Many requests, looked at before the first of them is drawn: what is wrong with any is said at
once, and of which."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from fromnoise.errors import BadInput, FromnoiseError
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.generate import build_denoiser, start_sampler
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared

SHOWN = 20  # errors in one message, and names of one error
Item = TypeVar("Item")
Made = TypeVar("Made")


def check_each(named: Iterable[tuple[str, Item]], make: Callable[[Item], Made]) -> list[Made]:
    """`make` of every item. Raises one BadInput with the names of all for which it raises one, and
    why."""
    made, faults = [], dict[str, tuple[FromnoiseError, list[str]]]()  # equal errors are told once
    for name, item in named:
        try:
            made.append(make(item))
        except FromnoiseError as error:
            faults.setdefault(str(error), (error, []))[1].append(name)
    said = [(error, _list(names, "; ")) for error, names in faults.values()]
    if len(said) == 1:
        [(error, name)] = said
        raise BadInput(f"{name}: {error.message}", error.remedy) from error
    if said:
        lines = [f"{name}: {error.message} ({error.remedy})" for error, name in said]
        raise BadInput(_list(lines, "\n"), "nothing was drawn: put these right first")
    return made


def _list(items: list[str], between: str) -> str:
    more = [f"and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return between.join([*items[:SHOWN], *more])


def check_drawable(
    model: LatentDiffusion, unet: Prepared, request: GenerationRequest, guide: Prepared | None
) -> GenerationRequest:
    """The request resolved, after everything that a run does before its first step. Raises what
    that raises."""
    request = request.resolve(model)
    build_denoiser(model, unet, request, [request.prompt], guide)
    start_sampler(model, request, request.seeds())
    return request
