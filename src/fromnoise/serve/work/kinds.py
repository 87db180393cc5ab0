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

from pydantic import BaseModel, ConfigDict, StringConstraints, create_model

from fromnoise.pipeline.request import GenerationRequest

UploadId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
NOT_ASKED = {"max_cost"}  # fields that the server decides


@dataclass(frozen=True)
class Kind:
    """A kind of picture: its request's module and class, and the pictures that it starts from."""

    name: str
    module: str
    request: str
    needs: tuple[str, ...] = ()  # uploads beside the request's own fields
    takes: tuple[str, ...] = ()  # uploads that may be left out


KINDS = {
    kind.name: kind
    for kind in (
        Kind("generate", "fromnoise.pipeline.request", "GenerationRequest"),
        Kind("edit", "fromnoise.pipeline.editing.request", "EditRequest", ("image",), ("mask",)),
        Kind("hires", "fromnoise.pipeline.enlarging.request", "HiresRequest"),
    )
}


def find_request(kind: str) -> type[GenerationRequest]:
    """The class of a kind's request."""
    return getattr(import_module(KINDS[kind].module), KINDS[kind].request)


@cache
def derive_fields(kind: str) -> type[BaseModel]:
    """The fields that HTTP takes for a kind: those of its request, with the ids of uploads in place
    of paths, and the pictures that it starts from."""
    fields: dict[str, Any] = {}
    for name, info in find_request(kind).model_fields.items():
        if name not in NOT_ASKED:
            replaced = copy.copy(info)
            replaced.annotation = replace_paths(info.annotation, UploadId)
            fields[name] = (replaced.annotation, replaced)
    for name in KINDS[kind].needs:
        fields[name] = (UploadId, ...)
    for name in KINDS[kind].takes:
        fields[name] = (Optional[UploadId], None)  # noqa: UP045
    config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")
    return create_model(f"{kind.title()}Settings", __config__=config, **fields)


def replace_paths(annotation: Any, by: Any) -> Any:
    """An annotation with another one in place of each Path."""
    if annotation is Path:
        return by
    origin, parts = get_origin(annotation), get_args(annotation)
    if not any(has_path(part) for part in parts):
        return annotation
    replaced = tuple(replace_paths(part, by) for part in parts)
    return Union[replaced] if origin in (Union, types.UnionType) else origin[replaced]  # noqa: UP007


def has_path(annotation: Any) -> bool:
    """Whether an annotation has a Path in it."""
    return annotation is Path or any(has_path(part) for part in get_args(annotation))


def list_uploads(kind: str) -> tuple[str, ...]:
    """The fields of a kind that hold uploads."""
    fields = find_request(kind).model_fields.items()
    own = (name for name, info in fields if has_path(info.annotation))
    return (*own, *KINDS[kind].needs, *KINDS[kind].takes)


def map_uploads(kind: str, values: dict[str, Any], change: Callable[[str], Any]) -> dict[str, Any]:
    """The values of a kind with `change` of each upload in place of it."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [walk(inner) for inner in value]
        return None if value is None else change(value)

    fields = list_uploads(kind)
    return {name: walk(v) if name in fields else v for name, v in values.items()}
