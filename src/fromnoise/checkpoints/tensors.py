"""Tensor files: safetensors read by memory map and written; pickles are refused, because opening
one runs its code."""

import hashlib
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fromnoise.errors import BadCheckpoint, NotFound


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, as it lies there (mapped, not copied).

    Raises NotFound when there is none (naming a pickle that lies in its place), BadCheckpoint when
    it is damaged."""
    if not path.is_file():
        pickles = [
            p.name
            for s in ("*.bin", "*.ckpt", "*.pt", "*.pth")
            for p in sorted(path.parent.glob(s))
        ]
        if pickles:
            raise BadCheckpoint(
                f"{path.parent} holds {', '.join(pickles)}, a pickle: opening it would run code from the file",
                f"use the safetensors version, {path.name} (hub pages offer it, or convert it where you trust it)",
            )
        raise NotFound(
            f"no {path.name} in {path.parent}",
            "check that the model was copied or downloaded whole",
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BadCheckpoint(
            f"{path} cannot be read: {error}", "it is cut short or damaged; fetch it again"
        ) from None


class Unfilled(TorchFunctionMode):
    """Inside `with Unfilled():` networks are built on the meta device and their initialisation is
    left out: no memory and no random numbers for weights that `fill` is about to give, nor the
    second that torch takes to simulate them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            func = torch.empty
        return func(*args, **kwargs)

    def __enter__(self) -> Self:
        self.device = torch.device("meta")
        self.device.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.device.__exit__(*error)


def fill(network: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Gives a network built on the meta device its tensors, in fp32; every key must fit, or
    BadCheckpoint names it."""
    wanted = network.state_dict()
    faults = [f"missing {k}" for k in wanted if k not in tensors]
    faults += [f"unexpected {k}" for k in tensors if k not in wanted]
    faults += [
        f"{k} is {tuple(v.shape)}, not {tuple(wanted[k].shape)}"
        for k, v in tensors.items()
        if k in wanted and v.shape != wanted[k].shape
    ]
    if faults:
        more = f" and {len(faults) - 8} more" if len(faults) > 8 else ""
        remedy = "the weights belong to another architecture or configuration; fetch config and weights together"
        raise BadCheckpoint(
            f"{name} does not fit its configuration: {'; '.join(faults[:8])}{more}", remedy
        )
    fp32 = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    network.load_state_dict(fp32, strict=True, assign=True)
    network.eval()


def digest(path: Path) -> str:
    """The first ten hex digits of a file's SHA-256: the "Model hash" that picture metadata
    carries."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:10]
