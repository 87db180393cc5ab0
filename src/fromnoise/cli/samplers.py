"""`fromnoise samplers`: the table of samplers."""

from rich.console import Console
from rich.table import Table

from fromnoise.diffusion.samplers import SAMPLERS


def samplers() -> None:
    """List the samplers, with what each costs."""
    table = Table("name", "label", "order", "calls a step", "draws noise", "options", box=None, pad_edge=False)
    for entry in SAMPLERS.values():
        order = "–" if entry.order is None else f"{entry.order:g}"
        noise = "yes" if entry.stochastic else "no"
        table.add_row(entry.name, entry.label, order, str(entry.evaluations), noise, ", ".join(entry.options))
    Console().print(table)
