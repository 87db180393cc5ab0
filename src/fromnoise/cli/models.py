"""`fromnoise models`: the models on this machine, ours and those of other programs."""

from typing import Annotated

import typer


def models(
    kind: Annotated[
        str | None, typer.Option(help="Only of this kind: model, vae, lora, upscaler, ...")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all that is known as JSON.")] = False,
) -> None:
    """List the models on this machine: yours, and those of A1111, ComfyUI, InvokeAI and the hub's
    cache. They stay where they are."""
    from fromnoise.checkpoints.hub import BUNDLED
    from fromnoise.checkpoints.library import KINDS, Model, find_roots, list_models, measure
    from fromnoise.errors import UnknownName

    if kind is not None and kind not in KINDS.values():
        raise UnknownName("kind", kind, dict.fromkeys(KINDS.values()))
    found = [Model("fromnoise", "model", BUNDLED, "bundled", measure(BUNDLED)), *list_models()]
    found = [model for model in found if kind in (None, model.kind)]
    if json:
        from fromnoise.cli.json_output import print_json

        rows = [model._asdict() | {"path": str(model.path)} for model in found]
        return print_json({"models": rows, "folders": [*map(str, find_roots())]}, indent=2)
    print_table(found)


def print_table(found: list) -> None:
    """Prints the models, and where more can be put."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from fromnoise.checkpoints.library import find_roots
    from fromnoise.cli.terminal import print_note
    from fromnoise.errors import escape

    size = Column("size", justify="right", no_wrap=True)
    name = Column("name", overflow="fold")
    table = Table("kind", name, size, "in the folders of", box=None, pad_edge=False)
    for model in found:
        cells = (model.kind or "?", model.name, f"{model.size / 1e6:,.0f} MB", model.program)
        table.add_row(*(Text(escape(cell)) for cell in cells))  # names are no markup
    Console().print(table)
    if len(found) < 2:
        folder = next(iter(find_roots()))
        print_note(f"models in {folder} are listed here; FROMNOISE_MODELS names other folders")
