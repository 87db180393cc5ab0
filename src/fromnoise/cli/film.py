"""`fromnoise film`: pictures on the way from prompt to prompt, as a GIF, an MP4 or a folder of
frames."""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fromnoise.cli.options import add_options
from fromnoise.cli.output_files import find_drawn, split_out
from fromnoise.cli.run import Run, name_picture
from fromnoise.errors import BadInput
from fromnoise.pipeline.sequences.request import FilmRequest

if TYPE_CHECKING:
    from PIL import Image

    from fromnoise.pipeline.generate import Step


@dataclass
class FilmRun(Run):
    """The options of a Run, whose file may be a film."""

    out: Annotated[
        str | None,
        typer.Option(
            metavar="<path>", help="A .gif, an .mp4, or a folder of frames; a .gif if left out."
        ),
    ] = None
    format: Annotated[
        str | None, typer.Option(help="Of a film without a name: gif, mp4; of frames: png, …")
    ] = None

    def __post_init__(self) -> None:
        file, folder = split_out(self.out)
        named = file.suffix.lower() if file else None
        asked = f".{self.format.lower()}" if self.format else None
        self.film = next((kind for kind in (named, asked) if kind in (".gif", ".mp4")), None)
        if self.film is None and self.out is None and asked is None:
            self.film = ".gif"
        if self.film is None and file:
            raise BadInput(
                f"cannot write a film as {self.out}",
                "name a .gif, an .mp4 or a folder, or say --format",
            )
        if self.film and asked and asked != self.film:
            raise BadInput(
                f"--out {self.out} and --format {self.format} are two formats", "leave out --format"
            )
        if self.film and self.quality:
            raise BadInput("--quality is of frames in JPEG and WebP files", "leave it out")
        given = self.out, self.format
        if self.film:
            self.out = self.format = None  # the frames are no files
        super().__post_init__()
        self.out, self.format = given
        self.file, self.folder = file, folder


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
        video.check_film(run.film, (2, 2), 1, fps)  # what needs no model
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
    count, name = request.frames, name_picture(request, 0, "")

    def draw_frames(wanted: list[int]) -> Iterator["Image.Image"]:
        with run.show_progress() as watch:
            for i in wanted:

                def watch_film(step: "Step", i: int = i) -> None:  # one bar for the whole film
                    watch(
                        replace(step, index=i * step.total + step.index, total=count * step.total)
                    )

                yield draw_frame(parts, unet, request, i, watch_film, guide)

    if run.film:
        path = run.file or run.folder / f"{name}{run.film}"
        video.check_film(run.film, (request.width or 0, request.height or 0), count, fps)
        text = describe_frame(parts, request, None, unet.plan, guide)
        every = draw_frames([*range(count)])
        paths = [video.write_film(path, every, fps, text, run.film, overwrite=run.file is not None)]
        run.facts["pictures"] = [{"path": str(paths[0]), "frames": count, "fps": fps}]
    else:
        texts = [describe_frame(parts, request, i, unet.plan, guide) for i in range(count)]
        places, drawn = choose_frames(run.folder if run.out else None, name, run.suffix, texts)
        wanted = [i for i in range(count) if drawn[i] is None]
        for i, picture in zip(wanted, draw_frames(wanted), strict=True):
            drawn[i] = save_picture(picture, places[i], run.quality_level, overwrite=False)
        paths = [path for path in drawn if path is not None]
        run.facts["pictures"] = [{"path": str(path), "frame": i} for i, path in enumerate(paths)]
    run.print_paths(paths, request)


def choose_frames(
    folder: Path | None, name: str, suffix: str, texts: list[str]
) -> tuple[list[Path], list[Path | None]]:
    """(where the frames of these settings go, those that are there already).

    A folder that the user named may hold frames of this film alone: raises BadInput for others.
    Where none is named it is `name`, or the first of "name-2", … that holds no others.
    """
    from fromnoise.errors import FromnoiseError
    from fromnoise.pipeline.provenance.read import read_text
    from fromnoise.rare_files import list_names

    for place in [folder] if folder else list_names(Path(name), folder=True):
        paths = [place / f"{i:0{len(str(len(texts) - 1))}}{suffix}" for i in range(len(texts))]
        drawn = [find_drawn(path, text) for path, text in zip(paths, texts, strict=True)]
        others = []
        for path, found in zip(paths, drawn, strict=True):
            with suppress(FromnoiseError):  # cut off or no picture: it is drawn
                if found is None and path.exists() and read_text(path):
                    others.append(path)
        if not others:
            return paths, drawn
        if folder:
            raise BadInput(
                f"{others[0]} is there, and of other settings",
                "name another folder with --out, or move it away",
            )
    raise AssertionError
