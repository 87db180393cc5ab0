"""A recipe: one TOML file that says how every part of a model is trained, and one dial that scales
it."""

import importlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fromnoise.errors import BadInput, NotFound, UnknownName

STAGES = {  # in the order they must run; values are resolved only when a stage runs
    "tokenizer": "fromnoise.train.stages.tokenizer:run",
    "clip": "fromnoise.train.stages.clip:run",
    "image_tower": "fromnoise.train.stages.clip:run_image_tower",
    "vae": "fromnoise.train.stages.vae:run",
    "decoder": "fromnoise.train.stages.vae:run_decoder",
    "unet": "fromnoise.train.stages.unet:run",
    "classifier": "fromnoise.train.stages.classifier:run",
    "assemble": "fromnoise.train.stages.assemble:run",
}


@dataclass(frozen=True)
class Stage:
    """One stage's settings, the dial's overrides already merged in."""

    name: str
    folder: Path  # where its checkpoint, plots and result live
    values: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        if key not in self.values:
            raise BadInput(
                f"the recipe's stage [{self.name}] lacks {key!r}",
                f"add `{key} = …` under [{self.name}]",
            )
        return self.values[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    @property
    def done(self) -> bool:
        return (self.folder / "done.json").exists()


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe. `runs` is the folder that all stages write below."""

    name: str
    runs: Path
    seed: int
    source: str
    source_options: dict[str, Any]
    stages: dict[str, Stage] = field(default_factory=dict)

    def stage(self, name: str) -> Stage:
        if name not in self.stages:
            raise UnknownName("stage", name, self.stages)
        return self.stages[name]

    def open_source(self):
        from fromnoise.data.sources import open_source

        return open_source(self.source, **self.source_options)


def read_recipe(
    path: str | Path,
    scale: str | None = None,
    runs: str | Path | None = None,
    minutes: float | None = None,
) -> Recipe:
    """Reads a recipe. `scale` picks one of its `[scale.NAME.STAGE]` tables, whose values replace
    the stage's own; `minutes` caps every trained stage by the clock (its learning-rate schedule
    then follows the clock too)."""
    path = Path(path)
    if not path.exists():
        raise NotFound(
            f"no recipe at {path}", "give the path of a .toml file, e.g. recipes/stickers.toml"
        )
    try:
        raw = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}", "correct the line it names") from error
    scales = raw.pop("scale", {})
    scale = scale or raw.get("default_scale")
    if scale is not None and scale not in scales:
        raise UnknownName("scale", scale, scales)
    name, source = raw.get("name", path.stem), dict(raw.get("source", {}))
    if "name" not in source:
        raise BadInput(f"{path} names no data source", 'add `[source]` with `name = "stickers"`')
    root = Path(runs) if runs else Path("runs") / name
    stages = {}
    for stage in STAGES:
        if stage not in raw:
            continue
        values = {**raw[stage], **(scales[scale].get(stage, {}) if scale else {})}
        if minutes is not None and "pictures" in values:
            values["minutes"] = minutes
        stages[stage] = Stage(stage, root / stage, values)
    unknown = {k for k, v in raw.items() if isinstance(v, dict)} - set(STAGES) - {"source"}
    if unknown:
        raise UnknownName("stage in the recipe", sorted(unknown)[0], STAGES)
    return Recipe(name, root, int(raw.get("seed", 0)), source.pop("name"), source, stages)


def run_stage(recipe: Recipe, name: str) -> dict[str, Any]:
    """Runs one stage and gives its figures. First weights depend on the recipe's seed alone."""
    import torch

    stage = recipe.stage(name)
    torch.manual_seed(
        recipe.seed
    )  # networks are initialised from torch's own generator; nothing else here uses it
    module, function = STAGES[name].split(":")
    return getattr(importlib.import_module(module), function)(stage, recipe)
