"""Models that are loaded by name and stay loaded, within a budget of bytes."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from fromnoise.checkpoints.hub import BUNDLED, load_parts
from fromnoise.checkpoints.library import list_models, measure
from fromnoise.errors import BadInput, NotFound, escape
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.likeness import Look, choose_look
from fromnoise.pipeline.seeing.clip import ClipEmbedder
from fromnoise.runtime.prepare import Prepared, prepare_model
from fromnoise.serve.work.worker import ModelInfo

BUNDLED_NAME = "fromnoise"


@dataclass(eq=False)
class Engine:
    """A model that is ready to draw."""

    model: LatentDiffusion
    unet: Prepared
    look: Look
    bytes: int
    users: int = 0  # runs that draw with it now
    embedder: ClipEmbedder | None = None  # once its CLIP was asked

    def replace(self, model: LatentDiffusion, unet: Prepared) -> "Engine":
        """The same with other parts, for one run."""
        return Engine(model, unet, self.look, self.bytes)


class Engines:
    """The loaded models. A name is one that `fromnoise models` lists, never a path; `default` is
    the operator's own choice, which may be a path or a hub id."""

    def __init__(self, default: str, device: str, dtype: str, budget: int):
        self.default, self.device, self.dtype, self.budget = default, device, dtype, budget
        self.loaded: OrderedDict[str, Engine] = OrderedDict()
        self.lock, self.loading = threading.Lock(), threading.Lock()

    def find(self, name: str) -> str | Path | None:
        """What `load_parts` takes for a name. Raises NotFound for one that is not listed."""
        if name == self.default:
            return None if name == BUNDLED_NAME else name
        if name == BUNDLED_NAME:
            return None
        for model in list_models():
            if model.name == name and model.kind == "model":
                return model.path
        raise NotFound(
            f"there is no model {escape(name)!r}", "name one that the list of models has"
        )

    def list(self) -> list[ModelInfo]:
        """Every model that a request may name, the server's own first."""
        with self.lock:
            loaded = {*self.loaded}
        names = {BUNDLED_NAME: (measure(BUNDLED), "bundled")}
        names |= {m.name: (m.size, m.program) for m in list_models() if m.kind == "model"}
        first = {self.default: names.pop(self.default, (0, "operator"))}
        return [
            ModelInfo(name, size, name in loaded, program)
            for name, (size, program) in (first | names).items()
        ]

    def peek(self, name: str) -> LatentDiffusion | None:
        """The model of that name if it is loaded."""
        with self.lock:
            engine = self.loaded.get(name)
        return engine and engine.model

    def take(self, name: str) -> Engine:
        """The engine of that name, loaded where it is not; give it back with `release`. Those that
        were used the longest ago go where the budget is passed. Raises as `load_parts`."""
        with self.loading:  # one model after the other
            with self.lock:
                if engine := self.loaded.get(name):
                    self.loaded.move_to_end(name)
                    engine.users += 1
                    return engine
            place = self.find(name)
            need = measure(BUNDLED if place is None else Path(place)) if name != self.default else 0
            self._make_room(need)
            model = load_parts(place)
            unet = prepare_model(model, self.device, self.dtype)
            engine = Engine(model, unet, choose_look(model), count_bytes(model), users=1)
            with self.lock:
                self.loaded[name] = engine
            self._make_room(0, keep=name)
            return engine

    def release(self, engine: Engine) -> None:
        """Says that a run with it has ended."""
        with self.lock:
            engine.users -= 1

    def bytes(self) -> int:
        """Of all that is loaded."""
        with self.lock:
            return sum(engine.bytes for engine in self.loaded.values())

    def _make_room(self, need: int, keep: str = "") -> None:
        """Lets go of models until `need` bytes more fit the budget."""
        if need > self.budget:
            raise BadInput(
                f"this model takes {need / 1e9:.1f} GB, and the limit is {self.budget / 1e9:.1f}",
                "start it with a larger --model-memory",
            )
        with self.lock:
            total = sum(engine.bytes for engine in self.loaded.values()) + need
            for name in [*self.loaded]:
                if total <= self.budget:
                    break
                if not self.loaded[name].users and name != keep:
                    total -= self.loaded.pop(name).bytes


def count_bytes(model: LatentDiffusion) -> int:
    """Of a model's weights."""
    parts: list[nn.Module | None] = [model.unet, model.vae, model.vision]
    parts += [encoder.network for encoder in model.text_encoders]
    return sum(
        p.numel() * p.element_size()
        for part in parts
        if part is not None
        for p in part.parameters()
    )
