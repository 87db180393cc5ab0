"""What the server asks of whoever draws: a Worker. The queue and HTTP know nothing else of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image
from pydantic import BaseModel

from fromnoise.errors import BadInput
from fromnoise.pipeline.expanding.rules import Vocabulary
from fromnoise.pipeline.plain_request import PlainRequest
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.serve.work.kinds import KINDS, find_request, map_uploads

if TYPE_CHECKING:  # which load torch
    import numpy as np

    from fromnoise.latent_diffusion import LatentDiffusion
    from fromnoise.pipeline.inside.recording import Recording


class Stopped(Exception):
    """Raised by `watch` to end a run: the network is not called again."""


@dataclass(frozen=True)
class Task:
    """One job as it is drawn. `inputs` are the files of the pictures that it starts from."""

    kind: str
    model: str
    request: GenerationRequest | PlainRequest
    inputs: dict[str, Path] = field(default_factory=dict)
    vae: str = ""  # the name of one in place of the model's own
    stopped: Callable[[], bool] = lambda: False  # whether the run is to end: asked before each call


@dataclass(frozen=True)
class Progress:
    """One finished step of a run."""

    index: int  # 0 … total − 1
    total: int
    sigma: float
    notes: tuple[str, ...] = ()
    # cheap likenesses of the pictures that are drawn together, made where they are wanted
    previews: Callable[[], list[Image.Image]] | None = None
    batch: int = 1  # requests that shared the call of the network


@dataclass(frozen=True)
class ModelInfo:
    """A model that requests may name."""

    name: str
    size: int  # bytes on the disk
    loaded: bool
    program: str  # whose folder it lies in
    memory: int = 0  # bytes that it takes now
    users: int = 0  # jobs that are drawn with it now
    side: int | None = None  # pixels a side that it draws by itself; None: it is not loaded
    multiple: int | None = None  # what its sides are multiples of
    copies: int = 0  # bytes of its networks with LoRA, beside `memory`


class Worker(Protocol):
    """Draws tasks. Every method may be called by several threads at once."""

    def check(self, task: Task) -> None:
        """Raises BadInput, UnknownName or NotFound for what cannot be drawn, as far as that is
        known without loading a model."""
        ...

    def draw(self, task: Task, watch: Callable[[Progress], None]) -> list[Image.Image]:
        """The pictures of a task, with settings in `info["parameters"]`. `watch` is called after
        each step; what it raises ends the run before the next call of the network. Raises Stopped
        where `task.stopped` says so."""
        ...

    def look(self, task: Task) -> Any:
        """The answer, as JSON has it, to a task of a kind that gives no pictures."""
        ...

    def trace(self, task: Task, watch: Callable[[Progress], None], most: int) -> "Recording":
        """The record of a task's one picture, with at most so many bytes of tensors. It draws, and
        may be ended, as `draw`. Raises BadInput for a kind of task that cannot be traced."""
        ...

    def decode(self, model: str, latents: "np.ndarray", tiling: str) -> "tuple[Image.Image, bool]":
        """(the picture of latents (C, h, w), whether the model's own decoder made it; a likeness
        where that would take too long)."""
        ...

    def models(self) -> list[ModelInfo]:
        """The models that requests may name; the first one is the server's own."""
        ...

    def peek(self, name: str) -> "LatentDiffusion | None":
        """The model of that name if it is loaded."""
        ...

    def family(self, name: str) -> str:
        """The name of a model's family, by the headers of its files; "" where they do not tell.
        Raises NotFound."""
        ...

    def vocabulary(self, name: str) -> Vocabulary:
        """What a model was taught, for the rules that expand prompts. Raises as `load`."""
        ...

    def load(self, name: str) -> None:
        """Loads a model, so that the next request need not wait. Raises NotFound and the like."""
        ...

    def unload(self, name: str) -> bool:
        """Lets a model go that no job uses; whether it was loaded and is gone."""
        ...

    def memory(self) -> dict[str, int]:
        """Bytes: "models", those of the loaded ones; "copies", those of their networks with LoRA;
        "budget", what both may take; "gpu", where there is one."""
        ...


def build_task(
    kind: str, model: str, values: dict[str, Any], find: Callable[[str], Path], max_cost: float
) -> Task:
    """The task of a job's values. find: the file of a hash. Raises BadInput and UnknownName.

    Whatever the schemas let through: every path in the request is one that `find` gave."""
    given = set[Path]()

    def find_file(digest: str) -> Path:
        path = find(digest)
        given.add(path)
        return path

    values = map_uploads(kind, values, find_file)
    vae = values.pop("vae", None) or ""
    beside = (*KINDS[kind].needs, *KINDS[kind].takes)
    inputs = {name: values.pop(name) for name in beside if values.get(name) is not None}
    values = {name: value for name, value in values.items() if name not in beside}
    schema = find_request(kind)
    if issubclass(schema, GenerationRequest):
        values["max_cost"] = max_cost
    request = schema.of(**values)
    if foreign := {*list_paths(request)} - given:
        raise BadInput(
            f"a request cannot name a file: {min(foreign)}", "upload it, and give the upload's id"
        )
    return Task(kind, model, request, inputs, vae)


def list_paths(value: Any) -> Iterator[Path]:
    """Every path in a value, however deep."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel):
        yield from list_paths(value.__dict__)  # dict(value) would ask a film for its `keys`
    elif isinstance(value, dict):
        yield from (path for inner in (*value, *value.values()) for path in list_paths(inner))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from (path for inner in value for path in list_paths(inner))
