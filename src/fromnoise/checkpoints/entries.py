"""What a header says: the tensors of a file, each with its type, its shape and its place."""

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from pathlib import Path

DIMENSIONS = 8  # most of one tensor; a convolution over pictures has four
# bits of one value, by the names of safetensors
BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
DAMAGED = "it is cut short, damaged or of another kind; fetch it again"
# the last words of keys beside a weight of 8 bits: scales and marks, of ComfyUI and others
SCALES = ("scale_weight", "weight_scale")
MARKS = ("scaled_fp8", "scale_input", "input_scale", "comfy_quant")


def is_shape(shape: Collection[int]) -> bool:
    """Whether a tensor can have these sizes, each 0 or more: not too many, and strides of 63 bits,
    where there is a size of 0 too."""
    return len(shape) <= DIMENSIONS and prod(max(size, 1) for size in shape) < 2**63


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor that lies in a file."""

    dtype: str  # by the name of safetensors, such as F16, or of GGUF, such as Q4_K
    shape: tuple[int, ...]
    start: int = 0  # of its bytes in the file
    end: int = 0

    @property
    def count(self) -> int:
        """How many values it has."""
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    """kind: "safetensors", "pickle" or "gguf". placeholders: the globals that a pickle names and
    that nothing is made of. notes: what the user should know."""

    path: Path
    kind: str
    metadata: dict[str, str]
    entries: dict[str, Entry]
    placeholders: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, by its key, as it is when it is read: without its scale."""
        words = (*SCALES, *MARKS)
        found = self.entries.items()
        return {key: entry.shape for key, entry in found if key.rpartition(".")[2] not in words}
