"""`fromnoise generate`: words → PNG files, with a progress bar and a small live preview."""

import atexit
import gc
import json as jsonlib
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.errors import BadInput
from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:  # torch comes in only when the request is known to be sound
    from fromnoise.pipeline.generate import Step


def option(field: str, *names: str) -> Any:
    """The command-line option of a field of GenerationRequest, which also says its help."""
    return typer.Option(*names, help=GenerationRequest.model_fields[field].description)


def generate(
    prompt: Annotated[str, typer.Argument(help='What to draw, as in "a neon cat in space".')],
    negative: Annotated[str, option("negative_prompt", "--negative")] = "",
    steps: Annotated[int | None, option("steps", "--steps")] = None,
    cfg: Annotated[float | None, option("cfg", "--cfg")] = None,
    cfg_rescale: Annotated[float, option("cfg_rescale", "--cfg-rescale")] = 0.0,
    sampler: Annotated[str | None, option("sampler", "--sampler")] = None,
    spacing: Annotated[str | None, option("spacing", "--spacing")] = None,
    eta: Annotated[float | None, option("eta", "--eta")] = None,
    seed: Annotated[int | None, option("seed", "--seed")] = None,
    count: Annotated[int, option("count", "--count")] = 1,
    size: Annotated[str | None, typer.Option(help="Pixels: 128, or 192x128 (width x height).")] = None,
    model: Annotated[str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Precision of the network: fp32, bf16 or fp16.")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="A .png, or a folder; the words and the seed if left out.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was drawn as JSON, for scripts.")] = False,
) -> None:
    """Draw pictures from words."""
    started = time.perf_counter()
    given = {"steps": steps, "cfg": cfg, "sampler": sampler, "spacing": spacing, "eta": eta, "seed": seed}
    request = GenerationRequest.of(
        prompt=prompt, negative_prompt=negative, cfg_rescale=cfg_rescale, count=count, **given, **sides(size)
    )
    if out is not None and out.suffix.lower() not in ("", ".png"):
        raise BadInput(f"cannot write {out.name}: pictures are PNG files", "end --out in .png, or name a folder")
    # torch makes hundreds of thousands of objects that stay. Looking through them for rubbish takes 0.15 s while it is
    # imported and 0.3 s more at the end of the process, when all of them would be taken apart one by one
    gc.disable()
    from fromnoise.checkpoints.hub import load_parts
    from fromnoise.pipeline import generate as drawing
    from fromnoise.pipeline import images
    from fromnoise.runtime.prepare import prepare_model

    gc.freeze()
    gc.enable()
    atexit.register(gc.freeze)

    parts = load_parts(model, image_tower=False)
    unet = prepare_model(parts, device, dtype)
    request = request.resolved(parts)
    assert request.seed is not None
    warnings: list[str] = []

    def watch(step: "Step") -> None:
        if step.index == 0:
            ends = zip(("prompt", "negative prompt"), step.dropped, strict=False)
            warnings.extend(f"the {text} is too long, dropped: {end}" for text, end in ends if end)
        show(step)

    with display(parts.defaults.get("latent_rgb"), json) as show:
        pictures = drawing.generate(parts, unet, request, watch=watch)
    paths = []
    for i, picture in enumerate(pictures):
        paths.append(destination(out, request, i))
        images.save(picture, paths[-1])
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if json:
        drawn = [{"path": str(path), "seed": request.seed + i} for i, path in enumerate(paths)]
        report = {"pictures": drawn, "request": request.model_dump(), "model": parts.source}
        report |= {"plan": unet.plan, "warnings": warnings, "seconds": round(time.perf_counter() - started, 3)}
        print(jsonlib.dumps(report, ensure_ascii=False))
    else:
        for path in paths:
            print(path)


def sides(size: str | None) -> dict[str, int]:
    """ "128" or "192x128" → width and height. Raises BadInput."""
    if size is None:
        return {}
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", size.strip().lower())
    if not found:
        raise BadInput(f"cannot read the size {size!r}", "write it as 128, or as 192x128 (width x height)")
    return {"width": int(found[1]), "height": int(found[2] or found[1])}


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
