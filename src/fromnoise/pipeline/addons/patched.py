"""Networks with LoRA on them, kept while they are likely to be asked for again: by the next frame,
the second pass, the next picture of a grid, and requests that run at the same time."""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary, ref

from torch import nn

from fromnoise.pipeline.addon_fields.lora import Lora
from fromnoise.pipeline.addons.vectors import Named
from fromnoise.runtime.patches import Memory, Patch, count_bytes, patch_network

BUDGET = 4 << 30  # bytes of changed weights that are kept; the last ones are, whatever their size


@dataclass(frozen=True, eq=False)
class Changes:
    """What some LoRA do to a model: patches by part, embeddings, and what the user should know."""

    patches: Mapping[str, Sequence[Patch]]
    embeddings: Sequence[Named] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Patched:
    """The changed networks by part, with what else their LoRA bring."""

    networks: Mapping[str, nn.Module]
    embeddings: Sequence[Named]
    warnings: Sequence[str]
    bases: Sequence[ref]  # the networks that they are copies of
    bytes: int


class PatchedNetworks:
    """The copies of one model's networks, the last used ones last."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Hashable, Patched] = OrderedDict()
        self.memory, self.lock = Memory(), threading.RLock()

    def find(
        self,
        networks: Mapping[str, nn.Module],
        items: Sequence[tuple[Lora, Sequence[Path]]],
        read: Callable[[], Changes],
    ) -> Patched:
        """The networks with these LoRA and their files, made by `read` where they are not there.

        Those that were used the longest ago go first, before others take their memory. Raises as
        `read`."""
        key = tuple(map(identify_item, items)), tuple(map(identify, networks.values()))
        with self.lock:
            known = self.kept.get(key)
            if known and all(a() is b for a, b in zip(known.bases, networks.values(), strict=True)):
                self.kept.move_to_end(key)
                return known
            self.kept.pop(key, None)
            changes = read()
            size = sum(count_bytes(networks[part], of) for part, of in changes.patches.items())
            while self.kept and size + sum(one.bytes for one in self.kept.values()) > BUDGET:
                self.kept.popitem(last=False)
            new = {
                part: patch_network(networks[part], of, self.memory)
                for part, of in changes.patches.items()
            }
            self.memory.trim()
            bases = [*map(ref, networks.values())]
            made = Patched(new, changes.embeddings, changes.warnings, bases, size)
            self.kept[key] = made
            return made


ALL: WeakKeyDictionary[nn.Module, PatchedNetworks] = WeakKeyDictionary()  # by the model's U-Net
LOCK = threading.Lock()


def find_patched(
    networks: Mapping[str, nn.Module],
    items: Sequence[tuple[Lora, Sequence[Path]]],
    read: Callable[[], Changes],
) -> Patched:
    """See PatchedNetworks.find. Warns each time of what `read` found."""
    with LOCK:
        of_model = ALL.setdefault(networks["unet"], PatchedNetworks())
    found = of_model.find(networks, items, read)
    for text in found.warnings:
        warnings.warn(text, stacklevel=2)
    return found


def identify_item(item: tuple[Lora, Sequence[Path]]) -> Hashable:
    """What changes when the LoRA or one of its files does."""
    lora, files = item
    states = tuple((str(file), *identify_file(file)) for file in files)
    return states, lora.weight, lora.text_weight, lora.blocks


def identify_file(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def identify(network: nn.Module) -> Hashable:
    """What changes when a network is moved, cast or written to."""
    first = next(network.parameters())
    versions = (0 if p.is_inference() else p._version for p in network.parameters())
    return id(network), first.device, first.dtype, first.data_ptr(), sum(versions)
