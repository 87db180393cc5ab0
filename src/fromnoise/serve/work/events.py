"""What happens to jobs, from the threads that draw to the streams that tell of it."""

import asyncio
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

KEPT = 2_000  # events of one job: who comes back late gets those that are left
ALL = "*"  # in place of a job's id
JOBS = 200  # whose events are kept
FED = 5_000  # events of all jobs together that the feed keeps


@dataclass(frozen=True)
class Event:
    """One event of a job. `id` is "attempt-number", so that a stream can go on where it broke."""

    id: str
    name: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Fed:
    """One event of the feed of all jobs; `event` is None where a job only changed."""

    serial: int
    job: str
    event: Event | None


@dataclass
class Log:
    """The events of one job."""

    attempt: int = 0
    count: int = 0
    events: list[Event] = field(default_factory=list)
    # WebP, a file for each picture of the newest step; or what makes them, once somebody looks
    previews: list[bytes] | Callable[[], list[bytes]] = field(default_factory=list)
    previews_of: str = ""  # that step's event


class Hub:
    """The events of the jobs that this process draws. Publishing never waits."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.name = secrets.token_hex(4)  # of this process: its serials are nobody else's
        self.feed: deque[Fed] = deque(maxlen=FED)
        self.serial = 0
        self.logs: OrderedDict[str, Log] = OrderedDict()
        self.waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    def begin(self, job: str, attempt: int) -> None:
        """Starts a job's log. What an earlier attempt told is forgotten."""
        with self.lock:
            self.logs[job] = Log(attempt)
            self.logs.move_to_end(job)
            while len(self.logs) > JOBS:
                self.logs.popitem(last=False)

    def publish(
        self,
        job: str,
        name: str,
        data: dict[str, Any],
        previews: Callable[[], list[bytes]] | None = None,
    ) -> None:
        """Adds an event and wakes the streams of the job."""
        with self.lock:
            log = self.logs.setdefault(job, Log())
            log.count += 1
            event = Event(f"{log.attempt}-{log.count}", name, data | {"time": time.time()})
            log.events.append(event)
            del log.events[:-KEPT]
            if previews:
                log.previews, log.previews_of = previews, event.id
            self._feed(job, event)
        self.wake(job)

    def announce(self, job: str) -> None:
        """Tells the feed that a job has come, or has changed without a runner."""
        with self.lock:
            self._feed(job, None)
        self.wake(job)

    def _feed(self, job: str, event: Event | None) -> None:
        self.serial += 1
        self.feed.append(Fed(self.serial, job, event))

    def find_serial(self, last: str) -> int | None:
        """The serial that an id of the feed names; None where what came after it is not known."""
        name, _, serial = last.partition("-")
        if name != self.name or not serial.isdecimal() or len(serial) > 15:
            return None
        with self.lock:
            first = self.feed[0].serial if self.feed else self.serial + 1
            return int(serial) if first - 1 <= int(serial) <= self.serial else None

    def fed_after(self, serial: int) -> list[Fed]:
        """What the feed has after a serial."""
        with self.lock:
            return [fed for fed in self.feed if fed.serial > serial]

    def wake(self, job: str | None = None) -> None:
        """Lets the streams of a job, or all, look again."""
        with self.lock:
            jobs = [job, ALL] if job is not None else [*self.waiting]
            waiting = [pair for name in jobs for pair in self.waiting.get(name, ())]
        for loop, event in waiting:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # that loop has ended
                continue

    def after(self, job: str, last: str) -> list[Event]:
        """The job's events after the one with the id `last`; all that are left where that one is
        of another attempt or unknown."""
        with self.lock:
            events = list(self.logs[job].events) if job in self.logs else []
        ids = [event.id for event in events]
        return events[ids.index(last) + 1 :] if last in ids else events

    def previews(self, job: str) -> tuple[str, list[bytes]]:
        """(the event that they belong to, small WebP pictures); empty where there are none. They
        are made here, since most steps are looked at by nobody; that takes some milliseconds."""
        with self.lock:
            log = self.logs.get(job)
            of, pictures = (log.previews_of, log.previews) if log else ("", [])
        if log is None or isinstance(pictures, list):
            return of, pictures if isinstance(pictures, list) else []
        made = pictures()
        with self.lock:
            if log.previews is pictures:
                log.previews = made
        return of, made

    def preview(self, job: str) -> bytes:
        """That of the first picture; empty where there is none."""
        return next(iter(self.previews(job)[1]), b"")

    @contextmanager
    def listen(self, job: str) -> Iterator[asyncio.Event]:
        """An event of asyncio that is set whenever the job, or any with ALL, has something new."""
        pair = asyncio.get_running_loop(), asyncio.Event()
        with self.lock:
            self.waiting.setdefault(job, set()).add(pair)
        try:
            yield pair[1]
        finally:
            with self.lock:
                self.waiting[job].discard(pair)
                if not self.waiting[job]:
                    del self.waiting[job]
