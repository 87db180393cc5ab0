"""Names of devices → devices of this machine."""

from collections.abc import Iterable

import torch

from fromnoise.errors import BadInput, UnknownName


def check_plan(device: str, dtype: str, batch: int, dtypes: Iterable[str]) -> torch.device:
    """The device. Raises UnknownName for a dtype that is none of `dtypes`, and BadInput for a batch
    below 1 and a device that this machine does not have."""
    if dtype not in dtypes:
        raise UnknownName("dtype", dtype, dtypes)
    if batch < 1:
        raise BadInput(f"batch {batch} cannot be used", "give 1 or more pictures for each call")
    return find_device(device)


def find_device(name: str) -> torch.device:
    """ "cpu", "cuda", "cuda:1", "mps" → the device. Raises BadInput for one that this machine does
    not have.

    For CUDA it also switches the process to full fp32 (by default PyTorch's convolutions use TF32,
    10 bits of mantissa) and to deterministic algorithms: equal calls then give equal bits. The
    exact plan and replays need that."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(
            f"unknown device {name!r}", "choose one of: cpu, cuda, cuda:0, mps"
        ) from None
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    missing = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if missing or not available.get(device.type, False):
        kinds = ", ".join(kind for kind, exists in available.items() if exists)
        raise BadInput(f"this machine has no device {name!r}", f"choose one of: {kinds}")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    return device
