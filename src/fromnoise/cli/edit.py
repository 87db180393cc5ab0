"""`fromnoise edit`: a picture and words, and perhaps a mask → PNG files."""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.generate import deliver, display, options
from fromnoise.cli.options import named, sides
from fromnoise.errors import BadInput
from fromnoise.pipeline.edit_request import EditRequest

if TYPE_CHECKING:
    from fromnoise.pipeline.generate import Step


@partial(options, schema=EditRequest)
def edit(
    image: Annotated[Path, typer.Argument(help="The picture to start from.")],
    prompt: Annotated[str, typer.Argument(help="What the picture shall show, the whole of it.")],
    mask: Annotated[Path | None, typer.Option(help="A picture of its size, white where to draw.")] = None,
    sampler_option: Annotated[list[str] | None, typer.Option(help="More of the sampler: order=2, solver=heun.")] = None,
    spacing_option: Annotated[list[str] | None, typer.Option(help="Of the spacing: rho=5, sigma_min=0.1.")] = None,
    size: Annotated[str | None, typer.Option(help="Pixels: 128, or 192x128; the picture's own if left out.")] = None,
    model: Annotated[str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Precision of the network: fp32, bf16 or fp16.")] = "fp32",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once: faster, last bits may differ; 1: exact.")] = 1,
    out: Annotated[Path | None, typer.Option(help="A .png, or a folder; the words and the seed if left out.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was drawn as JSON, for scripts.")] = False,
    **fields: Any,
) -> None:
    """Redraw a picture, or what a mask marks of it."""
    started = time.perf_counter()
    more = {"sampler_options": named(sampler_option), "spacing_options": named(spacing_option)}
    request = EditRequest.of(prompt=prompt, **fields, **more, **sides(size))
    if out is not None and out.suffix.lower() not in ("", ".png"):
        raise BadInput(f"cannot write {out.name}: pictures are PNG files", "end --out in .png, or name a folder")
    from fromnoise.checkpoints.hub import load_parts
    from fromnoise.pipeline import pictures
    from fromnoise.pipeline.edit import edit as draw
    from fromnoise.runtime.prepare import prepare_model

    image_, mask_ = pictures.rgb(image), None if mask is None else pictures.mask(mask)  # before the model is read
    parts = load_parts(model, image_tower=False)
    unet = prepare_model(parts, device, dtype, batch)
    if request.seed is None:
        request = request.model_copy(update={"seed": request.resolved(parts).seed})
    notes: dict[str, None] = {}  # each once

    def watch(step: "Step") -> None:
        notes.update(dict.fromkeys(step.notes))
        show(step)

    with display(parts.defaults.get("latent_rgb"), json) as show:
        drawn = draw(parts, unet, request, image_, mask_, watch)
    deliver(drawn, out, request, list(notes), json, {"model": parts.source, "plan": unet.plan}, started)
