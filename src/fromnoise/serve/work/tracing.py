"""Traces as jobs: which run is drawn again, with which change, and how it is compared."""

import hashlib
import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from fromnoise import __version__
from fromnoise.errors import BadInput
from fromnoise.serve.store.gallery import Picture
from fromnoise.serve.work.kinds import find_request

TRACE = "trace"  # the kind of these jobs; it has no schema of its own
UNTRACED = ("blend", "film", "grid")
CHANGES = ("prompt", "negative_prompt", "steps", "cfg", "sampler", "spacing")


def make_order(
    picture: Picture, kind: str | None, changes: dict[str, Any], without: str | None, which: int
) -> dict[str, Any]:
    """What a trace's job keeps: the settings of one picture of a run, with the changes asked for.

    kind: of the job that drew the picture; None where its record is gone. without: a word that the
    prompt is to lose; which: the first of its kind (0), the second, … Raises BadInput."""
    values = json.loads(picture.settings)
    kind = kind or guess_kind(values)
    if "steps" not in find_request(kind).model_fields or not picture.seed:
        raise BadInput(
            "no run of a model drew this picture, so there is nothing to look into",
            "look into the picture that it was made from",
        )
    if kind in UNTRACED:
        raise BadInput(
            f"a picture of the kind {kind} cannot be drawn again with its record",
            "look into a picture of its prompt alone",
        )
    if unknown := {*changes} - {*CHANGES}:
        raise BadInput(f"a trace cannot change {min(unknown)}", f"change {', '.join(CHANGES)}")
    values |= {name: value for name, value in changes.items() if value is not None}
    values["count"] = 1
    values["seed"] = int(picture.seed)
    if values.get("variation_strength") and values.get("variation_seed") is not None:
        values["variation_seed"] += picture.index
    if without is not None:
        values["prompt"] = remove_word(values.get("prompt", ""), without, which)
    order = {"picture": picture.id, "of": kind, "values": values}
    order |= {"without": without, "which": which, "changed": bool(changes) or without is not None}
    named = json.dumps([order, picture.hash, picture.model, __version__], sort_keys=True)
    return order | {"trace": hashlib.sha256(named.encode()).hexdigest()[:32]}


def guess_kind(values: dict[str, Any]) -> str:
    """The kind of a picture whose job is forgotten: by what it was drawn from."""
    if any(name.startswith("hires_") for name in values):
        return "hires"
    if "prompts" in values:
        return "film"
    if "first" in values:
        return "blend"
    if values.keys() & {"x", "y", "z"}:
        return "grid"
    if "image" in values:
        return "upscale" if "seed" not in values else "edit"
    return "generate"


def remove_word(prompt: str, word: str, which: int = 0) -> str:
    """The prompt without a word, its other signs as they are. Raises BadInput where the prompt has
    it less often."""
    inside = r"(?<!\w)" if word[:1].isalnum() else ""
    behind = r"(?!\w)" if word[-1:].isalnum() else ""
    found = [*re.finditer(f"{inside}{re.escape(word)}{behind}", prompt, re.IGNORECASE)]
    if not word.strip() or which >= len(found):
        raise BadInput(
            f"the prompt does not have the word {word!r}" + (f" {which + 1} times" * bool(which)),
            "choose a word as the prompt writes it",
        )
    start, end = found[which].span()
    before, after = prompt[:start], prompt[end:]
    if before.endswith(" ") and after[:1] in ("", " ", ","):
        before = before[:-1]
    return (before + after).strip()


def list_inputs(values: Any) -> tuple[str, ...]:
    """The hashes of the uploads in a job's values."""
    found: dict[str, None] = {}

    def look(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                look(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                look(inner)
        elif isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
            found[value] = None

    look(values)
    return tuple(found)


def compare_pictures(
    order: dict[str, Any], drawn: Image.Image, read: Callable[[], bytes]
) -> dict[str, Any]:
    """Whether the traced run has drawn the picture: `same`, and `levels`, the greatest difference
    of 255. Both are None for a run that was changed, or where the picture's file is gone."""
    nothing = {"same": None, "levels": None}
    if order["changed"]:
        return nothing
    try:
        with Image.open(io.BytesIO(read()), formats=["PNG"]) as picture:
            kept = np.asarray(picture.convert("RGB"), np.int16)
    except OSError:
        return nothing
    again = np.asarray(drawn.convert("RGB"), np.int16)
    if kept.shape != again.shape:
        return {"same": False, "levels": 255}
    levels = int(np.abs(kept - again).max())
    return {"same": levels == 0, "levels": levels}
