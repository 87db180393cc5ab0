"""Models, and VAEs in place of their own, that are loaded by name within a budget of bytes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from fromnoise.checkpoints.download import choose_weights
from fromnoise.checkpoints.families import BASES
from fromnoise.checkpoints.formats.vae import load_fitting
from fromnoise.checkpoints.hub import BUNDLED, load_parts
from fromnoise.checkpoints.inspection import inspect, inspect_file
from fromnoise.checkpoints.library import find_addon, list_models, measure
from fromnoise.errors import FromnoiseError, NotFound, escape
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.addons.patched import PatchedNetworks, open_copies
from fromnoise.pipeline.likeness import Look, choose_look
from fromnoise.pipeline.seeing.clip import ClipEmbedder
from fromnoise.runtime.prepare import DTYPES, Prepared, prepare_model
from fromnoise.serve.settings import BUNDLED_NAME, Settings
from fromnoise.serve.work.shelf import Shelf, Wanted
from fromnoise.serve.work.worker import ModelInfo

log = logging.getLogger("fromnoise.serve")
# folders of a pipeline, and parts of a single file, that stay in memory
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "image_encoder", "image_tower")


@dataclass(eq=False)
class Engine:
    """A model that is ready to draw."""

    model: LatentDiffusion
    unet: Prepared
    look: Look
    keys: tuple[tuple[str, ...], ...] = ()  # of what a run with it keeps loaded
    embedder: ClipEmbedder | None = None  # once its CLIP was asked

    def replace(self, model: LatentDiffusion, unet: Prepared) -> "Engine":
        """The same with other parts, for one run."""
        return Engine(model, unet, self.look)


class Engines:
    """The loaded models. A name is one that `fromnoise models` lists, never a path; `default` is
    that of the operator's own choice, which may lie anywhere, and may be larger than the budget."""

    def __init__(self, settings: Settings):
        self.default = settings.model_name
        self.own: str | Path = settings.model_file or settings.model
        self.device, self.dtype = settings.device, settings.dtype
        self.shelf = Shelf(settings.model_bytes)

    def find(self, name: str) -> str | Path | None:
        """What `load_parts` takes for a name. Raises NotFound for one that is not listed."""
        if name == self.default:
            return None if self.own == BUNDLED_NAME else self.own
        if name == BUNDLED_NAME:
            return None
        for model in list_models():
            if model.name == name and model.kind == "model":
                return model.path
        raise NotFound(
            f"there is no model {escape(name)!r}", "name one that the list of models has"
        )

    def check(self, name: str, vae: str = "") -> None:
        """Raises NotFound for a name that is not listed, and BadInput for a model that is known to
        be larger than the budget."""
        key = (name,)
        if self.shelf.get(key) is None:
            self.find(name)
        if vae:
            find_addon("vae", vae)
        self.shelf.refuse_large([Wanted(key, 0, load_nothing, name == self.default)])

    def list(self) -> list[ModelInfo]:
        """Every model that a request may name, the server's own first."""
        loaded = self.shelf.list_entries()
        names = {BUNDLED_NAME: (measure(BUNDLED), "bundled")}
        names |= {m.name: (m.size, m.program) for m in list_models() if m.kind == "model"}
        first = {self.default: names.pop(self.default, (0, "operator"))}
        if isinstance(self.own, Path) and self.own.exists():
            size = measure(self.own) if self.own.is_dir() else self.own.stat().st_size
            first = {self.default: (size, "operator")}
        models = {key[0]: e.value.model for key, e in loaded.items() if isinstance(e.value, Engine)}
        sides = {name: (model.size, model.multiple) for name, model in models.items()}
        return [
            ModelInfo(
                name,
                size,
                (name,) in loaded,
                program,
                sum(entry.bytes for key, entry in loaded.items() if key[0] == name),
                loaded[name,].users if (name,) in loaded else 0,
                *sides.get(name, (None, None)),
                loaded[name,].copied if (name,) in loaded else 0,
            )
            for name, (size, program) in (first | names).items()
        ]

    def peek(self, name: str) -> LatentDiffusion | None:
        """The model of that name if it is loaded."""
        entry = self.shelf.get((name,))
        return entry and entry.value.model

    def tell_family(self, name: str) -> str:
        """The name of a model's family, by the headers of its files; "" where they do not tell.
        Raises NotFound."""
        path = Path(self.find(name) or BUNDLED)
        try:
            family = inspect(path).family
        except (FromnoiseError, OSError):  # a hub id, or a file that loading will say more of
            return ""
        return BASES[family.base].name if family and family.base else ""

    def take(self, name: str, vae: str = "", stopped: Callable[[], bool] = lambda: False) -> Engine:
        """The engine of that name, loaded where it is not; give it back with `release`. vae: the
        name of an autoencoder in place of its own. Raises as `Shelf.take` and `load_parts`."""

        def load_model() -> tuple[Engine, int, PatchedNetworks]:
            model = load_parts(self.find(name))
            unet = prepare_model(model, self.device, self.dtype)
            size = count_bytes(list_networks(model))
            if size > self.shelf.budget and name == self.default:
                more = {"bytes": size, "budget": self.shelf.budget}
                log.warning("no model stays beside the server's own one", extra={"fields": more})
            copies = open_copies(unet.network, self.shelf.make_room)
            return Engine(model, unet, choose_look(model), ((name,),)), size, copies

        def load_vae(engine: Engine) -> tuple[tuple[nn.Module, str, str], int]:
            file = find_addon("vae", vae)
            network, digest = load_fitting(engine.model, file)
            return (network, digest, file.name), count_bytes([network])

        known = (name,) in self.shelf.sizes
        size = 0 if known else estimate(Path(self.find(name) or BUNDLED), self.dtype)
        wanted = [Wanted((name,), size, load_model, name == self.default)]
        if vae:
            wanted.append(Wanted((name, vae), 0, load_vae))
        held = self.shelf.take(*wanted, stopped=stopped)
        engine: Engine = held[0].value
        if not vae:
            return engine
        network, digest, source = held[1].value
        more = {"vae_digest": digest, "vae_source": source}
        changed = engine.replace(replace(engine.model, vae=network, **more), engine.unet)
        changed.keys = tuple(one.key for one in wanted)
        return changed

    def release(self, engine: Engine) -> None:
        """Says that a run with it has ended."""
        self.shelf.release(engine.keys)

    def drop(self, name: str) -> bool:
        """Lets a model go that nobody uses, with its VAEs; whether it is gone."""
        gone = self.shelf.drop((name,))
        for key in self.shelf.list_entries() if gone else ():
            if key[0] == name:
                self.shelf.drop(key)
        return gone

    def memory(self) -> dict[str, int]:
        """Bytes of what is loaded, of copies of that with LoRA, and of what both may take."""
        shelf = self.shelf
        return {"models": shelf.bytes, "copies": shelf.copied, "budget": shelf.budget}


