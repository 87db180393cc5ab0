"""Addons: what a request asks for beside the model. Checked values; no file is opened here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fromnoise.errors import BadInput
from fromnoise.pipeline.addon_fields.base import AddOn
from fromnoise.pipeline.addon_fields.control import Control
from fromnoise.pipeline.addon_fields.embedding import Embedding
from fromnoise.pipeline.addon_fields.ip_adapter import IPAdapter
from fromnoise.pipeline.addon_fields.lora import Lora


class Addons(BaseModel):
    """All add-ons of a request, a field for each kind: a row of addons.KINDS says what puts it on.

    GenerationRequest.addons is one of these. Its own schema says Any, so that a request without
    add-ons loads none of this: where a schema is shown, subclass it with
    `addons: Addons | None = None`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loras: tuple[Lora, ...] = Field(default=(), max_length=99)
    controls: tuple[Control, ...] = Field(default=(), max_length=16)
    embeddings: tuple[Embedding, ...] = Field(default=(), max_length=99)
    ip_adapters: tuple[IPAdapter, ...] = Field(default=(), max_length=16)
    find_embeddings: bool = True  # by the words of prompts, in the folders of models
    # a name in a prompt → its file, where that lies in no folder of models
    places: dict[str, Path] = Field(default={}, max_length=99)

    @property
    def items(self) -> list[AddOn]:
        """All of them, kind after kind."""
        return [item for name in self.list_kinds() for item in getattr(self, name)]

    @classmethod
    def list_kinds(cls) -> list[str]:
        """The fields that hold add-ons."""
        return [name for name, field in cls.model_fields.items() if field.default == ()]

    def select(self, step: int, steps: int) -> "Addons":
        """Those that act in this step, counted from 0, of so many."""
        kept = {
            name: tuple(item for item in getattr(self, name) if item.acts(step, steps))
            for name in self.list_kinds()
        }
        return self.model_copy(update=kept)


def find_files(addons: Addons | None) -> Iterator[Path]:
    """Every path of this machine that they name. A server refuses a request that has some: it
    takes names alone."""
    yield from addons.places.values() if addons else ()
    for item in addons.items if addons else ():
        for _, value in item:
            several = value if isinstance(value, tuple) else (value,)
            yield from (one for one in several if isinstance(one, Path))


def read_addons(value: Any) -> Addons | None:
    """The add-ons of a request, as Python or JSON have them. Raises BadInput that names each wrong
    field."""
    try:
        return None if value is None else Addons.model_validate(value)
    except ValidationError as error:
        faults = [(".".join(map(str, e["loc"])), e) for e in error.errors()][:9]
        wrong = ", ".join(f"addons.{place} = {repr(e['input'])[:99]}" for place, e in faults)
        rules = "; ".join(f"{place}: {e['msg'][0].lower()}{e['msg'][1:]}" for place, e in faults)
        raise BadInput(f"cannot use {wrong}", rules) from None
