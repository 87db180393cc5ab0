"""What a form asks while it is filled: how a model reads words, its defaults, and what a picture
says of its making."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from fromnoise.errors import NotFound, UnknownName, escape
from fromnoise.pipeline.presets import PRESETS
from fromnoise.serve.dialects.identity import Drawer
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.server import Server
from fromnoise.serve.store.uploads import read_foreign_settings
from fromnoise.serve.work.upscalers import find_network

Model = Annotated[str | None, Query(max_length=400, description="As the list of models has it.")]


class WordsIn(BaseModel):
    """A prompt to read."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=20_000, pattern="")
    negative: StrictBool = False
    dialect: str = Field("a1111", pattern="^(a1111|comfy|compel)$")
    model: str | None = Field(default=None, max_length=400)


class SpanOut(BaseModel):
    """A stretch of the text, in characters (code points)."""

    start: int
    end: int
    weight: float


class WordsOut(BaseModel):
    """How the model reads a prompt. Only `loaded` is told where the model is not loaded."""

    loaded: bool
    tokens: int = 0
    room: int = Field(default=0, description="Tokens of one block.")
    blocks: int = 0
    borders: list[int] = Field(default=[], description="Where later blocks begin in the text.")
    weights: list[SpanOut] = Field(default=[], description="Words whose weight is not 1.")
    unknown: list[SpanOut] = Field(
        default=[], description="Words of no caption that it learnt from."
    )
    networks: list[str] = []


class DefaultsOut(BaseModel):
    """What is drawn where a request leaves a setting out; None where the model is not loaded."""

    loaded: bool
    sampler: str | None = None
    spacing: str | None = None
    steps: int | None = None
    cfg: float | None = None
    width: int | None = None
    height: int | None = None
    multiple: int | None = Field(default=None, description="Width and height are multiples of it.")
    presets: dict[str, dict[str, Any]]


class SettingsOut(BaseModel):
    """The settings that a picture was drawn with, as a request of `kind` takes them."""

    maker: str
    kind: str
    settings: dict[str, Any]
    unused: dict[str, str] = Field(description="What could not be used → its value, and why.")


def find_model(server: Server, name: str | None) -> tuple[str, Any]:
    """(the name of the model that a request means; the model, or None where it is not loaded).
    Raises NotFound."""
    chosen = name or server.settings.model_name
    if chosen not in [model.name for model in server.worker.models()]:
        raise NotFound("there is no such model", "name one that the list of models has")
    return chosen, server.worker.peek(chosen)


def add_help(router: APIRouter, server: Server) -> None:
    """The routes."""

    @router.post("/words", tags=["help"])
    def read_prompt(asked: WordsIn, client: Drawer) -> WordsOut:
        """Counts the tokens of a prompt and marks its parts. It draws nothing."""
        _, model = find_model(server, asked.model)
        if model is None:
            return WordsOut(loaded=False)
        from fromnoise.serve.work.words import read_words  # which loads torch

        found = read_words(model, asked.text, asked.dialect, asked.negative)
        return WordsOut(loaded=True, **asdict(found))

    @router.get("/defaults", tags=["help"])
    def get_defaults(client: Drawer, model: Model = None) -> DefaultsOut:
        """What a model is drawn with where a request leaves a setting out."""
        _, found = find_model(server, model)
        if found is None:
            return DefaultsOut(loaded=False, presets=PRESETS)
        from fromnoise.pipeline.request import GenerationRequest

        names = ("sampler", "spacing", "steps", "cfg", "width", "height")
        whole = GenerationRequest().resolve(found)
        values = {name: getattr(whole, name) for name in names}
        return DefaultsOut(loaded=True, multiple=found.multiple, presets=PRESETS, **values)

    @router.post("/settings", tags=["help"])
    def read_settings(file: UploadFile, client: Drawer) -> SettingsOut:
        """Reads the settings that a picture carries: of this program, A1111 and its kin, ComfyUI,
        InvokeAI and others. The picture is not kept."""
        limit = server.settings.limits.upload_bytes
        data = file.file.read(limit + 1)
        if len(data) > limit:
            raise Refusal(413, "too_large", f"the file has more than {limit:,} bytes", "send less")
        found = SettingsOut(**read_foreign_settings(data, server.settings.limits))
        if name := found.settings.get("hires_upscaler"):
            try:
                find_network(name)
            except UnknownName as error:
                del found.settings["hires_upscaler"]
                found.unused["Hires upscaler"] = f"{escape(name)} ({error.remedy})"
        return found
