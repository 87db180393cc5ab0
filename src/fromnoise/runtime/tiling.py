"""Seamless tiling: during a call, each convolution pads the picture with its opposite side."""

import threading
from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fromnoise.models.conditioning import Conditioning
from fromnoise.runtime.prepare import Prepared, Step

P = ParamSpec("P")
R = TypeVar("R")


class _Here(threading.local):
    axes = "none"


HERE = _Here()  # the axes along which this thread's call is seamless


class Circular(TorchFunctionMode):
    """Within this mode, `conv2d` and `pad` fill the border along the axes from the picture's
    opposite side instead of zeros. It changes no network, and no other thread sees it. Attention
    needs no change, because it does not use positions."""

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
        """pad: left, right, top, bottom of a picture; other calls do not change."""
        if mode != "constant" or len(pad) != 4:
            return F.pad(x, pad, mode, value)
        left, right, top, bottom = pad
        across, along = (left, right, 0, 0), (0, 0, top, bottom)
        for sides, circular in ((across, self.x), (along, self.y)):
            if any(sides):
                x = F.pad(x, sides, "circular") if circular else F.pad(x, sides, mode, value)
        return x


def make_circular(call: Callable[P, R], axes: str) -> Callable[P, R]:
    """The function, with each call inside `Circular`. axes: "x", "y", "both", or "none" for the
    function itself."""
    if axes == "none":
        return call

    @wraps(call)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        before, HERE.axes = HERE.axes, axes
        try:
            with Circular(axes):
                return call(*args, **kwargs)
        finally:
            HERE.axes = before

    return called


def tile(unet: Prepared, axes: str) -> Prepared:
    """The same network with steps that run inside `Circular`."""

    def bind(conditioning: Conditioning) -> Step:
        return make_circular(unet.bind(conditioning), axes)

    other = copy(unet)
    other.bind = bind
    return other
