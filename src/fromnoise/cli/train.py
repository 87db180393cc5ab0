"""`fromnoise train RECIPE`: runs a recipe's stages in order, skips finished ones, resumes the one
it was in."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="a .toml recipe, e.g. recipes/stickers.toml")],
    scale: Annotated[
        str | None, typer.Option(help="the recipe's dial, e.g. minutes, hours, gpu")
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="run only this stage (repeatable)")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="folder for checkpoints, plots and results")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="stop each training stage after this long")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="go on from this model's parts: a folder, or `bundled`")
    ] = None,
    again: Annotated[
        bool, typer.Option(help="go on with finished stages if the recipe now asks for more")
    ] = False,
) -> None:
    """Train every part of a model from nothing."""
    from fromnoise.train.recipe import read_recipe, run_stage

    plan = read_recipe(recipe, scale, runs, minutes)
    if start is not None:
        from fromnoise.train.stages.assemble import unpack_model

        unpack_model(None if start == "bundled" else start, plan)
    for name in stage or plan.stages:
        current = plan.stage(name)
        if current.done and not again:
            typer.echo(f"{name}: finished, skipped ({current.folder})")
            continue
        result = run_stage(plan, name)
        typer.echo(
            f"{name}: "
            + ", ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items()
            )
        )
