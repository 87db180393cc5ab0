"""One call of a network for the queries of several runs, each with the bits that it has alone.

Most operations compute a row in the same way whatever rows stand beside it. Some do not: a product
of few rows, or a convolution of one, takes another algorithm than that of many. Which ones depends
on the processor, so it is measured: each operation is tried once for every shape, on random
numbers, with all rows and with those of one run. Where the bits differ, it is computed run by run.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fromnoise.models.attention import Record
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.unet import UNet
from fromnoise.runtime.tiling import make_circular

# operations that may look at the number of rows → how many of their first arguments have rows
OPERATIONS: dict[Callable[..., Any], int] = {
    F.linear: 1,
    torch.conv2d: 1,
    F.scaled_dot_product_attention: 3,
    F.group_norm: 1,
    F.layer_norm: 1,
}
ALIGNMENT = 64  # bytes: where PyTorch's own tensors begin, and some products look at that
KEPT = 10_000  # verdicts; each is a few numbers


@dataclass(frozen=True, eq=False)
class Call:
    """What one run asks of a network: `UNet.forward`'s arguments, and the axes that it tiles."""

    network: UNet
    x: Tensor  # (rows, C, h, w)
    t: Tensor  # () or (rows,)
    conditioning: Conditioning
    record: Record | None = None
    constants: Any = None
    residuals: Any = None
    axes: str = "none"

    @property
    def rows(self) -> int:
        return len(self.x)

    @cached_property
    def leaves(self) -> list[Any]:
        """What differs from run to run: tensors of as many rows as x, or of one; and settings."""
        return [*_list_leaves((vars(self.conditioning), self.constants, self.residuals))]

    @cached_property
    def kind(self) -> Hashable:
        """What the calls of a network have in common that can be one call; None for one that stays
        alone."""
        # a row's place must be a multiple of its run's rows, as it is in the trials
        if self.record is not None or self.rows.bit_count() != 1:
            return None
        shapes = []
        for leaf in self.leaves:
            if not isinstance(leaf, Tensor):
                shapes.append(leaf)
            elif leaf.ndim and len(leaf) in (1, self.rows):
                shapes.append((tuple(leaf.shape[1:]), leaf.dtype, leaf.device))
            else:
                return None
        x = tuple(self.x.shape[1:]), self.x.dtype, self.x.device, self.t.dtype
        return self.network.config, self.axes, *x, *shapes, torch.get_num_threads()

    def can_share(self, other: "Call") -> bool:
        """Whether both can be one call."""
        return self.network is other.network and self.kind is not None and self.kind == other.kind

    def run(self) -> Tensor:
        """The network's answer, as if no other run were there."""
        call = make_circular(UNet.__call__, self.axes)
        shown = self.conditioning, self.record, self.constants, self.residuals
        return call(self.network, self.x, self.t, *shown)


class Verdicts:
    """What was measured in this process: whether runs of so many rows have other bits where other
    rows stand beside them, of an operation and the shapes of its arguments."""

    def __init__(self) -> None:
        self.differ: dict[Hashable, bool] = {}

    def find(
        self, operation: Callable[..., Any], rows: Sequence[Tensor], rest: tuple, size: int
    ) -> bool:
        """Whether it is so for runs of `size` rows among all of these."""
        signs = [_describe(value) for value in (*rows, *rest)]
        key = operation, size, torch.get_num_threads(), *signs
        if key not in self.differ:
            if len(self.differ) >= KEPT:
                self.differ.clear()
            self.differ[key] = _try(operation, rows, rest, size)
        return self.differ[key]


class RunByRun(TorchFunctionMode):
    """Within this mode, operations whose bits depend on the number of rows are computed for each
    run's rows alone. sizes: the rows of each run, descending."""

    def __init__(self, sizes: Sequence[int], verdicts: Verdicts):
        super().__init__()
        self.sizes, self.total, self.verdicts = sizes, sum(sizes), verdicts

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        count = OPERATIONS.get(func, 0)
        if not count or kwargs or len(args[0]) != self.total:
            return func(*args, **kwargs or {})
        return self._compute(func, args[:count], args[count:], self.sizes)

    def _compute(
        self, func: Any, rows: Sequence[Tensor], rest: tuple, sizes: Sequence[int]
    ) -> Tensor:
        if len(sizes) == 1 or not any(
            self.verdicts.find(func, rows, rest, size) for size in {*sizes}
        ):
            return func(*rows, *rest)
        parts, first = [], 0
        stretches = [[*same] for _, same in groupby(sizes)]
        if len(stretches) == 1:
            stretches = [[size] for size in sizes]
        for stretch in stretches:
            end = first + sum(stretch)
            parts.append(self._compute(func, _cut(rows, first, end), rest, stretch))
            first = end
        return join_rows(parts)


