"""Runs the stages of a recipe: each finished one is reused, checked, or begun anew."""

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from importlib import import_module
from typing import Any

from fromnoise.checkpoints import training_state
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.train import results
from fromnoise.train.loop.lock import lock_folder
from fromnoise.train.recipe import KINDS, Recipe, Stage


def run_stage(recipe: Recipe, name: str) -> dict[str, Any]:
    """Runs one stage and returns its figures. It goes on from the state in the stage's folder.

    The first weights depend on the recipe's seed alone. Raises BadInput when another training works
    in the folder, or when a stage before this one was made by other settings.
    """
    import torch

    stage = recipe.stage(name)
    with _lock(stage):
        for earlier in results.find_upstream(stage, recipe):
            results.check_words(recipe.stages[earlier], recipe, amount=False)
            results.check_files(recipe.stages[earlier])
        # networks take their first weights from torch's own generator
        torch.manual_seed(recipe.seed)
        module, function = KINDS[name].run.split(":")
        return getattr(import_module(module), function)(stage, recipe)


def run_stages(
    recipe: Recipe,
    names: Iterable[str],
    report: Callable[[str], None],
    again: bool = False,
    fresh: bool = False,
    adopt: bool = False,
    rewind: bool = False,
) -> None:
    """Runs stages in order and skips those that are finished by the recipe's own words.

    again: finished stages go on, for example because the recipe now asks for more pictures.
    fresh: the stages begin anew; what they left is removed.
    adopt: stages that an older version finished are taken as made by this recipe.
    rewind: the stages go back to the state before the last one.
    Raises BadInput when a finished stage was made by other words: it says what differs.
    """
    for name in names:
        stage = recipe.stage(name)
        if fresh:
            remove_results(stage)
        if rewind and not training_state.rewind(stage.folder):
            raise BadInput(
                f"{stage.folder} holds no state before the last one",
                f"--stage {name} --fresh begins the stage anew",
            )
        if stage.done and not again and not rewind and is_reusable(recipe, name, report, adopt):
            report(f"{name}: finished, skipped ({stage.folder})")
            continue
        figures = run_stage(recipe, name)
        report(f"{name}: " + ", ".join(_format_figure(k, v) for k, v in figures.items()))


def is_reusable(
    recipe: Recipe, name: str, report: Callable[[str], None], adopt: bool = False
) -> bool:
    """Whether a finished stage can be used as it is.

    False when its result is damaged but can be written once more from the last state. Raises
    BadCheckpoint when it cannot, BadInput when other words made the stage.
    """
    stage = recipe.stage(name)
    try:
        content = results.check_files(stage)
    except BadCheckpoint as error:
        if name != "tokenizer" and not (stage.folder / training_state.FILE).exists():
            raise
        report(f"warning: {error.message}; the stage is finished once more")
        return False
    if adopt and "made_by" not in content:
        results.adopt(stage, recipe)
        report(f"{name}: taken as made by this recipe")
    results.check_words(stage, recipe)
    return True


def remove_results(stage: Stage) -> None:
    """Removes what a stage left, all but the weights of another model that it starts from."""
    if not stage.folder.exists():
        return
    with _lock(stage):
        # done.json goes first: a crash in between leaves an unfinished stage
        (stage.folder / results.DONE).unlink(missing_ok=True)
        training_state.remove(stage.folder)
        for path in stage.folder.iterdir():
            if path.name.startswith(("start.", ".")):
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _lock(stage: Stage):
    """The lock of a stage's folder. The first process of a run holds it for all."""
    return lock_folder(stage.folder) if os.environ.get("RANK", "0") == "0" else nullcontext()


def _format_figure(name: str, value: Any) -> str:
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
