"""Weights that differ for one request: a copy of a network that shares all that does not change.

The network itself is never written to. Dropping the copy is the unmerging, and every byte of the
network is as it was."""

from collections.abc import Iterable
from copy import copy
from typing import NamedTuple, Protocol, TypeVar
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)
ALIGNMENT = 64  # bytes: where PyTorch's own tensors begin


class Change(Protocol):
    """What is done to one parameter."""

    def add_to(self, total: Tensor, weight: Tensor, share: float) -> None:
        """Adds `share` of the change to `total`, which is in fp32, in place. weight: the parameter
        as the network has it, which stays as it is. Both have the same order in memory."""
        ...


class Patch(NamedTuple):
    """A change of the parameter with that name, and how much of it."""

    parameter: str
    change: Change
    share: float = 1.0


class Memory:
    """The CPU's memory of copies that are gone, for those that come. A new page costs as much time
    as the sum that is written to it."""

    def __init__(self) -> None:
        self.blocks: list[tuple[np.ndarray, ref]] = []  # a block, what its tensors lie in

    def take(self, size: int) -> Tensor:
        """(size,) bytes of no certain value. They are free again when no tensor lies there."""
        for i, (block, used) in enumerate(self.blocks):
            if used() is None and size <= len(block) <= 2 * size:
                del self.blocks[i]
                break
        else:
            block = torch.empty(size, dtype=torch.uint8).numpy()
        view = block[:]
        self.blocks.append((block, ref(view)))
        return torch.from_numpy(view)

    def trim(self) -> None:
        """Gives back what is free."""
        self.blocks = [one for one in self.blocks if one[1]() is not None]


@torch.inference_mode()
def patch_network(network: N, patches: Iterable[Patch], memory: Memory | None = None) -> N:
    """A copy with these changes, each of the parameter as the network has it. Names, types, devices
    and the order in memory stay. Modules without a change are the network's own. memory: where the
    changed parameters may lie together; None: each alone."""
    changes: dict[str, list[Patch]] = {}
    for one in patches:
        if one.share:
            changes.setdefault(one.parameter, []).append(one)
    other, owners = copy_path(network, changes)
    old = {name: network.get_parameter(name).detach() for name in changes}
    for name, new in allocate(old, memory).items():
        weight = old[name]
        total = new if new.dtype == torch.float32 else weight.float()
        if total is new:
            total.copy_(weight)
        for one in changes[name]:
            one.change.add_to(total, weight, one.share)
        if total is not new:
            new.copy_(total)
        owner, _, last = name.rpartition(".")
        owners[owner]._parameters[last] = nn.Parameter(new, requires_grad=False)
    return other


def copy_path(network: N, parameters: Iterable[str]) -> tuple[N, dict[str, nn.Module]]:
    """(a copy of the network, the copies in it by name): of the modules that lead to these
    parameters. The others are shared."""
    owners: dict[str, nn.Module] = {"": copy_module(network)}
    for parameter in parameters:
        path = parameter.split(".")[:-1]
        for i in range(len(path)):
            name, above = ".".join(path[: i + 1]), owners[".".join(path[:i])]
            if name not in owners:
                module = above._modules[path[i]]
                assert module is not None
                owners[name] = above._modules[path[i]] = copy_module(module)
    return owners[""], owners  # type: ignore[return-value]


def copy_module(module: N) -> N:
    """The module with the same parts, which can be exchanged."""
    other = copy(module)
    for table in ("_modules", "_parameters", "_buffers"):
        other.__dict__[table] = copy(module.__dict__[table])
    return other


def allocate(old: dict[str, Tensor], memory: Memory | None) -> dict[str, Tensor]:
    """Room for each of these, of its type and with its order in memory."""
    if memory is None or any(one.device.type != "cpu" for one in old.values()):
        return {name: torch.empty_like(one) for name, one in old.items()}
    sizes = {name: one.numel() * one.element_size() for name, one in old.items()}
    places, end = {}, 0
    for name, size in sizes.items():
        places[name], end = end, end + -(-size // ALIGNMENT) * ALIGNMENT
    block, rooms = memory.take(end + ALIGNMENT), {}
    first = -block.data_ptr() % ALIGNMENT
    for name, one in old.items():
        start = first + places[name]
        flat = block[start : start + sizes[name]].view(one.dtype)
        order = torch.empty_like(one, device="meta")  # dense, in the same order
        rooms[name] = flat.as_strided(one.shape, order.stride(), flat.storage_offset())
    return rooms


def count_bytes(network: nn.Module, patches: Iterable[Patch]) -> int:
    """What the copy of a network with these changes takes beside it."""
    of = (network.get_parameter(name) for name in {one.parameter for one in patches if one.share})
    return sum(one.numel() * one.element_size() for one in of)