def call_together(calls: Sequence[Call], verdicts: Verdicts | None) -> list[Tensor]:
    """The answers to calls of one network and one kind, by one call of it. Without verdicts nothing
    is computed run by run, which is faster, and some bits differ from those of a run alone."""
    order = sorted(range(len(calls)), key=lambda i: -calls[i].rows)
    ordered = [calls[i] for i in order]
    sizes, first = [call.rows for call in ordered], ordered[0]
    x = join_rows([call.x for call in ordered])
    t = torch.cat([call.t.expand(call.rows) for call in ordered])
    leaves = iter(_join_leaves([call.leaves for call in ordered], sizes))
    shown = vars(first.conditioning), first.constants, first.residuals
    conditioning, constants, residuals = _replace_leaves(shown, leaves)
    call = make_circular(UNet.__call__, first.axes)
    more = Conditioning(**conditioning), None, constants, residuals
    if verdicts is None:
        answer = call(first.network, x, t, *more)
    else:
        with RunByRun(sizes, verdicts):
            answer = call(first.network, x, t, *more)
    answers = dict(zip(order, answer.split(sizes), strict=True))
    return [answers[i].clone() for i in range(len(calls))]  # none holds the others' memory


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """`torch.cat` along the rows, in the order of memory that the parts have."""
    one = parts[0]
    order = [0, *sorted(range(1, one.ndim), key=lambda axis: -one.stride(axis))]
    back = sorted(range(one.ndim), key=order.__getitem__)
    return torch.cat([part.permute(order) for part in parts]).permute(back)


def _cut(rows: Sequence[Tensor], first: int, end: int) -> list[Tensor]:
    """Those rows of each, where a tensor may begin."""
    cut = [value[first:end] for value in rows]
    return [v if v.data_ptr() % ALIGNMENT == 0 else v.clone() for v in cut]


def _try(operation: Callable[..., Any], rows: Sequence[Tensor], rest: tuple, size: int) -> bool:
    """Whether an operation's bits differ between all rows and `size` of them, on random numbers
    of the shapes and types of its arguments."""
    randomness = torch.Generator(rows[0].device).manual_seed(0)
    rows = [_imitate(value, randomness) for value in rows]
    rest = tuple(_imitate(value, randomness) for value in rest)
    whole = operation(*rows, *rest)
    for first in range(0, len(rows[0]) - size + 1, size):
        own = whole[first : first + size]
        alone = operation(*_cut(rows, first, first + size), *rest)
        if _list_strides(own) != _list_strides(alone) or not torch.equal(own, alone):
            return True
    return False


def _list_strides(value: Tensor) -> list[int]:
    """Those that say where a number lies."""
    pairs = zip(value.shape[1:], value.stride()[1:], strict=True)
    return [stride for length, stride in pairs if length > 1]


def _imitate(value: Any, randomness: torch.Generator) -> Any:
    """Random numbers in the place of a tensor's, with its shape and its order in memory."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
        return value
    reach = 1 + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
    numbers = torch.randn(reach, generator=randomness, device=value.device)
    return numbers.to(value.dtype).as_strided(value.shape, value.stride())


def _describe(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.stride(), value.dtype, value.device
    return tuple(value) if isinstance(value, list) else value


def _list_leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        for key in tree:  # the keys too: calls of one kind have the same
            yield key
            yield from _list_leaves(tree[key])
    elif isinstance(tree, tuple | list):
        yield len(tree)
        for value in tree:
            yield from _list_leaves(value)
    else:
        yield tree


def _replace_leaves(tree: Any, leaves: Iterator[Any]) -> Any:
    """The same tree with these leaves, in the order of `_list_leaves`."""
    if isinstance(tree, dict):
        return {next(leaves): _replace_leaves(value, leaves) for value in tree.values()}
    if isinstance(tree, tuple | list):
        next(leaves)
        values = [_replace_leaves(value, leaves) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return next(leaves)


def _join_leaves(leaves: Sequence[list[Any]], sizes: Sequence[int]) -> Iterator[Any]:
    for values in zip(*leaves, strict=True):
        if isinstance(values[0], Tensor):
            pairs = zip(values, sizes, strict=True)
            yield join_rows([value.expand(n, *value.shape[1:]) for value, n in pairs])
        else:
            yield values[0]
