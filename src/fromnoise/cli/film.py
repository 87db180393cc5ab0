"""`fromnoise film`: pictures on the way from prompt to prompt, as a GIF, an MP4 or a folder of
frames."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fromnoise.cli.options import add_options
from fromnoise.cli.outputs import choose_path, is_drawn
from fromnoise.cli.run import Run
from fromnoise.errors import BadInput
from fromnoise.pipeline.sequences.request import FilmRequest

if TYPE_CHECKING:
    from PIL import Image

    from fromnoise.pipeline.generate import Step


@dataclass
class FilmRun(Run):
    """The options of a Run, whose file may be a film."""

    out: Annotated[
        Path | None,
        typer.Option(help="A .gif, an .mp4, or a folder of frames; a .gif if left out."),
    ] = None
    format: Annotated[
        str | None, typer.Option(help="Of a film without a name: gif, mp4; of frames: png, …")
    ] = None

    def __post_init__(self) -> None:
        named = None if self.out is None or not self.out.suffix else self.out.suffix.lower()
        asked = f".{self.format.lower()}" if self.format else None
        self.film = next((kind for kind in (named, asked) if kind in (".gif", ".mp4")), None)
        if self.film is None and self.out is None and asked is None:
            self.film = ".gif"
        if self.film is None and named:
            raise BadInput(f"cannot write a film as {self.out}", "name a .gif, an .mp4 or a folder")
        if self.film and asked and asked != self.film:
            raise BadInput(
                f"--out {self.out} and --format {self.format} are two formats", "leave out --format"
            )
        if self.film and self.quality:
            raise BadInput("--quality is of frames in JPEG and WebP files", "leave it out")
        kept = self.out, self.format
        if self.film:
            self.out = self.format = None
        super().__post_init__()
        self.out, self.format = kept


@partial(add_options, schema=FilmRequest, kind=FilmRun)
def film(
    prompts: Annotated[list[str], typer.Argument(help="One for each key frame, or one for all.")],
    key_seeds: Annotated[
        str | None, typer.Option("--seeds", help="One for each key frame, as in 1,7,3.")
    ] = None,
    fps: Annotated[float, typer.Option(min=0.1, max=120, help="Frames a second.")] = 12,
    *,
    request: FilmRequest,
    run: FilmRun,
) -> None:
    """Draw a film that goes from prompt to prompt, and from seed to seed."""
    from fromnoise.pipeline import video
    from fromnoise.pipeline.preflight import check_drawable, check_each

    if run.film:
        video.check_film(Path(f"a{run.film}"), (2, 2), 1, fps)  # what needs no model
    if request.seed is None:
        request = request.model_copy(update={"seed": secrets.randbelow(2**32)})
    parts, unet, guide = run.load(encoder=False)
    from fromnoise.pipeline.saving import save_picture
    from fromnoise.pipeline.sequences.film import describe_frame, draw_frame, key_request

    request = request.resolve(parts)
    keys = range(request.keys)
    check_each(
        [(f"key frame {i + 1}", key_request(request, i)) for i in keys],
        lambda one: check_drawable(parts, unet, one, guide),
    )
    count, words = request.frames, choose_path(None, request, 0, "").name
    texts = [describe_frame(parts, request, i, unet.plan, guide) for i in range(count)]

    def frames(wanted: list[int]) -> Iterator["Image.Image"]:
        with run.show_progress() as watch:
            for i in wanted:

                def shown(step: "Step", i: int = i) -> None:  # one bar for the whole film
                    watch(
                        replace(step, index=i * step.total + step.index, total=count * step.total)
                    )

                yield draw_frame(parts, unet, request, i, shown, guide)

    if run.film:
        path = run.out if run.out and run.out.suffix else (run.out or Path()) / f"{words}{run.film}"
        video.check_film(path, (request.width or 0, request.height or 0), count, fps)
        paths = [
            video.write_film(
                path,
                frames([*range(count)]),
                fps,
                describe_frame(parts, request, None, unet.plan, guide),
            )
        ]
        run.facts["pictures"] = [{"path": str(path), "frames": count, "fps": fps}]
    else:
        folder = run.out or Path(words)
        paths = [folder / f"{i:0{len(str(count - 1))}}{run.suffix}" for i in range(count)]
        already = check_each(
            [(f"frame {i}", i) for i in range(count)], lambda i: is_drawn(paths[i], texts[i])
        )
        wanted = [i for i in range(count) if not already[i]]
        for i, picture in zip(wanted, frames(wanted), strict=True):
            save_picture(picture, paths[i], run.level)
        run.facts["pictures"] = [{"path": str(path), "frame": i} for i, path in enumerate(paths)]
    run.print_paths(paths, request)
