"""What is loaded by name and stays loaded, within a budget of bytes."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fromnoise.errors import BadInput
from fromnoise.runtime.memory import release_freed_memory
from fromnoise.serve.work.worker import Stopped

log = logging.getLogger("fromnoise.serve")
LOOK = 0.1  # seconds between two looks whether who waits is to stop


class Copies(Protocol):
    """What comes beside an entry, and can be made again."""

    @property
    def bytes(self) -> int: ...

    def let_go(self, size: int) -> None:
        """Lets so many bytes of it go, where that can be."""
        ...


@dataclass(frozen=True)
class Wanted:
    """Something to have: its key, the bytes that it will take about, and how to load it. `load` is
    given the values of what is wanted before it, and returns (value, bytes), or (value, bytes, its
    Copies)."""

    key: tuple[str, ...]
    bytes: int
    load: Callable[..., tuple[Any, int] | tuple[Any, int, Copies]]
    always: bool = False  # even where it alone is larger than the budget


@dataclass(eq=False)
class Entry:
    """Something that is loaded. Nobody lets it go while it has users."""

    value: Any
    bytes: int
    copies: Copies | None = None
    users: int = 0

    @property
    def copied(self) -> int:
        """Bytes of its copies."""
        return self.copies.bytes if self.copies else 0


class Shelf:
    """Loaded things, the one that was used the longest ago first. Where the budget is used up,
    copies go first, then that one; where all of them are in use, a newcomer waits."""

    def __init__(self, budget: int):
        self.budget = budget
        self.entries: OrderedDict[tuple[str, ...], Entry] = OrderedDict()
        self.sizes: dict[tuple[str, ...], int] = {}  # of all that was ever loaded
        self.changed, self.loading = threading.Condition(), threading.Lock()
        self.waiting = False  # for room: later ones do not overtake

    def take(self, *wanted: Wanted, stopped: Callable[[], bool] = lambda: False) -> list[Entry]:
        """The entries, loaded where they are not; give them back with `release`. One is loaded
        after the other, and none twice. Raises Stopped, BadInput for what is larger than the
        budget, and whatever `load` raises."""
        with self.changed:
            if not self.waiting and all(one.key in self.entries for one in wanted):
                return self._hold(wanted)
        while not self.loading.acquire(timeout=LOOK):
            if stopped():
                raise Stopped
        try:
            with self.changed:
                self.refuse_large(wanted)
                self._wait_for_room(wanted, stopped)
                held = [one.key for one in wanted if one.key in self.entries]
                self._hold([one for one in wanted if one.key in held])
            try:
                return self._load(wanted)
            finally:
                self.release(held)
        finally:
            self.loading.release()

    def release(self, keys: Sequence[tuple[str, ...]]) -> None:
        """Says that a use of them has ended."""
        with self.changed:
            for key in keys:
                self.entries[key].users -= 1
            self._let_copies_go()
            self.changed.notify_all()

    def make_room(self, size: int) -> None:
        """For a copy of so many bytes: others go, then idle entries. What is in use stays, even
        where the budget is passed by that until the end of a use."""
        with self.changed:
            self._evict(set(), size)
            over = self._measure_all() + size - self.budget
        if over > 0:
            more = {"bytes": size, "over": over}
            log.warning("a copy with LoRA passes the budget of memory", extra={"fields": more})

    def drop(self, key: tuple[str, ...]) -> bool:
        """Lets something go that nobody uses; whether it did."""
        with self.changed:
            entry = self.entries.get(key)
            if entry is None or entry.users:
                return False
            del self.entries[key]
            return True

    def get(self, key: tuple[str, ...]) -> Entry | None:
        """The entry of that key if it is loaded. It may go at any time."""
        with self.changed:
            return self.entries.get(key)

    def list_entries(self) -> dict[tuple[str, ...], Entry]:
        """All that is loaded, by its key."""
        with self.changed:
            return dict(self.entries)

    @property
    def bytes(self) -> int:
        """Of all that is loaded, without copies."""
        with self.changed:
            return sum(entry.bytes for entry in self.entries.values())

    @property
    def copied(self) -> int:
        """Bytes of all copies."""
        with self.changed:
            return sum(entry.copied for entry in self.entries.values())

    def refuse_large(self, wanted: Sequence[Wanted]) -> None:
        """Raises BadInput for what can never fit."""
        size = self._measure(wanted)
        if size > self.budget and not any(one.always for one in wanted):
            raise BadInput(
                f"the model {wanted[0].key[-1]!r} takes {size / 1e9:.2f} GB of memory, and this "
                f"server keeps {self.budget / 1e9:.2f} for models",
                "choose a smaller one, or start the server with a larger --model-memory",
            )

    def _measure(self, wanted: Sequence[Wanted]) -> int:
        return sum(self.sizes.get(one.key, one.bytes) for one in wanted)

    def _wait_for_room(self, wanted: Sequence[Wanted], stopped: Callable[[], bool]) -> None:
        """Lets idle entries go until these fit; waits where too many are in use. What is larger
        than the budget waits until it is alone."""
        keys = {one.key for one in wanted}
        need = self._measure([one for one in wanted if one.key not in self.entries])
        try:
            while True:
                others = [entry for key, entry in self.entries.items() if key not in keys]
                self._evict(keys, need)
                if self._measure_all() + need <= self.budget or not any(
                    entry.users for entry in others
                ):
                    return
                self.waiting = True
                self.changed.wait(LOOK)
                if stopped():
                    raise Stopped
        finally:
            self.waiting = False

    def _evict(self, keep: set[tuple[str, ...]], need: int = 0) -> None:
        """Lets idle entries go, the oldest first, until `need` more bytes fit."""
        count = len(self.entries)
        self._let_copies_go(need)
        for key in [*self.entries]:
            full = self._measure_all() + need > self.budget
            if full and key not in keep and not self.entries[key].users:
                del self.entries[key]
        if len(self.entries) < count:
            release_freed_memory()

    def _let_copies_go(self, need: int = 0) -> None:
        """Lets copies go until `need` more bytes fit, the oldest entry's first."""
        for entry in self.entries.values():
            over = self._measure_all() + need - self.budget
            if over > 0 and entry.copies:
                entry.copies.let_go(over)

    def _measure_all(self) -> int:
        return sum(entry.bytes + entry.copied for entry in self.entries.values())

    def _hold(self, wanted: Sequence[Wanted]) -> list[Entry]:
        for one in wanted:
            self.entries[one.key].users += 1
            self.entries.move_to_end(one.key)
        return [self.entries[one.key] for one in wanted]

    def _load(self, wanted: Sequence[Wanted]) -> list[Entry]:
        """All of them, held. What was loaded and turns out to be too large is not kept."""
        values: list[Any] = []
        new: dict[tuple[str, ...], Entry] = {}
        for one in wanted:
            if (entry := self.get(one.key)) is None:
                made = one.load(*values)
                copies = made[2] if len(made) == 3 else None
                entry = new[one.key] = Entry(made[0], made[1], copies)
                self.sizes[one.key] = entry.bytes
            values.append(entry.value)
        with self.changed:
            self.refuse_large(wanted)
            self.entries.update(new)
            held = self._hold(wanted)
            self._evict({one.key for one in wanted})
            return held
