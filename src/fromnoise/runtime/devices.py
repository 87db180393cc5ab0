"""Names of devices → those that this machine has."""

import torch

from fromnoise.errors import BadInput


def find_device(name: str) -> torch.device:
    """ "cpu", "cuda", "cuda:1", "mps" → the device. Raises BadInput for one that this machine does
    not have.

    For CUDA it also tells the process that fp32 is fp32 (PyTorch's convolutions would take TF32, 10
    bits of mantissa), and that equal calls shall have equal bits, on which the exact plan and
    replays rest."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(
            f"unknown device {name!r}", "choose one of: cpu, cuda, cuda:0, mps"
        ) from None
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    absent = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if absent or not there.get(device.type, False):
        have = [kind for kind, yes in there.items() if yes]
        raise BadInput(f"this machine has no device {name!r}", f"choose one of: {', '.join(have)}")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    return device
