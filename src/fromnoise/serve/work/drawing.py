"""A Worker that draws with loaded models. Runs share calls of a network, each with the bits that it
has alone: the exact plan."""

import threading
import time
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.unet import UNet
from fromnoise.pipeline.batching.batcher import Batcher, Cancelled, Run
from fromnoise.pipeline.conditioning.blocks import Observer
from fromnoise.pipeline.enlarging.upscale_request import UpscaleRequest
from fromnoise.pipeline.expanding.rules import Vocabulary, find_vocabulary
from fromnoise.pipeline.generate import Step, generate
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.inside.recording import Recording, record
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.memory import keep_freed_memory, release_freed_memory
from fromnoise.runtime.prepare import Prepared
from fromnoise.serve.settings import Settings
from fromnoise.serve.work.addon_names import check_addons
from fromnoise.serve.work.engines import Engine, Engines
from fromnoise.serve.work.kinds import KINDS
from fromnoise.serve.work.looking import look
from fromnoise.serve.work.upscalers import enlarge, find_network
from fromnoise.serve.work.worker import ModelInfo, Progress, Stopped, Task

T = TypeVar("T")
DECODED = 768 * 768  # pixels that a CPU decodes while somebody waits; more are shown as a likeness
TIDY = 60.0  # seconds between two times that memory goes back to the system


class EngineWorker:
    """Draws each task in the thread that calls. With several slots a batcher answers their calls of
    the network together."""

    def __init__(self, settings: Settings):
        keep_freed_memory()
        self.tidied = time.monotonic()
        self.engines = Engines(settings)
        self.seeing = threading.Lock()  # CLIP looks at one picture after the other
        self.device = settings.device
        self.batcher = Batcher(settings.slots).start() if settings.slots > 1 else None

    def check(self, task: Task) -> None:
        self.engines.check(task.model, task.vae)
        if isinstance(task.request, GenerationRequest):
            check_addons(task.request)
        model = self.engines.peek(task.model)
        if model is None:
            return
        if isinstance(task.request, GenerationRequest):
            task.request.resolve(model)
        elif KINDS[task.kind].answers:
            from fromnoise.pipeline.seeing.clip import build_embedders

            build_embedders(model)  # refuses a model that sees no pictures

    def draw(self, task: Task, watch: Callable[[Progress], None]) -> list[Image.Image]:
        if isinstance(task.request, UpscaleRequest):
            picture = enlarge(task.inputs["image"], task.request, self.device)
            watch(Progress(0, 1, 0.0))
            return [picture]
        return self._run(task, watch, partial(draw, task=task))

    def trace(self, task: Task, watch: Callable[[Progress], None], most: int) -> Recording:
        def trace(engine: Engine, watch: Callable[[Step], None]) -> Recording:
            assert isinstance(task.request, GenerationRequest)
            draw_again = partial(draw, engine, task)
            return record(draw_again, engine.model, task.request, most, watch)

        return self._run(task, watch, trace)

    def decode(self, model: str, latents: np.ndarray, tiling: str) -> tuple[Image.Image, bool]:
        engine = self.engines.take(model)
        try:
            values = torch.from_numpy(latents)
            side = engine.model.vae.config.factor
            pixels = values.shape[-2] * values.shape[-1] * side**2
            if pixels > DECODED and engine.unet.device.type == "cpu":
                return Image.fromarray(engine.look(values).numpy()), False
            return decode_latents(engine.model.vae, values[None], tiling)[0], True
        finally:
            self.engines.release(engine)

    def _run(
        self,
        task: Task,
        watch: Callable[[Progress], None],
        work: Callable[..., T],
    ) -> T:
        """What `work(engine, watch=…)` gives, beside the other runs."""
        engine = self.engines.take(task.model, task.vae, task.stopped)
        try:
            if self.batcher is None:
                alone = engine.replace(engine.model, heed(engine.unet, task.stopped))
                return work(alone, watch=lambda step: watch(describe_step(engine, step)))

            def job(run: Run) -> T:
                shared = engine.replace(run.share_model(engine.model), run.share(engine.unet))
                tell = lambda step: watch(describe_step(engine, step, run.together))  # noqa: E731
                return work(shared, watch=tell)

            return self.batcher.run(job, Run(self.batcher, task.stopped))
        except Cancelled:
            raise Stopped from None
        finally:
            self.engines.release(engine)
            self._tidy()

    def _tidy(self) -> None:
        """Gives what is kept of freed memory back, now and then. A step uses again what the step
        before it has left, but over thousands of jobs of many sizes the pieces between add up."""
        if time.monotonic() - self.tidied > TIDY:
            self.tidied = time.monotonic()
            release_freed_memory()

    def look(self, task: Task) -> Any:
        engine = self.engines.take(task.model)
        try:
            with self.seeing:
                return look(engine, task)
        finally:
            self.engines.release(engine)

    def models(self) -> list[ModelInfo]:
        return self.engines.list()

    def peek(self, name: str) -> LatentDiffusion | None:
        return self.engines.peek(name)

    def family(self, name: str) -> str:
        return self.engines.tell_family(name)

    def vocabulary(self, name: str) -> Vocabulary:
        engine = self.engines.take(name)
        try:
            return find_vocabulary(tuple(engine.model.defaults.get("words") or ()))
        finally:
            self.engines.release(engine)

    def load(self, name: str) -> None:
        self.engines.release(self.engines.take(name))

    def unload(self, name: str) -> bool:
        return self.engines.drop(name)

    def memory(self) -> dict[str, int]:
        found = self.engines.memory()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.memory_allocated()
        return found


