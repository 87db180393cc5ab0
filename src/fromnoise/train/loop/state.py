"""The state of a training run: all that a resumed run must take up, bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fromnoise.checkpoints import training_state
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.train.loop.ema import Ema
from fromnoise.train.loop.log import Log
from fromnoise.train.loop.task import Stateful, Task
from fromnoise.train.recipe import Stage
from fromnoise.train.results import compare, format_differences, split_differences


@dataclass
class TrainingState:
    """What changes while a stage trains.

    The position in the data is the step: a batch and its noise depend on the step alone. torch's
    own random generator is kept for a source or a task that draws from it.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    extras: dict[str, Stateful]
    log: Log
    words: dict[str, Any]  # what makes the stage's result: see results.describe_stage
    scaler: Any = None  # of the gradients in fp16
    step: int = 0
    pictures: int = 0
    elapsed: float = 0.0  # seconds of training
    random: torch.Tensor | None = field(default=None, init=False)  # of the state on disk
    saved_step: int = field(default=-1, init=False)  # of the state on disk; −1: none

    @classmethod
    def of(cls, task: Task, stage: Stage, optimizer: Any, words: dict, scaler: Any = None):
        ema, log = Ema(task.module, stage.get("ema", 0.999)), Log(int(stage.get("log_every", 50)))
        return cls(task.module, optimizer, ema, dict(task.extras), log, words, scaler)

    def save(self, folder: Path) -> None:
        """Writes the state. Raises BadInput when the weights hold NaN or infinity: the last good
        state then stays on disk."""
        if not self.is_finite():
            raise BadInput(
                f"the weights became NaN or infinite before step {self.step}",
                "lower lr; the state on disk is the last good one",
            )
        trees: dict[str, Any] = {
            "weights": self.module.state_dict(),
            "ema": self.ema.shadow,
            "optimizer": training_state.collect_optimizer_state(self.optimizer),
            "random": {"cpu": torch.get_rng_state()},
        }
        for name, extra in self.extras.items():
            trees[f"extra {name}"] = extra.state_dict()
        if self.scaler is not None:
            trees["scaler"] = self.scaler.state_dict()
        counters = {
            "step": self.step,
            "pictures": self.pictures,
            "elapsed": self.elapsed,
            "ema_updates": self.ema.updates,
            "log": self.log.state(),
            "made_by": self.words,
        }
        training_state.save(folder, trees, counters)
        self.saved_step = self.step

    def restore_random(self) -> None:
        """Puts torch's own generator where it was. To be called last: opening the data draws."""
        if self.random is not None:
            torch.set_rng_state(self.random)

    def is_finite(self) -> bool:
        tensors = [v for v in self.module.state_dict().values() if v.is_floating_point()]
        for extra in self.extras.values():
            weights = extra.state_dict().get("weights", {})
            tensors += [v for v in weights.values() if torch.is_tensor(v) and v.is_floating_point()]
        return all(torch.isfinite(v).all().item() for v in tensors)

    def resume(self, stage: Stage, pictures_a_step: int, note: Callable[[str], None]) -> bool:
        """Takes up the state in the stage's folder. Returns False when there is none.

        A change of a rate or a weight is noted. Raises BadInput when the recipe's network, source
        or seed is not the one that the state was begun with, BadCheckpoint when the state is
        damaged or of another network.
        """
        loaded = training_state.load(stage.folder, warn=lambda text: note(f"warning: {text}"))
        if loaded is None:
            return False
        trees, counters = loaded
        self._check_words(stage, counters, note)
        try:
            self._fill(stage, trees, counters, pictures_a_step, note)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadCheckpoint(
                f"the state in {stage.folder} does not fit the recipe's [{stage.name}]: {error}",
                f"--stage {stage.name} --fresh begins the stage anew; --runs names another folder",
            ) from error
        return True

    def _check_words(
        self, stage: Stage, counters: dict[str, Any], note: Callable[[str], None]
    ) -> None:
        before = counters.get("made_by")
        if not isinstance(before, dict):
            return  # an older state: its tensors must fit
        fixed, free = split_differences(compare(before, self.words))
        if fixed:
            raise BadInput(
                f"[{stage.name}] in {stage.folder} was begun with other settings; the recipe now"
                f" says {format_differences(fixed)}",
                f"give the old values back, or --stage {stage.name} --fresh begins the stage anew,"
                " or --runs names another folder",
            )
        if free:
            note(f"note: [{stage.name}] goes on with {format_differences(free)}")

    def _fill(
        self,
        stage: Stage,
        trees: dict[str, Any],
        counters: dict[str, Any],
        pictures_a_step: int,
        note: Callable[[str], None],
    ) -> None:
        self.module.load_state_dict(trees["weights"])
        self.ema.load(trees["ema"], counters["ema_updates"])
        moments = trees.get("optimizer", {})
        muon = any("momentum" in values for values in moments.values())
        before, now = "muon" if muon else "adamw", stage.get("optimizer", "adamw")
        if moments and before != now:
            moments = {}
            note(
                f"warning: [{stage.name}] goes on with {now} after {before}; the moments of"
                f" {before} are dropped"
            )
        training_state.restore_optimizer(self.optimizer, moments)
        for name, extra in self.extras.items():
            if f"extra {name}" in trees:
                extra.load_state_dict(trees[f"extra {name}"])
            else:
                note(f"warning: the state in {stage.folder} has no {name}; a new one begins")
        if self.scaler is not None and "scaler" in trees:
            self.scaler.load_state_dict(trees["scaler"])
        if "random" in trees:
            self.random = trees["random"]["cpu"]
        self.step, self.elapsed = counters["step"], counters["elapsed"]
        # older states do not count pictures, and keep the log's rows alone
        self.pictures = int(counters.get("pictures") or self.step * pictures_a_step)
        log = counters["log"]
        rows = log if isinstance(log, list) else log["rows"]
        self.log.rows = rows
        if isinstance(log, dict):
            self.log.sums, self.log.count = log["sums"], log["count"]
        self.saved_step = self.step