def load_nothing() -> tuple[Any, int]:
    """Of what is only asked about."""
    raise AssertionError


def list_networks(model: LatentDiffusion) -> list[nn.Module]:
    """The networks of a model."""
    texts = [encoder.network for encoder in model.text_encoders]
    return [model.unet, model.vae, *texts, *([model.vision] if model.vision else [])]


def count_bytes(networks: Sequence[nn.Module]) -> int:
    """Of their weights and buffers."""
    found = {id(t): t for n in networks for t in (*n.parameters(), *n.buffers())}
    return sum(t.numel() * t.element_size() for t in found.values())


def estimate(path: Path, dtype: str) -> int:
    """The bytes of memory that a model takes, from the headers of its files; 0 where they do not
    tell: loading it says what is wrong with them."""
    try:
        return sum(
            part.parameters * (DTYPES[dtype].itemsize if name == "unet" else 4)
            for file, sub in list_files(path)
            for part in inspect_file(file).parts
            if (name := sub or part.name) in PARTS
        )
    except (FromnoiseError, OSError):
        return 0


def list_files(path: Path) -> Iterator[tuple[Path, str]]:
    """(a file of weights, the part that it holds) of what is loaded of a pipeline's folder; of a
    single file, which holds them all, ""."""
    if not path.is_dir():
        yield path, ""  # one that is not there, such as a hub id, is met by who reads it
        return
    for part in PARTS:
        if (path / part).is_dir():
            names = choose_weights([file.name for file in (path / part).iterdir()])
            files = (path / part / name for name in names if not name.endswith(".json"))
            yield from ((file, part) for file in files)
