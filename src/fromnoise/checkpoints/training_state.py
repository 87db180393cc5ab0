"""The state of a training run on disk, for exact resume: weights, optimizer, average and counters.

One safetensors file holds it all, never a pickle. The file of the save before is kept beside it:
when the newest one is damaged, training goes on from the older one and says so.
"""

import json
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fromnoise.checkpoints.tensors import TensorFile
from fromnoise.errors import BadCheckpoint
from fromnoise.files import write_file

FILE = "state.safetensors"
PREVIOUS = "state.previous.safetensors"
NEW = "state.new.safetensors"  # written whole before the other two are renamed
REMEDY = "free some space on this disk, then run the same command again"

State = tuple[dict[str, dict[str, Any]], dict[str, Any]]  # (trees, counters)


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def save(folder: Path, trees: dict[str, dict[str, Any]], counters: dict[str, Any]) -> None:
    """Writes `trees` (name → nested dicts of tensors and numbers) and `counters` (JSON values).

    A crash at any moment leaves at least one whole state: the new file is complete on disk before
    the last state becomes the previous one. Raises BadInput when the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for name, tree in trees.items():
        for key, value in _walk(name, tree):
            if isinstance(value, Tensor):
                tensors[key] = value.detach().cpu().contiguous().clone()
            else:
                plain[key] = value
    texts = {
        "counters": json.dumps(counters),
        "plain": json.dumps(plain),
        "checksums": json.dumps({key: _checksum(value) for key, value in tensors.items()}),
    }
    new = folder / NEW
    write_tensors(new, tensors, texts, REMEDY)
    if (folder / FILE).exists():
        (folder / FILE).replace(folder / PREVIOUS)
    new.replace(folder / FILE)


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None, remedy: str
) -> None:
    """Writes a safetensors file, the whole of it or nothing. Raises BadInput with `remedy`."""

    def write(part: Path) -> None:
        try:
            save_file(tensors, part, metadata)
        except SafetensorError as error:  # the library's own class, with the system's words in it
            raise OSError(str(error)) from error

    write_file(path, write, remedy=remedy)


def load(folder: Path, warn: Callable[[str], None] = warn) -> State | None:
    """The newest whole state of a folder: (trees, counters), or None when the folder holds none.

    A damaged newest file is passed over with a warning when the previous one is whole. Raises
    BadCheckpoint when every file is damaged.
    """
    error = None
    for name in (FILE, PREVIOUS):
        if not (folder / name).exists():
            continue
        try:
            state = _read(folder / name)
        except Exception as caught:
            error = error or caught
            continue
        if error is not None:
            warn(
                f"{folder / FILE} is damaged ({error}); training goes on from the state before it,"
                f" {folder / name}"
            )
        return state
    if error is not None:
        raise BadCheckpoint(
            f"{folder / FILE} cannot be read ({error})",
            "start this stage anew with --fresh",
        )
    return None


def rewind(folder: Path) -> bool:
    """Makes the previous state the newest one. Returns False when there is no previous state."""
    if not (folder / PREVIOUS).exists():
        return False
    (folder / PREVIOUS).replace(folder / FILE)
    return True


def remove(folder: Path) -> None:
    """Removes every state of a folder."""
    for name in (NEW, PREVIOUS, FILE):
        (folder / name).unlink(missing_ok=True)


def _walk(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """("name|key|key", leaf) of nested dicts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(f"{prefix}|{key}", inner)
    else:
        yield prefix, value


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _read(path: Path) -> State:
    trees: dict[str, Any] = {}

    def put(key: str, value: Any) -> None:
        *parents, last = key.split("|")
        node = trees
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value

    file = TensorFile(path)
    texts = file.metadata
    counters, plain = json.loads(texts["counters"]), json.loads(texts["plain"])
    checksums = json.loads(texts.get("checksums", "{}"))  # older states have none
    for key, value in file.read().items():
        if key in checksums and _checksum(value) != checksums[key]:
            raise ValueError(f"the bytes of {key} are not those that were written")
        put(key, value)
    for key, value in plain.items():
        put(key, value)
    return trees, counters


def collect_optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state of each parameter as a tree. Its settings come from the recipe."""
    return {str(i): dict(state) for i, state in optimizer.state_dict()["state"].items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tree: dict[str, Any]) -> None:
    state = optimizer.state_dict()
    state["state"] = {int(i): values for i, values in tree.items()}
    optimizer.load_state_dict(state)
