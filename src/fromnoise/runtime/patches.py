"""Weights that differ for one request: a copy of a network that shares all that does not change.

The network itself is never written to. Dropping the copy is the unmerging, and every byte of the
network is as it was."""

from collections.abc import Iterable
from copy import copy, deepcopy
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from fromnoise.runtime.prepare import Prepared

N = TypeVar("N", bound=nn.Module)


class Change(Protocol):
    """What is done to one parameter."""

    def add_to(self, total: Tensor, weight: Tensor, share: float) -> None:
        """Adds `share` of the change to `total`, in place. weight: the parameter as the network has
        it. Both are in fp32, contiguous, and stay so; neither is the network's own memory."""
        ...


class Patch(NamedTuple):
    """A change of the parameter with that name, and how much of it."""

    parameter: str
    change: Change
    share: float = 1.0


def patch(unet: Prepared, patches: Iterable[Patch]) -> Prepared:
    """The prepared network with these changes, which add up; its own weights are not touched."""
    other = copy(unet)
    other.network = patch_network(unet.network, patches)
    return other


@torch.inference_mode()
def patch_network(network: N, patches: Iterable[Patch]) -> N:
    """A copy with these changes, each of the parameter as the network has it. Names, types, devices
    and the order in memory stay. Parameters without a change are the network's own."""
    changes: dict[str, list[Patch]] = {}
    for one in patches:
        if one.share:
            changes.setdefault(one.parameter, []).append(one)
    shared = {id(t): t for t in (*network.parameters(), *network.buffers())}
    other = deepcopy(network, shared)
    for name, of in changes.items():
        old = network.get_parameter(name)
        weight = old.detach().to(torch.float32, memory_format=torch.contiguous_format)
        total = weight.clone(memory_format=torch.contiguous_format)
        for one in of:
            one.change.add_to(total, weight, one.share)
        if total.dtype != old.dtype or total.stride() != old.stride():
            total = torch.empty_like(old, requires_grad=False).copy_(total)
        owner, _, last = name.rpartition(".")
        setattr(other.get_submodule(owner), last, nn.Parameter(total, requires_grad=False))
    return other
