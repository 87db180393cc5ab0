"""What a model of more than a gigabyte needs before it is read."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from fromnoise.checkpoints.file_hashes import hash_file
from fromnoise.checkpoints.tensors import TensorFile
from fromnoise.errors import BadCheckpoint
from fromnoise.runtime.memory import find_memory


def ready_large(
    parts: Mapping[str, Any], needed: int, digests: Mapping[str, str] | None
) -> Mapping[str, str] | None:
    """The digests of `assemble`, where they are known or kept from an earlier start, else None.
    parts: its Parts, of `needed` bytes in fp32. Raises BadCheckpoint where that is more than the
    machine's memory."""
    if needed > find_memory(torch.device("cpu")):
        raise BadCheckpoint(
            f"{parts['unet'].source.path} needs {needed / 1e9:,.1f} GB of memory, more than there "
            "is here",
            "use a machine with more memory",
        )
    files = [parts[name].source for name in ("unet", "vae")]
    if digests is not None or not all(isinstance(file, TensorFile) for file in files):
        return digests
    with ThreadPoolExecutor(len(files)) as pool:  # hashing leaves Python free
        unet, vae = pool.map(lambda file: hash_file(file.path)[:10], files)
    return {"unet": unet, "vae": vae}
