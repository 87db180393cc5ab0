"""The name of the processor or accelerator that a stage trains on."""

import os
import platform
from pathlib import Path


def name_hardware(cpu: bool) -> str:
    """The name of the processor, or of the accelerator unless `cpu`, as the machine reports it."""
    import torch

    if torch.cuda.is_available() and not cpu:
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} CPU cores, {names[0] if names else platform.machine()}"
