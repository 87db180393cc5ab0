"""`fromnoise samplers`: the tables of samplers and spacings."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS


def samplers(
    json: Annotated[bool, typer.Option("--json", help="Print all that is known as JSON.")] = False,
) -> None:
    """List the samplers, with what each costs, and the spacings."""
    if json:
        tables = {"samplers": SAMPLERS, "spacings": SPACINGS}
        found = {
            name: [asdict(entry) for entry in table.values()] for name, table in tables.items()
        }
        for entry in (entry for entries in found.values() for entry in entries):
            del entry["module"], entry["function"]  # which are nobody's business
        from fromnoise.cli.json_output import print_json

        return print_json(found, indent=2)
    name = Column("name", no_wrap=True)
    table = Table(name, "label", "order", "calls", "noise", "options", box=None, pad_edge=False)
    for entry in SAMPLERS.values():
        order = "–" if entry.order is None else f"{entry.order:g}"
        noise = "yes" if entry.stochastic else "no"
        table.add_row(
            entry.name,
            entry.label,
            order,
            str(entry.evaluations or "any"),
            noise,
            ", ".join(entry.options),
        )
    spacings = Table(Column("spacing", no_wrap=True), "label", "options", box=None, pad_edge=False)
    for entry in SPACINGS.values():
        spacings.add_row(entry.name, entry.label, ", ".join(entry.options))
    console = Console()
    console.print(table)
    console.print()
    console.print(spacings)
