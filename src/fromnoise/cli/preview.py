"""The live view of a run in a terminal: a progress bar, and the first picture in half blocks where
there is colour."""

import torch
from rich.color import Color
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.style import Style
from rich.text import Text
from torch import Tensor

from fromnoise.pipeline.generate import Step


class Preview:
    """Shows each Step it is called with, inside `with Preview(…) as show:`.

    latent_rgb: (C + 1, 3) numbers that make RGB in [−1, 1] of C latent channels and a 1, as a
    model's fromnoise.json may give; without them the first channels stand for red, green and blue.
    """

    def __init__(self, latent_rgb: list[list[float]] | None = None, console: Console | None = None):
        self.latent_rgb = latent_rgb
        self.console = console or Console(stderr=True)
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("σ {task.fields[sigma]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=self.console)
        self.task = self.progress.add_task("", total=None, sigma="–")
        self.live = Live(self.progress, console=self.console, transient=True, auto_refresh=False)

    def __enter__(self) -> "Preview":
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def __call__(self, step: Step) -> None:
        self.progress.update(
            self.task, completed=step.index + 1, total=step.total, sigma=f"{step.sigma:.2f}"
        )
        colour = self.console.color_system in ("256", "truecolor")
        picture = (
            draw_half_blocks(preview_pixels(step.x0[0], self.latent_rgb)) if colour else Text()
        )
        self.live.update(Group(picture, self.progress) if colour else self.progress, refresh=True)


def preview_pixels(latents: Tensor, latent_rgb: list[list[float]] | None = None) -> Tensor:
    """Latents (C, h, w) → a cheap likeness of the picture, (h, w, 3) uint8."""
    if latent_rgb is None:
        image = torch.tanh(latents[[0, 1 % len(latents), 2 % len(latents)]].movedim(0, -1) / 1.5)
    else:
        matrix = torch.tensor(latent_rgb)
        image = latents.movedim(0, -1) @ matrix[:-1] + matrix[-1]
    return (image * 127.5 + 127.5).clamp(0, 255).to(torch.uint8)


def draw_half_blocks(pixels: Tensor) -> Text:
    """Pixels (h, w, 3) uint8 → text of ⌈h / 2⌉ lines: each ▀ is two pixels, its foreground the
    upper one. At most 64 columns: larger pictures are thinned out."""
    stride = -(-pixels.shape[1] // 64)
    rows: list[list[list[int]]] = pixels[::stride, ::stride].tolist()
    text = Text()
    for y in range(0, len(rows), 2):
        for top, bottom in zip(rows[y], rows[min(y + 1, len(rows) - 1)], strict=True):
            text.append("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom)))
        text.append("\n")
    return text
