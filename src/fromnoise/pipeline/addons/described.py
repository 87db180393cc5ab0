"""What a picture says of its add-ons, and the add-ons that such a picture asks for."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.addon_fields.addons import Addons, read_addons
from fromnoise.pipeline.addons import KINDS, embedding, ip_adapter
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
    path: Path, fields: dict[str, str], files: Mapping[str, Sequence[Path]]
) -> tuple[Addons, set[str]]:
    """(the embeddings and IP-Adapters that the picture at `path` asks for, and no others; the keys
    that said so). files: those that are given for it, by the field of Addons; "pictures" are those
    that IP-Adapters look at, "encoder" their image tower. Raises NotFound, and BadInput where
    others, or none, are given."""
    embeddings, some = embedding.read_back(path, fields, files)
    adapters, more = ip_adapter.read_back(path, fields, files)
    values = {"embeddings": embeddings, "ip_adapters": adapters, "find_embeddings": False}
    found = read_addons(values)
    assert found is not None
    return found, some | more
