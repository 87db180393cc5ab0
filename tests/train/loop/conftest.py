"""A task that trains in milliseconds."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fromnoise.train import parts
from fromnoise.train.loop.fit import fit
from fromnoise.train.recipe import Recipe, Stage


class TinyTask:
    """Learns to double numbers. `at` maps a step to what happens in its loss."""

    def __init__(self, at: dict[int, Any] | None = None, extras: dict | None = None):
        torch.manual_seed(0)
        self.module: nn.Module = nn.Linear(3, 3)
        self.extras, self.at, self.step = extras or {}, at or {}, 0
        self.weights: list[torch.Tensor] = []  # before each step

    def batches(self, step: int, size: int, rank: int, world: int) -> Iterator[torch.Tensor]:
        self.step = step
        while True:
            yield torch.randn(size, 3, generator=torch.Generator().manual_seed(step))
            step += 1

    def loss(self, batch, progress, noise):
        self.weights.append(self.module.weight.detach().clone())
        loss = F.mse_loss(self.module(batch), 2 * batch)
        for extra in self.extras.values():
            loss = loss + extra(batch)
        if event := self.at.get(self.step):
            loss = event(loss)
        self.step += 1
        return loss, {"mse": float(loss.detach())}

    def preview(self, path: Path) -> None:
        pass

    def export(self, folder: Path) -> dict[str, Any]:
        parts.save_weights(self.module, folder / "unet.safetensors")
        return {"good": True}


class Bench:
    """Trains TinyTasks in one folder."""

    def __init__(self, runs: Path):
        self.runs = runs

    def recipe(self, **values: Any) -> Recipe:
        values = {"batch": 2, "pictures": 12, "lr": 1e-2, "checkpoint_minutes": 0} | values
        stage = Stage("unet", self.runs / "unet", values)
        return Recipe("tiny", self.runs, 0, "tiny", {}, {"unet": stage})

    @property
    def folder(self) -> Path:
        return self.runs / "unet"

    def train(self, task: TinyTask | None = None, **values: Any) -> dict[str, Any]:
        recipe = self.recipe(**values)
        return fit(task or TinyTask(), recipe.stage("unet"), recipe)


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    source = SimpleNamespace(fingerprint="tiny", size=8)
    monkeypatch.setattr("fromnoise.data.sources.open_source", lambda name, **options: source)
    return Bench(tmp_path / "runs")


@pytest.fixture
def make_task():
    return TinyTask
