"""`fromnoise train RECIPE`: runs a recipe's stages in order; finished ones are skipped, the one
that was interrupted goes on."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A .toml recipe, e.g. recipes/stickers.toml.")],
    scale: Annotated[
        str | None, typer.Option(help="The recipe's dial, e.g. minutes, hours, gpu.")
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Run only this stage (repeatable).")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder for states, plots and results.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="Stop each training stage after this long.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Go on from this model's parts: a folder, or `bundled`.")
    ] = None,
    again: Annotated[
        bool, typer.Option(help="Go on with finished stages, e.g. for more pictures.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option(help="Begin the stages anew; remove what they left.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option(help="Take an older version's finished stages as this recipe's.")
    ] = False,
    rewind: Annotated[
        bool, typer.Option(help="Go back to the state before the last one, with --stage.")
    ] = False,
) -> None:
    """Train every part of a model from nothing."""
    from fromnoise.errors import BadInput
    from fromnoise.train.loop.interrupt import Interrupted, raise_interrupted
    from fromnoise.train.recipe import read_recipe
    from fromnoise.train.run import run_stages

    if rewind and not stage:
        raise BadInput("--rewind needs a stage", "name it: --stage NAME --rewind")
    if fresh and (again or adopt or rewind):
        raise BadInput("--fresh removes what --again, --adopt and --rewind use", "leave one out")
    plan = read_recipe(recipe, scale, runs, minutes)
    for name in stage or ():
        plan.stage(name)
    try:
        with raise_interrupted():
            if start is not None:
                from fromnoise.train.stages.assemble import unpack_model

                unpack_model(None if start == "bundled" else start, plan)
            run_stages(plan, stage or plan.stages, typer.echo, again, fresh, adopt, rewind)
    except Interrupted as stop:
        typer.echo(f"stopped: {stop}", err=True)
        raise typer.Exit(stop.code) from None
