"""`fromnoise inspect`: what a model's file or folder is, from its headers."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fromnoise.checkpoints.inspection import Report
    from fromnoise.checkpoints.lora.report import LoraReport

METADATA, CHARACTERS = 40, 4_000  # facts that are printed, and signs of one of them in JSON
NAMES = 20  # globals of a pickle that are printed


def inspect(
    path: Annotated[Path, typer.Argument(help="A file (.safetensors, .ckpt, .gguf) or a folder.")],
    hash: Annotated[
        bool, typer.Option("--hash", help="SHA-256, AutoV2 and A1111's legacy hash; reads it all.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print all that is known as JSON.")] = False,
) -> None:
    """Say what a model file is: its family and how that is known, parts, types, prediction.

    Only headers are read: no torch, and nothing of a pickle is run."""
    from fromnoise.checkpoints.inspection import inspect as look

    report = look(path.expanduser(), hash)
    if json:
        from fromnoise.cli.json_output import print_json

        return print_json(describe(report), indent=2)
    print_report(report)


def describe(report: "Report") -> dict[str, Any]:
    """The report as values of JSON."""
    values: dict[str, Any] = {"path": str(report.path), "bytes": report.size, "kind": report.kind}
    if family := report.family:
        values["family"] = {"name": family.name, "kind": family.kind, "reason": family.reason}
        values["prediction"] = {
            "name": family.prediction,
            "reason": family.prediction_reason,
            "guessed": family.guessed,
        }
    values["parts"] = [
        {
            "name": part.name,
            "tensors": part.tensors,
            "parameters": part.parameters,
            "types": dict(part.types),
        }
        for part in report.parts
    ]
    cut = {key[:200]: value[:CHARACTERS] for key, value in report.metadata.items()}
    values |= {"metadata": cut, "problems": report.problems, "notes": report.notes}
    values |= {"placeholders": report.placeholders}
    if report.lora:
        values["lora"] = asdict(report.lora)
    if report.hashes:
        values["hashes"] = report.hashes
    if report.files:
        values["files"] = [describe(file) for file in report.files]
    return values


def print_report(report: "Report") -> None:
    """Prints the report for people, every text of the file escaped and cut."""
    from fromnoise.cli.terminal import print_line, print_note
    from fromnoise.errors import escape

    print_line(f"{report.path}: {report.kind}, {report.size:,} bytes")
    if family := report.family:
        print_line(f"family      {family.name}: {family.reason}")
        if family.prediction:
            guess = "a guess: " if family.guessed else ""
            print_line(f"prediction  {family.prediction}: {guess}{family.prediction_reason}")
    width = max((len(part.name) for part in report.parts), default=0)
    for part in report.parts:
        types = ", ".join(kind for kind, _ in part.types.most_common())
        sizes = f"{part.tensors:>6,} tensors {part.parameters:>15,} parameters"
        print_line(f"{escape(part.name, 80):{min(width, 80)}} {sizes}  {types}")
    if report.lora:
        print_lora(report.lora)
    for key, value in [*report.metadata.items()][:METADATA]:
        print_line(f"metadata    {escape(key, 80)}: {escape(value, 160)}")
    if (more := len(report.metadata) - METADATA) > 0:
        print_line(f"metadata    … and {more} more; --json shows them")
    if names := report.placeholders:
        more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        shown = ", ".join(escape(name, 100) for name in names[:NAMES])
        print_line(f"globals     {shown}{more}: named by the pickle, not imported and not run")
    for name, value in report.hashes.items():
        print_line(f"{name:11} {value}")
    for file in report.files:
        for name, value in file.hashes.items():
            print_line(f"{name:11} {value}  {file.path.relative_to(report.path)}")
    for problem in report.problems:
        print_note(problem, "problem")
    for note in report.notes:
        print_note(note)


def print_lora(report: "LoraReport") -> None:
    """Prints what a LoRA changes, and what its training says of it."""
    from fromnoise.checkpoints.lora.report import list_facts
    from fromnoise.cli.terminal import print_line

    for name, words in list_facts(report).items():
        print_line(f"{name:11} {words}")
