"""A recipe: one TOML file that says how every part of a model is trained, and one dial that scales
it."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fromnoise.errors import BadInput, NotFound, UnknownName


@dataclass(frozen=True)
class StageKind:
    """What there is to know about a stage of one name. `run` is resolved when the stage runs."""

    run: str  # "module:function"
    upstream: tuple[str, ...] = ()  # stages that it builds on
    files: tuple[str, ...] = ()  # its result, in its folder


_STAGES = "fromnoise.train.stages"
KINDS = {  # in the order they must run
    "tokenizer": StageKind(f"{_STAGES}.tokenizer:run", (), ("vocab.json", "merges.txt")),
    "clip": StageKind(f"{_STAGES}.clip:run", ("tokenizer",), ("clip.safetensors",)),
    "image_tower": StageKind(
        f"{_STAGES}.clip:run_image_tower", ("tokenizer", "clip"), ("clip.safetensors",)
    ),
    "vae": StageKind(f"{_STAGES}.vae:run", (), ("vae.safetensors",)),
    "decoder": StageKind(f"{_STAGES}.vae:run_decoder", ("vae",), ("vae.safetensors",)),
    "unet": StageKind(f"{_STAGES}.unet:run", ("tokenizer", "clip", "vae"), ("unet.safetensors",)),
    "classifier": StageKind(f"{_STAGES}.classifier:run", (), ("config.json", "model.safetensors")),
    "assemble": StageKind(f"{_STAGES}.assemble:run"),
}


@dataclass(frozen=True)
class Stage:
    """One stage's settings, with the values of the chosen scale."""

    name: str
    folder: Path  # holds its state, plots and result
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
    """Reads a recipe. Every field is checked: see settings.

    scale: one of the recipe's `[scale.NAME]` tables, whose values replace the stages' own.
    minutes: caps every trained stage by the clock; its learning rate then follows the clock too.
    Raises NotFound, UnknownName, or BadInput that names file, line, table and field.
    """
    from fromnoise.train.settings import check_recipe

    path = Path(path)
    text = _read_text(path)
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is not valid TOML: {error}", "correct the line it names") from error
    check_recipe(raw, path, text)
    scales = raw.get("scale", {})
    scale = scale or raw.get("default_scale")
    if scale is not None and scale not in scales:
        raise UnknownName("scale", scale, scales)
    name, source = raw.get("name", path.stem), dict(raw.get("source", {}))
    if not isinstance(source.get("name"), str):
        raise BadInput(f"{path} names no data source", 'add `[source]` with `name = "stickers"`')
    root = Path(runs) if runs else Path("runs") / name
    stages = {}
    for stage in KINDS:
        if stage not in raw:
            continue
        values = {**raw[stage], **(scales[scale].get(stage, {}) if scale else {})}
        if minutes is not None and "pictures" in values:
            values["minutes"] = minutes
        stages[stage] = Stage(stage, root / stage, values)
    return Recipe(name, root, raw.get("seed", 0), source.pop("name"), source, stages)


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise NotFound(
            f"no recipe at {path}", "give the path of a .toml file, e.g. recipes/stickers.toml"
        ) from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}:{line} is not UTF-8", "save the recipe as UTF-8") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", "check its permissions") from None
