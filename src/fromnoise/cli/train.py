"""`fromnoise train RECIPE`: runs a recipe's stages in order, skips finished ones, resumes the one it was in."""

import importlib
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="a .toml recipe, e.g. recipes/stickers.toml")],
    scale: Annotated[str | None, typer.Option(help="the recipe's dial, e.g. minutes, hours, gpu")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="run only this stage (repeatable)")] = None,
    runs: Annotated[Path | None, typer.Option(help="folder for checkpoints, plots and results")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.05, help="stop each training stage after this long")] = None,
    again: Annotated[bool, typer.Option(help="go on with finished stages if the recipe now asks for more")] = False,
) -> None:
    """Train every part of a model from nothing."""
    from fromnoise.train.recipe import STAGES, read

    plan = read(recipe, scale, runs, minutes)
    for name in stage or plan.stages:
        current = plan.stage(name)
        if current.done and not again:
            typer.echo(f"{name}: finished, skipped ({current.folder})")
            continue
        module, function = STAGES[name].split(":")
        result = getattr(importlib.import_module(module), function)(current, plan)
        typer.echo(
            f"{name}: " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items())
        )
