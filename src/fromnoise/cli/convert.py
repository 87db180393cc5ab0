"""`fromnoise convert`: a model from one layout into another."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.cli.terminal import print_line, print_note


def convert(
    model: Annotated[Path, typer.Argument(help="A folder, a file, or a hub id.")],
    out: Annotated[Path, typer.Argument(help="Where it goes: a folder, or a .safetensors file.")],
    to: Annotated[
        str | None, typer.Option(help="folder or single-file; else as the name of OUT ends.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the weights: keep, fp32, fp16 or bf16.")] = "keep",
    prediction: Annotated[
        str | None,
        typer.Option(help="eps, v or flow, where the file does not say it."),
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="Merge a LoRA in: NAME:WEIGHT:TEXT WEIGHT.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a model as a folder of diffusers, or as a single file.

    No network is built: the weights go from file to file, and keep their bytes unless --dtype
    changes them. Averaged weights and all else that a folder has no place for goes into
    extras.safetensors, from where it comes back."""
    from fromnoise.checkpoints.convert import convert as write
    from fromnoise.checkpoints.download import find_elsewhere

    if to is None:
        to = "single-file" if out.suffix.lower() == ".safetensors" else "folder"
    path = model.expanduser()
    path = path if path.exists() else find_elsewhere(str(model), path)
    if lora:
        from fromnoise.cli.merge import write_merged

        report = write_merged(path, out.expanduser(), to, dtype, prediction, lora)
    else:
        report = write(path, out.expanduser(), to, dtype, prediction)
    if json:
        from fromnoise.cli.json_output import print_json

        return print_json(asdict(report) | {"path": str(report.path)})
    for note in report.notes:
        print_note(note)
    print_line(f"{report.family}: {report.reason}")
    print_line(f"{report.path}  {report.bytes / 1e6:,.1f} MB")
