"""`fromnoise generate`: words → PNG files, with a progress bar and a small live preview."""

import atexit
import gc
import inspect
import json as jsonlib
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import typer

from fromnoise.errors import BadInput
from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:  # torch comes in only when the request is known to be sound
    from fromnoise.pipeline.generate import Step


# how the command line calls a field, where it is not the field's name with hyphens
NAMES = {"negative_prompt": "--negative", "eta_noise_seed_delta": "--ensd", "apg": "--apg",
         "discard_penultimate": "--discard-penultimate/--keep-penultimate"}  # fmt: skip
OWN = ("prompt", "width", "height", "sampler_options", "spacing_options")  # these are spelled in another way


def options(command: Callable[..., None], schema: type[GenerationRequest] = GenerationRequest) -> Callable[..., None]:
    """Gives a command, in place of its `**fields`, an option for every field of `schema`: of its name, type, default
    and description."""
    first, *own, _ = inspect.signature(command).parameters.values()
    made = []
    for field, about in schema.model_fields.items():
        if field not in OWN:
            kind = str if get_origin(about.annotation) is Literal else about.annotation
            shown = typer.Option(*filter(None, [NAMES.get(field)]), help=about.description)
            made.append(first.replace(name=field, default=about.default, annotation=Annotated[kind, shown]))
    made = sorted([first, *made, *own], key=lambda p: p.default is not p.empty)  # what must be given goes before
    command.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in made}
    return command


@options
def generate(
    prompt: Annotated[str, typer.Argument(help='What to draw, as in "a neon cat in space".')],
    sampler_option: Annotated[list[str] | None, typer.Option(help="More of the sampler: order=2, solver=heun.")] = None,
    spacing_option: Annotated[list[str] | None, typer.Option(help="Of the spacing: rho=5, sigma_min=0.1.")] = None,
    size: Annotated[str | None, typer.Option(help="Pixels: 128, or 192x128 (width x height).")] = None,
    model: Annotated[str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")] = None,
    guide: Annotated[str | None, typer.Option(help="A weaker model of the same kind to guide by.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Precision of the network: fp32, bf16 or fp16.")] = "fp32",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once: faster, last bits may differ; 1: exact.")] = 1,
    out: Annotated[Path | None, typer.Option(help="A .png, or a folder; the words and the seed if left out.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was drawn as JSON, for scripts.")] = False,
    **fields: Any,
) -> None:
    """Draw pictures from words."""
    started = time.perf_counter()
    if sampler_option or spacing_option or size:
        from fromnoise.cli.options import named, sides

        fields |= {"sampler_options": named(sampler_option), "spacing_options": named(spacing_option), **sides(size)}
    request = GenerationRequest.of(prompt=prompt, **fields)
    if out is not None and out.suffix.lower() not in ("", ".png"):
        raise BadInput(f"cannot write {out.name}: pictures are PNG files", "end --out in .png, or name a folder")
    # torch makes hundreds of thousands of objects that stay. Looking through them for rubbish takes 0.15 s while it is
    # imported and 0.3 s more at the end of the process, when all of them would be taken apart one by one
    gc.disable()
    from fromnoise.checkpoints.hub import load_parts
    from fromnoise.pipeline import generate as drawing
    from fromnoise.runtime.prepare import prepare_model

    gc.freeze()
    gc.enable()
    atexit.register(gc.freeze)

    parts = load_parts(model, image_tower=False)
    unet = prepare_model(parts, device, dtype, batch)
    weaker = None
    if guide is not None:
        from fromnoise.runtime.guide import prepare_guide

        weaker = prepare_guide(parts, load_parts(guide, image_tower=False), device, dtype, batch)
    request = request.resolved(parts)
    notes: dict[str, None] = {}  # each once

    def watch(step: "Step") -> None:
        notes.update(dict.fromkeys(step.notes))
        show(step)

    with display(parts.defaults.get("latent_rgb"), json) as show:
        pictures = drawing.generate(parts, unet, request, watch=watch, guide=weaker)
    deliver(pictures, out, request, list(notes), json, {"model": parts.source, "plan": unet.plan}, started)


def deliver(pictures: list[Any], out: Path | None, request: GenerationRequest, notes: list[str], json: bool,
            facts: dict[str, str], started: float) -> None:  # fmt: skip
    """Writes the files and says where they are; facts: what the JSON says besides."""
    from fromnoise.pipeline import images

    paths = [destination(out, request, i) for i in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        images.save(picture, path)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if json:
        drawn = [{"path": str(path), "seed": (request.seed or 0) + i} for i, path in enumerate(paths)]
        report = {"pictures": drawn, "request": request.model_dump(mode="json"), **facts, "notes": notes}
        print(jsonlib.dumps(report | {"seconds": round(time.perf_counter() - started, 3)}, ensure_ascii=False))
    else:
        print(*paths, sep="\n")


def destination(out: Path | None, request: GenerationRequest, index: int) -> Path:
    """Where picture `index` goes: `out` itself if it is a .png and there is one picture, else a name with the seed."""
    seed = (request.seed or 0) + index
    if out is not None and out.suffix:
        return out if request.count == 1 else out.with_name(f"{out.stem}-{seed}{out.suffix}")
    words = re.sub(r"\W+", "-", request.prompt.lower()).strip("-")[:60] or "picture"
    return (out or Path()) / f"{words}-{seed}.png"


def display(latent_rgb: list[list[float]] | None, quiet: bool) -> AbstractContextManager[Callable[["Step"], None]]:
    """What shows the steps of a run: a progress bar and a preview on a terminal, nothing anywhere else."""
    if quiet or not sys.stderr.isatty():
        return nullcontext(lambda step: None)
    from fromnoise.cli.preview import Preview

    return Preview(latent_rgb)
