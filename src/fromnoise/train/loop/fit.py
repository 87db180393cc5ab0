"""The one training loop: any task, with progress, plots, checkpoints and exact resume, in one
process or in many (Accelerate)."""

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.runtime.memory import keep_freed_memory
from fromnoise.train.loop.hardware import name_hardware
from fromnoise.train.loop.interrupt import NAMES, Interrupt, Interrupted
from fromnoise.train.loop.optimizer import LearningRate, build_optimizer
from fromnoise.train.loop.precision import choose_precision
from fromnoise.train.loop.state import TrainingState
from fromnoise.train.loop.step import NotFinite, Stepper
from fromnoise.train.loop.task import Task
from fromnoise.train.recipe import Recipe, Stage
from fromnoise.train.results import describe_stage, write_done

LOG_SECONDS = 10  # the log is written no more often than this


def fit(task: Task, stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Trains `task` for `pictures` or `minutes`, whichever ends first, and exports its result.

    Takes up the state that it finds in the stage's folder. Returns the figures of done.json.
    Raises Interrupted after a signal, BadInput when the loss becomes NaN or infinite.
    """
    run = Run(task, stage, recipe)
    run.resume()
    run.train()
    return run.finish()


class Run:
    """One stage in training: its task, its state, and the machines it runs on."""

    def __init__(self, task: Task, stage: Stage, recipe: Recipe):
        self.task, self.stage, self.recipe = task, stage, recipe
        self.batch, self.goal = int(stage["batch"]), int(stage["pictures"])
        self.minutes = stage.get("minutes")
        if self.batch < 1 or self.goal < self.batch:
            raise BadInput(
                f"[{stage.name}] trains {self.goal} pictures in batches of {self.batch}",
                "raise pictures or lower batch",
            )
        self.rate = LearningRate.of(stage)
        # several processes without a GPU find each other only when they are told to use the CPU
        self.cpu = stage.get("device") == "cpu" or not torch.accelerator.is_available()
        keep_freed_memory()
        self.accelerator = start_accelerator(stage.get("precision", "no"), self.cpu)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        task.module.to(self.accelerator.device)
        optimizer = build_optimizer(task.module, stage)
        words = describe_stage(stage, recipe)
        self.state = TrainingState.of(task, stage, optimizer, words, self.accelerator.scaler)
        self.stepper = Stepper(task, self.state, self.accelerator, stage.get("clip", 1.0), self.cpu)

    def note(self, text: str) -> None:
        """Prints a line that the user should see, once for all processes."""
        if self.is_main:
            print(text, file=sys.stderr)

    def resume(self) -> None:
        from accelerate.utils import broadcast

        self.stage.folder.mkdir(parents=True, exist_ok=True)
        self.state.resume(self.stage, self.batch * self.world, self.note)
        if self.world > 1:
            broadcast([p.data for p in self.task.module.parameters()])

    def progress(self) -> float:
        """The share of the stage that is done, 0 to 1: of its pictures or its minutes."""
        timed = self.state.elapsed / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(self.state.pictures / self.goal, timed))

    def train(self) -> None:
        """Takes steps until the stage is done, saving the state every `checkpoint_minutes`."""
        self.task.module.train()
        state, stage = self.state, self.stage
        batches = self.task.batches(state.step, self.batch, self.rank, self.world)
        state.restore_random()
        save = Every(60 * stage.get("checkpoint_minutes", 3))
        preview = Every(60 * stage.get("preview_minutes", 10))
        write_log = Every(LOG_SECONDS)
        with Interrupt() as interrupt, show_progress(stage.name, self.is_main) as show:
            clock = time.monotonic()
            while self.progress() < 1:
                figures, stop = self.take_step(batches, interrupt.number is not None)
                clock, seconds = time.monotonic(), time.monotonic() - clock
                self.count_step(figures, seconds)
                show(self.progress(), figures, state.log.rate)
                if stop or (interrupt.number is not None and self.world == 1):
                    self.stop(interrupt.number)
                if save.is_due():
                    self.save()
                if self.is_main and write_log.is_due():
                    state.log.write(stage.folder)
                if self.is_main and preview.is_due():
                    path = stage.folder / f"step-{state.step:07d}.png"
                    self.with_average(partial(self.task.preview, path))
        self.save()

    def take_step(self, batches: Any, stop: bool) -> tuple[dict[str, float], bool]:
        step, progress = self.state.step, self.progress()
        seed = (self.recipe.seed * 1_000_003 + step) * 64 + self.rank
        noise = torch.Generator().manual_seed(seed)
        try:
            return self.stepper.take(batches, progress, self.rate.at(progress, step), noise, stop)
        except NotFinite as error:
            raise BadInput(
                f"[{self.stage.name}] {error.message} at step {step}; the weights did not move",
                self.advise(),
            ) from None

    def advise(self) -> str:
        """What helps when the loss is no number any more."""
        name, saved = self.stage.name, self.state.saved_step
        if saved < 0:
            return (
                f"lower lr (it is {self.rate.peak:g}) under [{name}] and run the same command"
                " again; no state was saved yet, so the stage begins anew"
            )
        return (
            f"lower lr (it is {self.rate.peak:g}) under [{name}] and run the same command again: it"
            f" goes on from step {saved}, the last good state in {self.stage.folder}. Where the"
            f" same happens again, --stage {name} --rewind goes back one state more"
        )

    def count_step(self, figures: dict[str, float], seconds: float) -> None:
        from accelerate.utils import broadcast

        state, pictures = self.state, self.batch * self.world
        state.step, state.pictures = state.step + 1, state.pictures + pictures
        state.elapsed += seconds
        if self.world > 1 and self.minutes:  # all processes must agree when to stop
            elapsed = torch.tensor(state.elapsed, device=self.accelerator.device)
            state.elapsed = float(cast(Tensor, broadcast(elapsed)))
        state.log.add(figures, pictures, seconds)
        state.log.close_row(state.step, state.pictures, state.elapsed)

    def save(self) -> None:
        if self.is_main:
            self.state.save(self.stage.folder)

    def stop(self, number: int | None) -> None:
        """Saves the state and raises Interrupted. `number`: the signal; None: of another process's
        signal."""
        import signal

        self.save()
        number = number or signal.SIGTERM
        raise Interrupted(
            number,
            f"{NAMES[signal.Signals(number)]} stopped [{self.stage.name}] after step"
            f" {self.state.step}; its state is in {self.stage.folder}",
            "run the same command again to go on from there",
        )

    def with_average(self, action: Callable[[], Any]) -> Any:
        """Calls `action` while the module holds the averaged weights, without gradients."""
        module = self.task.module
        live = {k: v.clone() for k, v in module.state_dict().items()}
        module.load_state_dict(self.state.ema.shadow)
        module.eval()
        try:
            with torch.no_grad():
                return action()
        finally:
            module.load_state_dict(live)
            module.train()

    def finish(self) -> dict[str, Any]:
        """Draws the last preview, exports the result and writes done.json."""
        result: dict[str, Any] = {}
        if self.is_main:
            folder, state = self.stage.folder, self.state
            state.log.write(folder)
            self.with_average(lambda: self.task.preview(folder / "final.png"))
            result = self.with_average(lambda: self.task.export(folder))
            result |= {
                "pictures": state.pictures,
                "steps": state.step,
                "seconds": round(state.elapsed),
                "on": name_hardware(self.cpu),
            }
            write_done(self.stage, result, state.words)
        self.accelerator.wait_for_everyone()
        return result


class Every:
    """Says when so many seconds have passed since the last time it said so."""

    def __init__(self, seconds: float):
        self.seconds, self.last = seconds, time.monotonic()

    def is_due(self) -> bool:
        if time.monotonic() - self.last <= self.seconds:
            return False
        self.last = time.monotonic()
        return True


def start_accelerator(precision: str, cpu: bool) -> Any:
    """Accelerate's plan of processes and number format."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # its state outlives a stage, and the next stage would keep this one's precision
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=choose_precision(precision, cpu), cpu=cpu)


@contextmanager
def show_progress(name: str, visible: bool):
    """A bar on the terminal. Gives a function that takes (progress 0 to 1, figures, pictures a
    second)."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(name),
        BarColumn(),
        TextColumn("{task.percentage:>5.1f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, disable=not visible, refresh_per_second=1) as bar:
        line = bar.add_task(name, total=1.0, text="")

        def show(progress: float, figures: dict[str, float], rate: float) -> None:
            text = " ".join(f"{k} {v:.4g}" for k, v in figures.items())
            bar.update(line, completed=progress, text=f"{text} · {rate:.1f} pictures/s")

        yield show
