"""Models of more than a gigabyte: is there memory, are their hashes known, and a reading that
touches as little memory as it can."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from fromnoise.checkpoints.file_hashes import hash_file, identify
from fromnoise.checkpoints.tensors import Keys, See, TensorFile
from fromnoise.errors import BadCheckpoint
from fromnoise.runtime.memory import find_memory, keep_freed_memory


def ready_large(
    parts: Mapping[str, Any], needed: int, digests: Mapping[str, str] | None
) -> tuple[Mapping[str, Any], Mapping[str, str] | None]:
    """(the Parts of `assemble`, to be read quickly; its digests, where they are known or kept from
    an earlier start, else None). needed: bytes of the parts in fp32. Raises BadCheckpoint where
    that is more than the machine's memory."""
    if needed > find_memory(torch.device("cpu")):
        raise BadCheckpoint(
            f"{parts['unet'].source.path} needs {needed / 1e9:,.1f} GB of memory, more than there "
            "is here",
            "use a machine with more memory",
        )
    keep_freed_memory()
    files = [parts[name].source for name in ("unet", "vae")]
    whole = all(isinstance(file, TensorFile) for file in files)
    if digests is None and not whole:
        return parts, None  # of shards: their bytes are hashed as they are read
    quick = {
        name: part._replace(source=QuickSource(part, name == "unet"))
        for name, part in parts.items()
    }
    if digests is None:
        with ThreadPoolExecutor(len(files)) as pool:  # hashing leaves Python free
            unet, vae = pool.map(lambda file: hash_file(file.path)[:10], files)
        digests = {"unet": unet, "vae": vae}
    return quick, digests


class QuickSource:
    """The source of a part that yields fp32 tensors as the network will use them: those that it has
    a place for, read through one buffer, which new memory would cost more than reading."""

    def __init__(self, part: Any, channels_last: bool):
        """part: a Part of `assemble`. channels_last: whether the weights of convolutions are laid
        out so, as runtime.prepare has them."""
        self.source, self.channels_last = part.source, channels_last
        self.keys = {*part.names.values()}
        self.path, self.stored = part.source.path, part.source.stored
        self.state = identify(self.path)

    def stream(self, see: See = None, keys: Keys = None) -> Iterator[tuple[str, Tensor]]:
        """As TensorFile.stream. Raises BadCheckpoint where the file has changed since it was opened
        or hashed."""
        file: Any = self.source
        while not isinstance(file, TensorFile) and hasattr(file, "source"):
            file = file.source
        usual = getattr(file, "allocate", None)
        if isinstance(file, TensorFile):
            largest = max((e.end - e.start for e in file.stored.values()), default=0)
            buffer = torch.empty(largest, dtype=torch.uint8)
            file.allocate = lambda size: buffer[:size]  # type: ignore[assignment]
        try:
            for key, tensor in self.source.stream(see, self.keys if keys is None else keys):
                layout = torch.preserve_format
                if self.channels_last and tensor.ndim == 4:
                    layout = torch.channels_last
                dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
                yield key, tensor.to(dtype, memory_format=layout, copy=True)
        finally:
            if isinstance(file, TensorFile):
                file.allocate = usual  # type: ignore[assignment]
        if identify(self.path) != self.state:
            raise BadCheckpoint(f"{self.path} changed while it was read", "load it again")
