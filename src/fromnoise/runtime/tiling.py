"""Seamless tiling: for the length of a call, every convolution sees the picture's other side beyond
its edge."""

from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fromnoise.models.unet import Conditioning
from fromnoise.runtime.prepare import Prepared, Step

P = ParamSpec("P")
R = TypeVar("R")


class Circular(TorchFunctionMode):
    """Within it, what `conv2d` and `pad` would fill with zeros along the axes is the picture's
    other side. No network is changed, and no other thread sees it. What attention does needs no
    change: it knows no places."""

    def __init__(self, axes: str):
        super().__init__()
        self.x, self.y = axes in ("both", "x"), axes in ("both", "y")

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.conv2d:
            return self._conv2d(*args, **kwargs or {})
        if func is F.pad:
            return self._pad(*args, **kwargs or {})
        return func(*args, **kwargs or {})

    def _conv2d(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: int | tuple[int, int] = 0,
        *more: Any,
        **named: Any,
    ) -> Tensor:
        high, wide = padding if isinstance(padding, tuple) else (padding, padding)
        return torch.conv2d(
            self._pad(x, (wide, wide, high, high)), weight, bias, stride, 0, *more, **named
        )

    def _pad(
        self, x: Tensor, pad: tuple[int, ...], mode: str = "constant", value: float | None = None
    ) -> Tensor:
        """pad: left, right, top, bottom of a picture; others are not our affair."""
        if mode != "constant" or len(pad) != 4:
            return F.pad(x, pad, mode, value)
        left, right, top, bottom = pad
        across, along = (left, right, 0, 0), (0, 0, top, bottom)
        for sides, circular in ((across, self.x), (along, self.y)):
            if any(sides):
                x = F.pad(x, sides, "circular") if circular else F.pad(x, sides, mode, value)
        return x


def make_circular(call: Callable[P, R], axes: str) -> Callable[P, R]:
    """The function, each call of it within `Circular`; axes: "x", "y", "both", or "none", which is
    the function."""
    if axes == "none":
        return call

    @wraps(call)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with Circular(axes):
            return call(*args, **kwargs)

    return called


def tile(unet: Prepared, axes: str) -> Prepared:
    """The same network, whose steps run within `Circular`."""

    def bind(conditioning: Conditioning) -> Step:
        return make_circular(unet.bind(conditioning), axes)

    other = copy(unet)
    other.bind = bind
    return other
