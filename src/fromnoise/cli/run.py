"""What the commands that draw share: the model, the output and the progress of a run."""

import atexit
import gc
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.terminal import print_line, print_note
from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:  # torch comes in only when the request is known to be sound
    from fromnoise.latent_diffusion import LatentDiffusion
    from fromnoise.pipeline.generate import Step
    from fromnoise.runtime.prepare import Prepared

LETTERS, BYTES = 60, 150  # of the words in a file's name
Text = str | None


@dataclass
class Run:
    """The options that every command that draws has beside its request, and what they are for."""

    model: Annotated[Text, typer.Option(help="Folder, file, name or hub id; else bundled.")] = None
    vae: Annotated[Text, typer.Option(help="A VAE in place of the model's own.")] = None
    part: Annotated[list[str] | None, typer.Option(help="What a U-Net file lacks: a VAE, …")] = None
    variant: Annotated[Text, typer.Option(help="Of a folder's weights, such as fp16.")] = None
    prediction: Annotated[Text, typer.Option(help="Of the model: eps, v or flow.")] = None
    guide: Annotated[Text, typer.Option(help="A weaker model of its kind to guide by.")] = None
    refiner: Annotated[Text, typer.Option(help="A model that draws the end of each run.")] = None
    refiner_switch: Annotated[float, typer.Option(help="Where it takes over; 1: never.")] = 0.8
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")] = "cpu"
    dtype: Annotated[str, typer.Option(help="Precision: fp32, bf16 or fp16.")] = "fp32"
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once: faster; 1: exact.")] = 1
    preview_vae: Annotated[Text, typer.Option(help="A tiny VAE for the live view.")] = None
    out: Annotated[Text, typer.Option(metavar="<path>", help="A picture file, or a folder.")] = None
    format: Annotated[Text, typer.Option(help="Of files in a folder: png, jpeg or webp.")] = None
    quality: Annotated[Text, typer.Option(help="Of JPEG and WebP: 1 to 100, or lossless.")] = None
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False

    def __post_init__(self) -> None:
        self.started, self.notes = time.perf_counter(), dict[str, None]()  # each note once
        self.suffix, self.quality_level, self.check = ".png", None, None
        self.file, self.folder = None, Path()
        if self.out or self.format or self.quality:
            from fromnoise.cli.output_files import choose_output

            (self.file, self.folder), chosen = choose_output(self.out, self.format, self.quality)
            self.suffix, self.quality_level, self.check = chosen

    def check_output(self, request: GenerationRequest) -> None:
        """Raises BadInput where the pictures could not be written: before the model is read."""
        if self.check:
            self.check(request)
        if self.out or not os.access(".", os.W_OK):
            from fromnoise.rare_files import check_writable

            longest = request.model_copy(update={"seed": 2**63} if request.count > 1 else {})
            check_writable(self.choose_path(longest, 0))

    def choose_path(self, request: GenerationRequest, index: int) -> Path:
        """Where picture `index` of a request goes."""
        if self.file is None:
            return self.folder / name_picture(request, index, self.suffix)
        seed = f"-{(request.seed or 0) + index}" if request.count > 1 else ""
        return self.file.with_name(f"{self.file.stem}{seed}{self.file.suffix}")

    def load(
        self, image_tower: bool = False, encoder: bool = True
    ) -> tuple["LatentDiffusion", "Prepared", "Prepared | None"]:
        """(the model, its network and the guide's as they run)."""
        # torch makes many objects that stay: to look through them for rubbish takes 0.45 s
        gc.disable()
        from fromnoise.checkpoints.hub import load_parts
        from fromnoise.runtime.prepare import prepare_model

        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)
        rare = self.prediction, self.variant, self.part
        parts = load_parts(self.model, image_tower, encoder, *rare)
        if self.vae is not None:
            from fromnoise.checkpoints.formats.vae import replace_vae

            replace_vae(parts, Path(self.vae), encoder)
        plan, weaker = (self.device, self.dtype, self.batch), None
        unet = prepare_model(parts, *plan)
        if self.guide or self.refiner:
            from fromnoise.cli.helpers import prepare_helpers

            others = self.guide, self.refiner, self.refiner_switch
            weaker = prepare_helpers(parts, *others, *plan)
        self.facts: dict[str, Any] = {"model": parts.source, "plan": unet.plan}
        self.parts = parts
        return parts, unet, weaker

    @contextmanager
    def show_progress(self) -> Iterator[Callable[["Step"], None]]:
        """What shows the steps of a run: a bar and a preview on a terminal, else nothing."""
        quiet, shown = self.json or not sys.stderr.isatty(), nullcontext(lambda step: None)
        if not quiet:
            from fromnoise.cli.preview import Preview, choose_look

            shown = Preview(choose_look(self.parts, self.preview_vae))

        def watch(step: "Step") -> None:
            self.notes.update(dict.fromkeys(step.notes))
            show(step)

        with shown as show:
            yield watch

    def save_pictures(
        self, pictures: list[Any], request: GenerationRequest, paths: list[Path] | None = None
    ) -> None:
        """Writes the files (at `paths`), says where. Only what the user named is overwritten."""
        from fromnoise.pipeline.saving import save_picture

        overwrite = paths is None and self.file is not None and request.count == 1
        chosen = paths or [self.choose_path(request, i) for i in range(len(pictures))]
        written = [
            save_picture(picture, path, self.quality_level, overwrite, self.suffix)
            for picture, path in zip(pictures, chosen, strict=True)
        ]
        self.print_paths(written, request)

    def print_paths(self, paths: list[Path], request: GenerationRequest) -> None:
        """Prints the notes and where the files are, or all of it as JSON."""
        for note in self.notes:
            print_note(note)
        if self.json:
            from fromnoise.cli.json_output import describe_run, print_json

            return print_json(describe_run(paths, request, self.facts, self.notes, self.started))
        for path in paths:
            print_line(path)


def name_picture(request: GenerationRequest, index: int, suffix: str) -> str:
    """The name of picture `index` in a folder: its words and its seed."""
    return f"{simplify_words(request.prompt)}-{(request.seed or 0) + index}{suffix}"


def simplify_words(text: str) -> str:
    """Words of a file's name: letters, marks, digits and pictographs, and dashes for all else."""
    text = unicodedata.normalize("NFC", text[:2000].lower())
    kept = "".join(sign if _is_kept(sign) else "-" for sign in text)
    words = re.sub("-+", "-", kept)[:LETTERS]
    words = words.encode("utf-8")[:BYTES].decode("utf-8", "ignore").strip("-")
    while words and unicodedata.category(words[0])[0] == "M":  # a mark without its letter
        words = words[1:].lstrip("-")
    return words or "picture"


def _is_kept(sign: str) -> bool:
    kind = unicodedata.category(sign)
    return sign == "_" or kind[0] in "LMN" or (kind in ("So", "Sk") and ord(sign) > 0xFF)
