"""Textual inversions on a model: words of its prompts that stand for vectors."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from fromnoise.checkpoints.formats import embedding as formats
from fromnoise.checkpoints.library import find_addon
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.addon_fields.embedding import Embedding
from fromnoise.pipeline.addons.files import find_file
from fromnoise.pipeline.addons.vectors import Named, add_vectors
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared

KEY = "TI hashes"  # of a picture's text
KEPT = 64  # embeddings that stay in memory: some kilobytes each


def put_on(
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    items: Sequence[Embedding],
) -> tuple[LatentDiffusion, Prepared, list[str]]:
    """See addons.KINDS. Raises NotFound, BadCheckpoint, and BadInput for an embedding that was made
    for another kind of model."""
    named = []
    for item in items:
        embedding = read_embedding(find_file("embedding", item))
        names = [item.name, *([embedding.token] if embedding.token else [])]
        named.append(Named(names, embedding.parts))
    return add_vectors(model, named, request.dialect), unet, []


def read_embedding(path: Path) -> formats.Embedding:
    """The textual inversion of a file, from memory where the file is still the same. Raises
    NotFound and BadCheckpoint."""
    status = path.stat() if path.is_file() else None
    return _read(path, status and (status.st_mtime_ns, status.st_size))


@lru_cache(KEPT)
def _read(path: Path, state: Any) -> formats.Embedding:
    return formats.load(path)


def describe(items: Sequence[Embedding]) -> dict[str, str | None]:
    """In A1111's words: each name and the first 12 signs of its file's SHA-256."""
    digests = (read_embedding(find_file("embedding", item)).digest for item in items)
    pairs = (f"{item.name}: {digest}" for item, digest in zip(items, digests, strict=True))
    return {KEY: ", ".join(pairs)}


def read_back(
    path: Path, fields: dict[str, str], files: Mapping[str, Sequence[Path]]
) -> tuple[list[dict[str, Any]], set[str]]:
    """See addons.record. Other programs write the same."""
    given, items = [*files.get("embeddings", ())], []
    for pair in fields.get(KEY, "").split(",") if fields.get(KEY) else ():
        name, _, digest = (word.strip() for word in pair.strip().strip('"').rpartition(":"))
        same = [file for file in given if read_embedding(file).digest == digest]
        item: dict[str, Any] = {"name": name or digest}
        if same:
            item["file"] = same[0]
            given.remove(same[0])
        else:
            item["file"] = place = find_addon("embedding", item["name"])
            if (now := read_embedding(place).digest) != digest:
                raise BadInput(
                    f"{place} is not the embedding {name!r} that {path} was drawn with "
                    f"(hash {now}, then {digest})",
                    "give the very same file with --embedding",
                )
        items.append(item)
    if given:
        raise BadInput(f"{path} was drawn without {given[0]}", "leave out that --embedding")
    return items, {KEY}
