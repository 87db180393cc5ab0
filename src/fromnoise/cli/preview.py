"""The live view of a run in a terminal: a progress bar, and the first picture in half blocks where
there is colour."""

from pathlib import Path

from rich.color import Color
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.style import Style
from rich.text import Text
from torch import Tensor

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline import likeness
from fromnoise.pipeline.generate import Step


def choose_look(model: LatentDiffusion, file: str | None = None) -> likeness.Look:
    """The likeness that a preview shows, see `likeness.choose_look`; file: of a tiny autoencoder.

    Raises NotFound, BadCheckpoint, and BadInput for a tiny autoencoder of other latents."""
    if file is None:
        return likeness.choose_look(model)
    from fromnoise.checkpoints.formats.vae import load_fitting

    return likeness.choose_look(model, load_fitting(model, Path(file), encoder=False)[0])


class Preview:
    """Shows each Step it is called with, inside `with Preview(…) as show:`.

    look: what it shows of the first picture's latents, see `choose_look`.
    """

    def __init__(self, look: likeness.Look, console: Console | None = None):
        self.look = look
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
        picture = draw_half_blocks(self.look(step.x0[0])) if colour else Text()
        self.live.update(Group(picture, self.progress) if colour else self.progress, refresh=True)


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
