"""What a finished stage leaves: `done.json` with its figures, with the words that made it, and with
digests of its files.

A stage is reused only when the recipe still says the same words. The words are the stage's
settings, the source, the seed, and the fingerprints of the stages before it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.files import write_file
from fromnoise.train.recipe import KINDS, Recipe, Stage

DONE = "done.json"
START = "start.safetensors"  # weights of another model that the stage begins with: see assemble
REMEDY = "free some space on this disk, then run the same command again"
# settings that change how a stage runs, but not what it makes
IGNORED = frozenset(
    ("device", "workers", "log_every", "checkpoint_minutes", "preview_minutes", "check")
)
AMOUNT = frozenset(("pictures", "minutes"))  # how long it trains: --again can add to it
# settings that may not change while a stage trains; the others (rates, weights of losses) may
FIXED = frozenset(
    (
        "align",
        "captions",
        "max_length",
        "network",
        "prediction",
        "projection_dim",
        "schedule",
        "seed",
        "source",
        "start",
        "text",
        "upstream",
        "vision",
        "vocab_size",
    )
)
BOOKKEEPING = ("made_by", "fingerprint", "files")


def describe_stage(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """The words that make a stage's result, as JSON values."""
    words: dict[str, Any] = {k: v for k, v in stage.values.items() if k not in IGNORED}
    words["seed"] = recipe.seed
    words["source"] = {"name": recipe.source, **recipe.source_options}
    if stage.name != "tokenizer":  # it reads captions alone and needs no font
        words["source"]["fingerprint"] = recipe.open_source().fingerprint
    if (stage.folder / START).exists():
        words["start"] = _digest(stage.folder / START)
    words["upstream"] = {
        name: read_done(recipe.stages[name]).get("fingerprint", "unknown")
        for name in find_upstream(stage, recipe)
    }
    return json.loads(json.dumps(words))


def find_upstream(stage: Stage, recipe: Recipe) -> list[str]:
    """The finished stages that a stage builds on."""
    names = list(KINDS[stage.name].upstream)
    if stage.get("perceptual", 0):
        names += ["tokenizer", "clip", "image_tower"]
    unique = dict.fromkeys(names)
    return [name for name in unique if name in recipe.stages and recipe.stages[name].done]


def compare(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Setting → (its value before, its value now) where the words differ; tables are dotted."""
    old, new = dict(_flatten(before)), dict(_flatten(now))
    # a stage that could have been upstream, but was not there yet, changed nothing
    names = [k for k in {**old, **new} if not (k.startswith("upstream.") and k not in old)]
    return {k: (old.get(k), new.get(k)) for k in names if old.get(k) != new.get(k)}


def split_differences(
    differences: dict[str, tuple[Any, Any]],
) -> tuple[dict[str, tuple[Any, Any]], dict[str, tuple[Any, Any]]]:
    """(those of settings that are fixed while a stage trains, the others)."""
    fixed = {k: v for k, v in differences.items() if k.split(".")[0] in FIXED}
    return fixed, {k: v for k, v in differences.items() if k not in fixed}


def format_differences(differences: dict[str, tuple[Any, Any]]) -> str:
    def name(value: Any) -> str:
        return "nothing" if value is None else str(value)

    return ", ".join(
        f"{k} = {name(new)} (was {name(old)})" for k, (old, new) in differences.items()
    )


def write_done(stage: Stage, figures: dict[str, Any], words: dict[str, Any]) -> None:
    """Writes done.json: the figures, the words, and digests of the stage's files."""
    files = {
        name: _digest(stage.folder / name)
        for name in KINDS[stage.name].files
        if (stage.folder / name).exists()
    }
    mark = json.dumps([words, files], sort_keys=True)
    fingerprint = hashlib.sha256(mark.encode()).hexdigest()[:16]
    content = {**figures, "made_by": words, "fingerprint": fingerprint, "files": files}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_file(stage.folder / DONE, lambda part: part.write_text(text, "utf-8"), remedy=REMEDY)


def read_done(stage: Stage) -> dict[str, Any]:
    """The content of a stage's done.json. Raises BadCheckpoint when it is damaged."""
    path = stage.folder / DONE
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        for key in ("made_by", "files"):
            if not isinstance(content.get(key, {}), dict):
                raise ValueError(f"{key} is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise BadCheckpoint(
            f"{path} is damaged: {error}",
            f"--stage {stage.name} --again finishes the stage once more from its last state,"
            f" --stage {stage.name} --fresh begins it anew",
        ) from None
    return content


def read_figures(stage: Stage) -> dict[str, Any]:
    """A finished stage's figures alone."""
    return {k: v for k, v in read_done(stage).items() if k not in BOOKKEEPING}


def check_files(stage: Stage) -> dict[str, Any]:
    """The content of done.json, after a check that the stage's files are those it was written for.

    Raises BadCheckpoint when a file is missing, damaged, or of an export that was cut short.
    """
    content = read_done(stage)
    for name, digest in content.get("files", {}).items():
        path = stage.folder / Path(str(name)).name
        if not path.is_file() or _digest(path) != digest:
            state = "missing" if not path.is_file() else "not the file that the stage finished with"
            raise BadCheckpoint(
                f"{path} is {state}",
                f"--stage {stage.name} --again writes it once more from the last state,"
                f" --stage {stage.name} --fresh begins the stage anew",
            )
    return content


def check_words(stage: Stage, recipe: Recipe, amount: bool = True) -> None:
    """Raises BadInput when a finished stage was made by other words than the recipe's.

    amount: whether the length of the training (`pictures`, `minutes`) must be the same, too.
    """
    content = read_done(stage)
    if "made_by" not in content:
        raise BadInput(
            f"{stage.folder} was finished by an older version, which did not record its settings",
            f"--stage {stage.name} --adopt takes it as made by this recipe,"
            f" --stage {stage.name} --fresh begins it anew",
        )
    before, now = content["made_by"], describe_stage(stage, recipe)
    differences = compare(before, now)
    if "from" in before:  # taken from another model: only what is built must fit
        differences = split_differences(differences)[0]
        differences.pop("start", None)
        differences = {k: v for k, v in differences.items() if not k.startswith("upstream.")}
    differences = {k: v for k, v in differences.items() if k != "from"}
    if not amount:
        differences = {k: v for k, v in differences.items() if k not in AMOUNT}
    if not differences:
        return
    more = ""
    if not split_differences(differences)[0]:
        more = f"--stage {stage.name} --again goes on with the new values, "
    raise BadInput(
        f"[{stage.name}] in {stage.folder} was made by other settings; the recipe now says"
        f" {format_differences(differences)}",
        f"{more}--stage {stage.name} --fresh begins it anew, --runs names another folder",
    )


def adopt(stage: Stage, recipe: Recipe) -> None:
    """Records the recipe's words as those that made a stage of an older version."""
    figures = {k: v for k, v in read_done(stage).items() if k not in BOOKKEEPING}
    write_done(stage, figures, describe_stage(stage, recipe))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _flatten(words: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows = []
    for key, value in words.items():
        if isinstance(value, dict):
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows
