"""Exact resume: weights, optimiser, average and counters of a training run in one safetensors file,
never a pickle."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fromnoise.errors import BadCheckpoint

FILE = "state.safetensors"


def save(folder: Path, trees: dict[str, dict[str, Any]], counters: dict[str, Any]) -> None:
    """Writes `trees` (name → nested dicts of tensors and numbers) and `counters` (JSON values)
    atomically: a crash while writing leaves the previous file whole."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Tensor):
            tensors[prefix] = value.detach().cpu().contiguous().clone()
        elif isinstance(value, dict):
            for k, v in value.items():
                walk(f"{prefix}|{k}", v)
        else:
            plain[prefix] = value

    for name, tree in trees.items():
        walk(name, tree)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / (FILE + ".part")
    save_file(
        tensors, part, metadata={"counters": json.dumps(counters), "plain": json.dumps(plain)}
    )
    with open(part, "rb") as f:
        os.fsync(f.fileno())
    os.replace(part, folder / FILE)


def load(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]] | None:
    """The trees and counters of `save`, or None when the folder holds none."""
    path = folder / FILE
    if not path.exists():
        return None
    trees: dict[str, Any] = {}

    def put(key: str, value: Any) -> None:
        *parents, last = key.split("|")
        node = trees
        for p in parents:
            node = node.setdefault(p, {})
        node[last] = value

    try:
        with safe_open(path, "pt") as f:
            meta = f.metadata() or {}
            counters, plain = json.loads(meta["counters"]), json.loads(meta["plain"])
            for key in f.keys():  # noqa: SIM118 (safe_open is no mapping)
                put(key, f.get_tensor(key))
    except Exception as error:
        raise BadCheckpoint(
            f"{path} cannot be read ({error})", "delete it to start this stage anew"
        ) from error
    for key, value in plain.items():
        put(key, value)
    return trees, counters


def optimizer_tree(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's per-parameter state as a tree (its hyper-parameters come from the recipe)."""
    return {str(i): dict(s) for i, s in optimizer.state_dict()["state"].items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tree: dict[str, Any]) -> None:
    state = optimizer.state_dict()
    state["state"] = {int(i): s for i, s in tree.items()}
    optimizer.load_state_dict(state)
