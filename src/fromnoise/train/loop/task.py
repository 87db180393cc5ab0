"""What the training loop asks of a stage: the `Task` protocol."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Stateful(Protocol):
    """Something beside the trained module that changes while a stage trains, as the critic does."""

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts of tensors and numbers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Task(Protocol):
    """What a stage trains."""

    @property
    def module(self) -> nn.Module:
        """Holds every trained weight."""
        ...

    @property
    def extras(self) -> Mapping[str, Stateful]:
        """What else changes while the stage trains, by name. Saved and resumed with the weights."""
        ...

    def batches(self, step: int, size: int, rank: int, world: int) -> Iterator[Any]:
        """Endless batches from step `step` on. A batch depends on its step alone."""
        ...

    def loss(
        self, batch: Any, progress: float, noise: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """(scalar loss, figures to log). `progress` runs from 0 to 1 over the stage."""
        ...

    def preview(self, path: Path) -> None:
        """Draws a picture of what the module can do into `path` (a .png), or does nothing.

        The module holds the averaged weights at that moment.
        """
        ...

    def export(self, folder: Path) -> dict[str, Any]:
        """Writes the stage's result and returns figures for `done.json`.

        The module holds the averaged weights at that moment.
        """
        ...
