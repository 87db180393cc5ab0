"""Networks with LoRA on them, kept while they are likely to be asked for again: by the next frame,
the second pass, the next picture of a grid, and requests that run at the same time."""

import gc
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
    """The copies of one model's networks, the last used ones last. make_room: is called with the
    bytes that a new copy is to take."""

    def __init__(self, make_room: Callable[[int], object] | None = None) -> None:
        self.kept: OrderedDict[Hashable, Patched] = OrderedDict()
        self.alive: list[tuple[list[ref], int]] = []  # networks of copies, with their bytes
        self.make_room, self.memory = make_room, Memory()
        # who holds `lock`, which guards the lists, waits for nothing else
        self.making, self.lock = threading.RLock(), threading.RLock()

    @property
    def bytes(self) -> int:
        """Of the copies: those that are kept, and those that somebody draws with yet."""
        with self.lock:
            self.alive = [one for one in self.alive if any(a() is not None for a in one[0])]
            return sum(size for _, size in self.alive)

    def let_go(self, size: int) -> None:
        """Forgets copies, those that were used the longest ago first, until so many bytes are free
        or none is left. What somebody draws with is free at the end of that."""
        with self.lock:
            limit = self.bytes - size
            while self.kept and self.bytes > limit:
                self.kept.popitem(last=False)
                if self.bytes > limit:
                    gc.collect()  # runs that have ended may hold it in a circle
        if self.making.acquire(blocking=False):  # else who makes a copy trims at its end
            self.memory.trim()
            self.making.release()

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
        with self.making:
            with self.lock:
                known = self.kept.get(key)
                bases = zip(known.bases if known else (), networks.values(), strict=False)
                if known and all(base() is network for base, network in bases):
                    self.kept.move_to_end(key)
                    return known
                self.kept.pop(key, None)
                del known
            changes = read()
            size = sum(count_bytes(networks[part], of) for part, of in changes.patches.items())
            with self.lock:
                while self.kept and size + sum(one.bytes for one in self.kept.values()) > BUDGET:
                    self.kept.popitem(last=False)
            if self.make_room:
                self.make_room(size)
            new = {
                part: patch_network(networks[part], of, self.memory)
                for part, of in changes.patches.items()
            }
            self.memory.trim()
            bases = [*map(ref, networks.values())]
            made = Patched(new, changes.embeddings, changes.warnings, bases, size)
            with self.lock:
                self.alive.append(([*map(ref, new.values())], size))
                self.kept[key] = made
            return made


ALL: WeakKeyDictionary[nn.Module, PatchedNetworks] = WeakKeyDictionary()  # by the model's U-Net
LOCK = threading.Lock()


def open_copies(network: nn.Module, make_room: Callable[[int], object]) -> PatchedNetworks:
    """What keeps the copies of the model with that U-Net, from now on within somebody's room."""
    with LOCK:
        copies = ALL[network] = PatchedNetworks(make_room)
    return copies


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
