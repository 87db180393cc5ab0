"""The live view of a run in a terminal: a progress bar, and the first picture in half blocks where
there is colour."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.color import Color
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.style import Style
from rich.text import Text
from torch import Tensor

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.tiny_vae import TinyVAE
from fromnoise.models.vae import VAE
from fromnoise.pipeline.generate import Step

Look = Callable[[Tensor], Tensor]  # latents (C, h, w) → a likeness of the picture (H, W, 3) uint8
# RGB in [−1, 1] of four latent channels and a 1, by the scaling factor of Stable Diffusion's
# autoencoders: as ComfyUI's contributors fitted them (comfy/latent_formats.py)
LATENT_RGB = {
    0.18215: [
        [0.3512, 0.2297, 0.3227],
        [0.325, 0.4974, 0.235],
        [-0.2829, 0.1762, 0.2721],
        [-0.212, -0.2616, -0.7177],
        [0.0, 0.0, 0.0],
    ],
    0.13025: [
        [0.3651, 0.4232, 0.4341],
        [-0.2533, -0.0042, 0.1068],
        [0.1076, 0.1111, -0.0362],
        [-0.3165, -0.2492, -0.2188],
        [0.1084, -0.0175, -0.0011],
    ],
}


def choose_look(model: LatentDiffusion, file: str | None = None) -> Look:
    """The likeness that a preview shows: what a tiny autoencoder decodes, from `file` or where it
    is the model's own; else a linear map that the model or its kind has; else three channels.

    Raises NotFound, BadCheckpoint, and BadInput for a tiny autoencoder of other latents."""
    vae: VAE | TinyVAE = model.vae
    if file is not None:
        from fromnoise.checkpoints.formats.vae import load_fitting

        vae = load_fitting(model, Path(file), encoder=False)[0]
    if file is not None or isinstance(vae, TinyVAE):
        return partial(decode_preview, vae)
    config = model.vae.config
    usual = LATENT_RGB.get(config.scaling_factor) if config.latent_channels == 4 else None
    return partial(preview_pixels, latent_rgb=model.defaults.get("latent_rgb") or usual)


@torch.inference_mode()
def decode_preview(vae: VAE | TinyVAE, latents: Tensor) -> Tensor:
    """Latents (C, h, w) → the autoencoder's picture of them, (H, W, 3) uint8."""
    image = vae.to_image(latents[None].to(next(vae.parameters()).device))[0].movedim(0, -1).cpu()
    return (image * 127.5 + 127.5).clamp(0, 255).to(torch.uint8)


class Preview:
    """Shows each Step it is called with, inside `with Preview(…) as show:`.

    look: what it shows of the first picture's latents, see `choose_look`.
    """

    def __init__(self, look: Look, console: Console | None = None):
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


def preview_pixels(latents: Tensor, latent_rgb: list[list[float]] | None = None) -> Tensor:
    """Latents (C, h, w) → a cheap likeness of the picture, (h, w, 3) uint8.

    latent_rgb: (C + 1, 3) numbers that make RGB in [−1, 1] of C latent channels and a 1, as a
    model's fromnoise.json may give; without them the first channels stand for red, green and blue.
    """
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
