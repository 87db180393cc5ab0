"""KINDS: what can be asked for, and the fields of HTTP that are derived from its request.

A path never comes from a request. Where a request of the pipeline has a path, HTTP has the id of an
upload; the job keeps the hash of its content; who draws puts the path of the store's file there."""

import copy
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Optional, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from fromnoise.pipeline.plain_request import PlainRequest
from fromnoise.pipeline.request import GenerationRequest

AddonName = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^<>:\x00-\x1f\x7f]+$")
]
UploadId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
NOT_ASKED = {"max_cost"}  # fields that the server decides
# fields with paths of pictures, of requests and of what is in them; other paths (the files of
# models) are not asked for: HTTP has names in place of them
PICTURES = {"masks", "depth_map", "image", "pictures"}
# fields that say Any in the pipeline, so that it starts quickly → what they are
MODELS = {"addons": ("fromnoise.pipeline.addon_fields.addons", "Addons")}


@dataclass(frozen=True)
class Kind:
    """A kind of job: its request's module and class, and the pictures that it starts from."""

    name: str
    purpose: str  # a sentence
    module: str
    request: str
    needs: tuple[str, ...] = ()  # uploads beside the request's own fields
    takes: tuple[str, ...] = ()  # uploads that may be left out
    answers: bool = False  # it gives words and figures, and no picture


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "generate",
            "Draws pictures from words.",
            "fromnoise.pipeline.request",
            "GenerationRequest",
        ),
        Kind(
            "edit",
            "Changes a picture, or what is white in a mask.",
            "fromnoise.pipeline.editing.request",
            "EditRequest",
            needs=("image",),
            takes=("mask",),
        ),
        Kind(
            "hires",
            "Draws in two passes, the second one larger.",
            "fromnoise.pipeline.enlarging.request",
            "HiresRequest",
        ),
        Kind(
            "upscale",
            "Enlarges a picture.",
            "fromnoise.pipeline.enlarging.upscale_request",
            "UpscaleRequest",
            needs=("image",),
        ),
        Kind(
            "blend",
            "Draws what two pictures share.",
            "fromnoise.pipeline.seeing.request",
            "BlendRequest",
            needs=("first", "second"),
        ),
        Kind(
            "film",
            "Draws the frames of a film from prompt to prompt.",
            "fromnoise.pipeline.sequences.request",
            "FilmRequest",
        ),
        Kind(
            "grid",
            "Draws one prompt over axes of settings: a sheet, then its cells.",
            "fromnoise.pipeline.sequences.grid_request",
            "GridRequest",
        ),
        Kind(
            "describe",
            "Says what CLIP sees in a picture.",
            "fromnoise.pipeline.seeing.request",
            "DescribeRequest",
            needs=("image",),
            answers=True,
        ),
        Kind(
            "similarity",
            "Says how similar CLIP finds pictures and texts.",
            "fromnoise.pipeline.seeing.request",
            "SimilarityRequest",
            answers=True,
        ),
    )
}


def find_request(kind: str) -> type[GenerationRequest] | type[PlainRequest]:
    """The class of a kind's request."""
    return getattr(import_module(KINDS[kind].module), KINDS[kind].request)


@cache
def derive_fields(kind: str) -> type[BaseModel]:
    """The fields that HTTP takes for a kind: those of its request, with the ids of uploads in place
    of paths, and the pictures that it starts from."""
    more: dict[str, Any] = dict.fromkeys(KINDS[kind].needs, (UploadId, ...))
    more |= dict.fromkeys(KINDS[kind].takes, (Optional[UploadId], None))  # noqa: UP045
    if issubclass(find_request(kind), GenerationRequest):
        vae = Field(None, description="The name of an autoencoder in place of the model's own.")
        more["vae"] = (Optional[AddonName], vae)  # noqa: UP045
    return derive_model(find_request(kind), f"{kind.title()}Settings", **more)


def derive_model(model: type[BaseModel], name: str, **more: Any) -> type[BaseModel]:
    """A model for HTTP: see `derive_fields`. A field that cannot be told apart from a path, or says
    Any, is left out."""
    fields: dict[str, Any] = {}
    for field, info in model.model_fields.items():
        annotation = derive_annotation(field, info.annotation)
        if field not in NOT_ASKED and annotation is not None:
            replaced = copy.copy(info)
            replaced.annotation = annotation
            fields[field] = (annotation, replaced)
    config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")
    return create_model(name, __config__=config, __doc__=model.__doc__, **(fields | more))


def derive_annotation(field: str, annotation: Any) -> Any:
    """What HTTP takes for a field; None: nothing."""
    if field in MODELS:
        return Optional[derive_model(find_model(field), field.title())]  # noqa: UP045
    if annotation is Any:
        return None
    return replace_paths(annotation, UploadId if field in PICTURES else None)


def find_model(field: str) -> type[BaseModel]:
    """The model that a field of MODELS is."""
    module, name = MODELS[field]
    return getattr(import_module(module), name)


def replace_paths(annotation: Any, by: Any) -> Any:
    """An annotation with another one in place of each Path, and a derived model in place of each
    model. by: None for taking paths out; None comes back where nothing else is there."""
    if annotation is Path:
        return by
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return derive_model(annotation, f"{annotation.__name__}Settings")
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is None or not any(has_path(part) or has_model(part) for part in parts):
        return annotation
    replaced = [replace_paths(part, by) for part in parts]
    if origin in (Union, types.UnionType):
        left = [part for part in replaced if part is not None]
        return Union[tuple(left)] if left != [type(None)] else None  # noqa: UP007
    return None if None in replaced else origin[tuple(replaced)]


def has_path(annotation: Any) -> bool:
    """Whether an annotation has a Path in it."""
    return annotation is Path or any(has_path(part) for part in get_args(annotation))


def has_model(annotation: Any) -> bool:
    """Whether an annotation has a model of pydantic in it."""
    return bool(list_models(annotation))


def list_models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in list_models(part)]


def map_uploads(kind: str, values: dict[str, Any], change: Callable[[str], Any]) -> dict[str, Any]:
    """The values of a kind with `change` of each upload in place of it."""
    beside = (*KINDS[kind].needs, *KINDS[kind].takes)
    own = {name: value for name, value in values.items() if name not in beside}
    mapped = _map_model(find_request(kind), own, change)
    return mapped | {k: _map_all(v, change) for k, v in values.items() if k in beside}


def _map_model(
    model: type[BaseModel], values: dict[str, Any], change: Callable[[str], Any]
) -> dict[str, Any]:
    mapped = dict(values)
    for name, value in values.items():
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        models = [find_model(name)] if name in MODELS else list_models(annotation)
        if name in PICTURES and has_path(annotation):
            mapped[name] = _map_all(value, change)
        elif models and isinstance(value, dict):
            mapped[name] = _map_model(models[0], value, change)
        elif models and isinstance(value, list | tuple):
            mapped[name] = [_map_model(models[0], inner, change) for inner in value]
    return mapped


def _map_all(value: Any, change: Callable[[str], Any]) -> Any:
    """A value with `change` of each text in it."""
    if isinstance(value, dict):
        return {key: _map_all(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_map_all(inner, change) for inner in value]
    return None if value is None else change(value)