def heed(unet: Prepared, stopped: Callable[[], bool]) -> Prepared:
    """The same network, which is not called once a run is to end: it raises Stopped then."""

    def ask(network: UNet, *shown: Any) -> Tensor:
        if stopped():
            raise Stopped
        return unet.call(network, *shown)

    other = copy(unet)
    other.call = ask
    return other


def draw(
    engine: Engine,
    task: Task,
    watch: Callable[[Step], None],
    observer: Observer | None = None,
) -> list[Image.Image]:
    """The pictures of a task. observer: see conditioning.blocks. Raises as the pipeline does."""
    parts = engine.model, engine.unet
    if task.kind == "edit":
        from fromnoise.pipeline.editing.edit import edit
        from fromnoise.pipeline.editing.request import EditRequest

        assert isinstance(task.request, EditRequest)
        pictures = task.inputs["image"], task.inputs.get("mask")
        return edit(*parts, task.request, *pictures, watch, observer=observer)
    if task.kind == "hires":
        from fromnoise.pipeline.enlarging.hires import hires
        from fromnoise.pipeline.enlarging.request import HiresRequest

        assert isinstance(task.request, HiresRequest)
        name, network = task.request.hires_upscaler, None
        if name is not None and (file := find_network(name)):
            from fromnoise.checkpoints.formats.upscaler import load

            network = load(file)
        return hires(*parts, task.request, network, watch, observer=observer)
    if task.kind == "blend":
        from fromnoise.data.sources import open_source
        from fromnoise.pipeline.seeing.blend import blend
        from fromnoise.pipeline.seeing.request import BlendRequest

        assert isinstance(task.request, BlendRequest)
        both = task.inputs["first"], task.inputs["second"]
        words = () if task.request.prompt else open_source("stickers")
        return blend(*parts, task.request, *both, words, watch)
    if task.kind == "film":
        return draw_film(engine, task, watch)
    if task.kind == "grid":
        from fromnoise.pipeline.sequences.grid_request import GridRequest
        from fromnoise.serve.work.gridding import draw_grid

        assert isinstance(task.request, GridRequest)
        return draw_grid(engine, task.request, watch)
    assert isinstance(task.request, GenerationRequest)
    return generate(*parts, task.request, watch=watch, observer=observer)


def draw_film(engine: Engine, task: Task, watch: Callable[[Step], None]) -> list[Image.Image]:
    """The frames of a film. `watch` is told of its steps as if they were those of one run."""
    from fromnoise.pipeline.sequences.film import draw_frame
    from fromnoise.pipeline.sequences.request import FilmRequest

    assert isinstance(task.request, FilmRequest)
    film = task.request.resolve(engine.model)

    def tell(step: Step, frame: int) -> None:
        total = film.frames * step.total
        watch(replace(step, index=frame * step.total + step.index, total=total))

    return [
        draw_frame(engine.model, engine.unet, film, frame, partial(tell, frame=frame))
        for frame in range(film.frames)
    ]


def describe_step(engine: Engine, step: Step, together: int = 1) -> Progress:
    """A step as the server tells of it."""

    def preview() -> list[Image.Image]:
        first, *others = step.x0
        # where a sampler draws one after the other, those that wait are shown as the first
        begun = [first, *(x0 for x0 in others if not torch.equal(x0, first))]
        return [Image.fromarray(engine.look(x0).numpy()) for x0 in begun]

    return Progress(step.index, step.total, step.sigma, step.notes, preview, together)
