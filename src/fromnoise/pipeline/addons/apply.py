"""A request's add-ons → the model that draws it: copies, which share all that stays as it was."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.addon_fields.addons import Addons
from fromnoise.pipeline.addons import KINDS
from fromnoise.pipeline.addons.automatic import read_all
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared

Built = tuple[Callable[[Query], Answer], list[str]]


def add_on(
    build: Callable[..., Built],
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    prompts: list[str],
    *more: Any,
) -> Built:
    """What `build`, which is generate.build_denoiser, gives for the model with what the request and
    the tags of its prompts put on it. more: its further arguments.

    Where some act in a part of the run alone, each part has a model of its own; samplers see no
    seam. Raises BadInput, NotFound and BadCheckpoint."""
    addons, steps = read_all(model, request, prompts), request.steps or 1
    stages = [addons.select(step, steps) for step in range(steps)]
    distinct = [stage for i, stage in enumerate(stages) if stage not in stages[:i]]
    if len(distinct) > 1 and request.prompt_steps == "call":
        raise BadInput(
            "prompts that change by call cannot be drawn with what acts in a part of the run alone",
            "leave out prompt_steps, or the start and the end",
        )
    built, notes = [], dict[str, None]()
    for item in addons.items:
        if not any(item in stage.items for stage in stages):
            notes[f"{item.name} acts in none of the {steps} steps"] = None
    for stage in distinct:
        changed, network, told = put_on_all(model, unet, request, stage)
        answer, others = build(changed, network, request, prompts, *tell_tokenizer(changed, more))
        notes.update(dict.fromkeys([*told, *others]))
        built.append(answer)
    places = [distinct.index(stage) for stage in stages]

    def answer_stage(query: Query) -> Answer:
        return built[places[min(query.step, steps - 1)]](query)

    return (built[0] if len(built) == 1 else answer_stage), list(notes)


def tell_tokenizer(model: LatentDiffusion, more: tuple[Any, ...]) -> tuple[Any, ...]:
    """The further arguments of build_denoiser, with an observer that knows the words that only this
    model's tokenizer reads."""
    guide, observer, *rest = more
    if observer is not None and (model.addons.embeddings or model.addons.loras):
        observer = partial(observer, tokenizer=model.tokenizer)
    return (guide, observer, *rest)


def put_on_all(
    model: LatentDiffusion, unet: Prepared, request: GenerationRequest, addons: Addons
) -> tuple[LatentDiffusion, Prepared, list[str]]:
    """(the model, its network, notes for the user) with these add-ons on. Raises as `add_on`."""
    notes: list[str] = []
    model = replace(model, addons=addons)
    for kind, module in KINDS.items():
        if items := getattr(addons, kind):
            put_on = import_module(f"fromnoise.pipeline.addons.{module}").put_on
            model, unet, told = put_on(model, unet, request, items)
            notes += told
    return model, unet, notes
