"""The weights of a part of a diffusers folder, where they are not one safetensors file of the usual
name: shards with an index, a variant such as fp16, or a pickle."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from fromnoise.checkpoints.configs import read_json
from fromnoise.checkpoints.download import WEIGHTS, choose_weights
from fromnoise.checkpoints.sources import TensorSource, open_tensors
from fromnoise.checkpoints.tensors import Keys, See, Stored
from fromnoise.errors import BadCheckpoint, escape

MOST_SHARDS = 1000


class Shards:
    """Several files as one. `path` is their index."""

    def __init__(self, path: Path):
        """Raises BadCheckpoint where the index does not say what the files hold."""
        self.path = path
        index = read_json(path)
        places = index.values.get("weight_map")
        if not isinstance(places, dict) or not all(
            isinstance(name, str) for name in places.values()
        ):
            index.refuse("weight_map", "an object of tensors and their files")
        names = sorted({*places.values()})
        for name in names:
            if Path(name).name != name or name in ("", ".", ".."):
                index.refuse(
                    "weight_map", f"names of files beside it, without folders: {escape(name)}"
                )
        if len(names) > MOST_SHARDS:
            index.refuse("weight_map", f"at most {MOST_SHARDS} files")
        self.files = [open_tensors(path.parent / name) for name in names]
        self.metadata: dict[str, str] = {}
        stored: dict[str, Stored] = {}
        for name, file in zip(names, self.files, strict=True):
            self.metadata |= file.metadata
            told = {key for key, place in places.items() if place == name}
            if odd := sorted(told ^ file.stored.keys()):
                lacks = odd[0] in told
                raise BadCheckpoint(
                    f"{path}: {escape(name)} {'lacks' if lacks else 'has also'} {odd[0][:200]}",
                    "the index and its files do not belong together; fetch them again",
                )
            stored |= file.stored
        self.stored: Mapping[str, Stored] = stored

    def stream(self, see: See = None, keys: Keys = None) -> Iterator[tuple[str, Tensor]]:
        """The tensors of one file after the other; `see` is called with the bytes of all."""
        for file in self.files:
            yield from file.stream(see, keys)

    def read(self, see: See = None, keys: Keys = None) -> dict[str, Tensor]:
        return dict(self.stream(see, keys))


def find_weights(path: Path, variant: str = "") -> TensorSource:
    """The weights of a part, which lie in the folder of `path`, the usual file. variant: such as
    "fp16", which is taken where it is there; another is a warning.

    Raises NotFound, and BadCheckpoint for damaged files."""
    folder = path.parent
    files = folder.iterdir() if folder.is_dir() else ()
    names = sorted(file.name for file in files)
    chosen = choose_weights(names, variant)
    if not chosen:
        return open_tensors(path)  # which says that it is not there
    match = WEIGHTS.fullmatch(chosen[0])
    assert match is not None
    found = match[2] or match[4] or match[7] or ""
    if found != variant:
        has, lacks = (f"the variant {v}" if v else "full precision" for v in (found, variant))
        text = f"{folder.parent} has weights of {has} only, not of {lacks}: drawing with those"
        warnings.warn(text, stacklevel=2)
    index = [name for name in chosen if ".index." in name]
    return Shards(folder / index[0]) if index else open_tensors(folder / chosen[0])
