"""What a picture says of its add-ons, and the add-ons that such a picture asks for."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.addons import KINDS
from fromnoise.pipeline.addons.automatic import read_all
from fromnoise.pipeline.request import GenerationRequest


def describe_addons(model: LatentDiffusion, request: GenerationRequest) -> dict[str, str | None]:
    """Name → value of all that is on the model for a request."""
    addons, more = read_all(model, request, [request.prompt]), dict[str, str | None]()
    for kind, module in KINDS.items():
        if items := getattr(addons, kind):
            whole = import_module(f"fromnoise.pipeline.addons.{module}")
            more |= whole.describe(items) if hasattr(whole, "describe") else {}
    return more


def read_back(
    path: Path, fields: dict[str, str], files: dict[str, Sequence[Path]]
) -> tuple[dict[str, Any], set[str]]:
    """(the add-ons that the picture at `path` asks for, as fields of Addons; the keys that said
    so). files: those that are given for it, by the field of Addons, and "pictures" for those that
    an IP-Adapter looks at. Raises BadInput where others, or none, are given, and NotFound."""
    found: dict[str, Any] = {}
    used: set[str] = set()
    for kind, module in KINDS.items():
        whole = import_module(f"fromnoise.pipeline.addons.{module}")
        if read := getattr(whole, "read_back", None):
            items, keys = read(path, fields, files)
            if items:
                found[kind] = items
            used |= keys
    return found, used
