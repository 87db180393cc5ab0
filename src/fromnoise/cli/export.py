"""`fromnoise export`: a model as files for other programs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.cli.terminal import print_line, print_note


def export(
    model: Annotated[
        str | None, typer.Argument(help="A folder or a hub id; the bundled model if left out.")
    ] = None,
    to: Annotated[str, typer.Option(help="The kind of files: onnx.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(metavar="<path>", help="A folder; else NAME-onnx.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the weights: fp32, fp16 or int8.")] = "fp32",
    parts: Annotated[
        str | None,
        typer.Option(
            help="Some alone: unet,text_encoder,vae_decoder,vae_encoder,image_tower.",
            metavar="<a,b,…>",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a model as files that other programs run.

    Each part is run by ONNX Runtime and by PyTorch, and the difference is printed. A part that int8
    or fp16 weights change by more than 1 % has finer ones, and a note says so."""
    from fromnoise.checkpoints.exports import load_exporter
    from fromnoise.checkpoints.hub import load_parts

    exporter = load_exporter(to)
    loaded = load_parts(model)
    folder = out or Path(f"{loaded.source}-{to}")
    names = None if parts is None else list(dict.fromkeys(parts.replace(" ", "").split(",")))
    report = exporter(loaded, folder, dtype, names)
    if json:
        from fromnoise.cli.json_output import print_json

        return print_json(asdict(report) | {"folder": str(report.folder)})
    for note in report.notes:
        print_note(note)
    for name, facts in report.parts.items():
        size = f"{facts['bytes'] / 1e6:,.1f} MB"
        print_line(f"{name:12}  {facts['dtype']}  {size:>10}  differs by {facts['error']:.1e}")
    print_line(report.folder)
