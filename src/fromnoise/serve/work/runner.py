"""Draws what waits in the queue: threads that claim jobs, and one that keeps their leases."""

import io
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from fromnoise.errors import FromnoiseError
from fromnoise.pipeline.provenance.infotext import LONGEST, parse
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.serve.queue.jobs import CANCELLED, DONE, EXPIRED, FAILED, Job, Queue
from fromnoise.serve.safety.content import ContentFilter
from fromnoise.serve.safety.folders import hide_folders
from fromnoise.serve.seeing import Metrics
from fromnoise.serve.settings import Settings
from fromnoise.serve.store.files import PICTURES, UPLOADS, Files
from fromnoise.serve.store.gallery import Gallery, make_row
from fromnoise.serve.store.traces import Traces
from fromnoise.serve.store.uploads import Uploads
from fromnoise.serve.work.events import Hub
from fromnoise.serve.work.kinds import KINDS
from fromnoise.serve.work.tasks import read_task
from fromnoise.serve.work.tracing import TRACE, compare_pictures
from fromnoise.serve.work.worker import Progress, Stopped, Worker

if TYPE_CHECKING:  # which loads torch
    from fromnoise.pipeline.inside.recording import Recording

log = logging.getLogger("fromnoise.serve")
IDLE = 1.0  # seconds between two looks at the queue of other servers
RECOVER = 5.0  # seconds between two looks for leases that ran out
CLEAN = 600.0  # seconds between two rounds of cleaning
PATIENCE = 60.0  # seconds for which a drawn picture waits for a database that is away
ENDING, LOST = "ending", "lost"
current = threading.local()  # .notes: where warnings of this thread's job go


@dataclass(eq=False)
class Run:
    """A job that is being drawn. `reason`: why it is to stop."""

    job: Job
    reason: str = ""
    step: int = 0
    total: int = 0
    notes: dict[str, None] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)  # of the last step

    def must_stop(self) -> bool:
        """Whether it is to end. It is asked before each call of the network."""
        if not self.reason and self.job.deadline is not None and time.time() >= self.job.deadline:
            self.reason = EXPIRED
        return bool(self.reason)


class Runner:
    """Draws jobs with a worker until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        files: Files,
        gallery: Gallery,
        uploads: Uploads,
        worker: Worker,
        hub: Hub,
        metrics: Metrics,
        traces: Traces,
        content_filter: ContentFilter | None = None,
    ):
        self.settings, self.queue, self.worker = settings, queue, worker
        self.files, self.gallery, self.uploads = files, gallery, uploads
        self.hub, self.metrics, self.content_filter = hub, metrics, content_filter
        self.traces = traces
        self.owner = f"{socket.gethostname()[:30]}-{os.getpid()}-{secrets.token_hex(6)}"
        self.runs: dict[str, Run] = {}
        self.lock, self.news = threading.Lock(), threading.Condition()
        self.arrivals, self.looked = 0, 0.0  # calls of `wake`; when the queue was last found empty
        self.ending, self.ended = threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []
        self.last_beat = time.monotonic()

    def start(self) -> None:
        """Starts the threads."""
        names = [(f"draw-{i}", self._draw_all) for i in range(self.settings.slots)]
        for name, target in [*names, ("leases", self._keep_leases)]:
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self.threads.append(thread)  # none that does not run yet: `drain` may come at any time

    def wake(self) -> None:
        """Says that a job has come."""
        with self.news:
            self.arrivals += 1
            self.news.notify()

    def stop_job(self, identifier: str, reason: str = CANCELLED) -> None:
        """Ends a run of this process before its next call of the network."""
        with self.lock:
            run = self.runs.get(identifier)
        if run is not None:
            run.reason = run.reason or reason

    def drain(self, seconds: float) -> None:
        """Takes no new job, gives the running ones so long to end, hands the others back."""
        self.ending.set()
        with self.news:
            self.news.notify_all()
        drawing, limit = self.threads[:-1], time.monotonic() + seconds
        for thread in drawing:
            thread.join(max(limit - time.monotonic(), 0))
        with self.lock:
            left = [*self.runs]
        for identifier in left:
            self.stop_job(identifier, ENDING)
        if left:
            handed = self.queue.hand_back(self.owner)
            log.warning("handed jobs back", extra={"fields": {"jobs": handed}})
        self.ended.set()
        for thread in self.threads:
            thread.join(5.0)

    @property
    def is_alive(self) -> bool:
        """Whether all threads run and the leases were renewed of late."""
        fresh = time.monotonic() - self.last_beat < self.settings.lease_seconds
        return fresh and all(thread.is_alive() for thread in self.threads)

    # --- the threads that draw

    def _draw_all(self) -> None:
        while not self.ending.is_set():
            arrivals = self.arrivals
            try:
                job = self.queue.claim(self.owner)
            except SQLAlchemyError:
                log.exception("the queue cannot be read")
                self.ending.wait(IDLE)
                continue
            if job is None:
                self.looked = time.monotonic()
                self._wait(arrivals)
                continue
            self._draw(job)

    def _wait(self, arrivals: int) -> None:
        """Waits until more than so many jobs have come, or no thread has looked for IDLE seconds:
        a job may come of another server, or wait for its next attempt."""
        with self.news:
            while not self.ending.is_set() and self.arrivals == arrivals:
                self.news.wait(IDLE)
                if time.monotonic() - self.looked >= IDLE:
                    self.looked = time.monotonic()
                    return

    def _draw(self, job: Job) -> None:
        """Draws one job and ends it."""
        run = Run(job)
        with self.lock:
            self.runs[job.id] = run
        current.notes, current.hide = run.notes, self._hide
        self.hub.begin(job.id, job.attempts)
        self.hub.publish(job.id, "started", {"attempt": job.attempts})
        state: str | None = None
        try:
            state = self._work(run)
        except Stopped:
            if run.reason in (CANCELLED, EXPIRED):
                error = None if run.reason == CANCELLED else describe("expired", "it took too long")
                state = self._fail(run, run.reason, error)
        except FromnoiseError as error:
            log.info("a job cannot be drawn: %s", error, extra={"fields": {"job": job.id}})
            told = [self._hide(part) for part in (error.message, error.remedy)]
            state = self._fail(run, FAILED, describe(type(error).__name__, *told))
        except Exception as error:
            state = self._meet_fault(run, error)
        finally:
            current.notes = None
            with self.lock:
                del self.runs[job.id]
            if state is not None:
                self.metrics.ended.labels(state).inc()
                self.metrics.job_seconds.observe(time.time() - job.created)
            self.hub.previews(job.id)  # which lets go of the model
            self.hub.publish(job.id, "state", {"state": state or "queued"})

    def _work(self, run: Run) -> str | None:
        """Does a job and ends it; its state, None where it is not ours any more."""
        if run.job.kind == TRACE or not KINDS[run.job.kind].answers:
            return self._end(run, self._run_worker(run))
        if run.reason:
            raise Stopped
        answer = self.worker.look(read_task(run.job, self.files, self.settings.limits.cost))
        return self._persist(lambda: self.queue.finish(run.job, (), run.notes, answer=answer))

    def _run_worker(self, run: Run) -> "list[Image.Image] | Recording":
        """The pictures of a job, or its trace. Raises Stopped, and whatever the worker raises."""
        task = read_task(run.job, self.files, self.settings.limits.cost)
        task = replace(task, stopped=run.must_stop)
        shown = set[str]()

        def tell(notes: tuple[str, ...]) -> None:
            run.notes.update(dict.fromkeys(map(self._hide, notes)))
            for note in [note for note in run.notes if note not in shown]:
                shown.add(note)
                self.hub.publish(run.job.id, "warning", {"message": note})

        def watch(progress: Progress) -> None:
            now = time.monotonic()
            seconds, run.since = now - run.since, now
            run.step, run.total = progress.index + 1, progress.total
            self.metrics.step_seconds.observe(seconds)
            self.metrics.batch.observe(progress.batch)
            tell(progress.notes)
            left = (progress.total - run.step) * (now - begun) / run.step
            data = {
                "step": run.step,
                "total": run.total,
                "sigma": progress.sigma,
                "seconds_left": round(left, 3),
            }
            previews = progress.previews and partial(encode_previews, progress.previews)
            self.hub.publish(run.job.id, "step", data, previews)
            if run.must_stop():
                raise Stopped

        if run.must_stop():
            raise Stopped
        begun = run.since = time.monotonic()
        if run.job.kind == TRACE:
            drawn = self.worker.trace(task, watch, self.settings.limits.trace_bytes)
        else:
            drawn = self.worker.draw(task, watch)
        tell(())
        return drawn

    def _end_trace(self, run: Run, recording: "Recording") -> str | None:
        """Keeps a trace, with what it says of its picture, and ends the job."""
        job, order = run.job, json.loads(run.job.request)
        if why := self.content_filter and self.content_filter(None, recording.picture):
            error = describe("filtered", f"the server's filter keeps this picture back: {why}")
            return self._fail(run, FAILED, error)
        picture = self.gallery.get(order["picture"], None, deleted=True)
        path, data = (
            self.files.path(PICTURES, picture.hash),
            self.files.encode_picture(recording.picture),
        )
        found = compare_pictures(order, recording.picture, path.read_bytes)
        found |= {
            "same_file": None if found["same"] is None else sha256(data).hexdigest() == picture.hash
        }
        facts = recording.facts | found | {"order": order, "model": job.model}
        self.traces.add(order["trace"], facts, recording.tensors, data)
        return self._persist(lambda: self.queue.finish(job, [], run.notes, run.total))

    def _end(self, run: Run, drawn: "list[Image.Image] | Recording") -> str | None:
        """Keeps the pictures and ends the job; its state, None where it is not ours any more."""
        if not isinstance(drawn, list):
            return self._end_trace(run, drawn)
        job, rows, pictures = run.job, [], drawn
        task = read_task(job, self.files, self.settings.limits.cost)
        seeds = [read_seed(picture) for picture in pictures]
        many = job.kind in ("film", "grid")  # the seeds of their pictures are as read
        if isinstance(task.request, GenerationRequest) and not many:
            seeds = task.request.model_copy(update={"count": len(pictures)}).seeds()
        for i, picture in enumerate(pictures):
            why = self.content_filter and self.content_filter(None, picture)
            if why:
                error = describe("filtered", f"the server's filter keeps this picture back: {why}")
                return self._fail(run, FAILED, error)
            text = picture.info.get("parameters", "").replace("\0", "")
            file = self.files.add_picture(picture)
            rows.append(make_row(job, i, seeds[i], picture.size, file, text))
        state = self._persist(lambda: self.queue.finish(job, rows, run.notes, run.total))
        if state == DONE:
            self.metrics.pictures.inc(len(rows))
        return state

    def _fail(self, run: Run, state: str, error: dict[str, Any] | None) -> str | None:
        ended = self._persist(lambda: self.queue.fail(run.job, state, error, run.notes))
        return state if ended else None

    def _meet_fault(self, run: Run, error: Exception) -> str | None:
        """For a fault of the program: the job is tried again, unless memory is what lacks."""
        log.exception("a job met a fault", extra={"fields": {"job": run.job.id}})
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            text = "there is not enough memory to draw this"
            known = describe("out_of_memory", text, "ask for fewer pixels or pictures")
            return self._fail(run, FAILED, known)
        known = describe("fault", "the program met a fault of its own", "look at the server's log")
        return self._persist(lambda: self.queue.retry(run.job, known))

    def _hide(self, text: str) -> str:
        """What a client may read of a text that names files."""
        return hide_folders(text, *self.settings.folders)

    def _persist(self, write: Callable[[], Any]) -> Any:
        """Writes to the database; one that is away is waited for."""
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                return write()
            except SQLAlchemyError:
                log.exception("the end of a job cannot be written")
                if time.monotonic() > limit or self.ended.is_set():
                    return None
                time.sleep(IDLE)

    # --- the thread that keeps leases

    def _keep_leases(self) -> None:
        recovered = cleaned = time.monotonic()
        while not self.ended.wait(min(IDLE, self.settings.lease_seconds / 4)):
            try:
                self._beat()
                self.last_beat = time.monotonic()
                if self.last_beat - recovered > min(RECOVER, self.settings.lease_seconds):
                    recovered = self.last_beat
                    with self.lock:
                        alive = [*self.runs]
                    if self.queue.recover(alive=alive):
                        self.wake()
                if self.last_beat - cleaned > CLEAN:
                    cleaned = self.last_beat
                    self.clean()
            except Exception:
                log.exception("the leases cannot be renewed")

    def _beat(self) -> None:
        """Renews the leases; ends runs that are not to go on."""
        with self.lock:
            progress = {name: (run.step, run.total) for name, run in self.runs.items()}
        if progress:
            pulse = self.queue.pulse(self.owner, progress)
            told = ((pulse.lost, LOST), (pulse.cancelled, CANCELLED), (pulse.expired, EXPIRED))
            for jobs, reason in told:
                for identifier in jobs:
                    self.stop_job(identifier, reason)

    def clean(self) -> None:
        """Removes for good what was deleted, what nobody names, and old records."""
        now = time.time()
        self.gallery.purge(now - self.settings.undo_seconds)
        self.uploads.purge(now - self.settings.upload_hours * 3600)
        self.queue.forget(now - self.settings.keep_jobs_days * 86400)
        self.files.sweep(PICTURES, self.gallery.used)
        self.files.sweep(UPLOADS, self.uploads.used)
        self.traces.clean()


def read_seed(picture: Image.Image) -> int | None:
    """The seed that a picture's settings tell; None where they tell none."""
    text = parse(picture.info.get("parameters", "")[:LONGEST]).fields.get("Seed", "")
    return int(text) if re.fullmatch("[0-9]{1,20}", text) else None


def describe(kind: str, message: str, remedy: str = "") -> dict[str, str]:
    """An error as jobs keep it."""
    return {"type": kind, "message": message, "remedy": remedy}


def encode_previews(make: Callable[[], list[Image.Image]]) -> list[bytes]:
    """Previews as small WebP files."""
    files = []
    for picture in make():
        data = io.BytesIO()
        picture.save(data, "WEBP", quality=80, method=0)
        files.append(data.getvalue())
    return files


@contextmanager
def catch_warnings() -> Iterator[None]:
    """Makes warnings of a thread that draws notes of its job; all others go to the log."""

    def show(message: Warning | str, category: type[Warning], *place: object, **more: object):
        notes = getattr(current, "notes", None)
        if notes is None:
            log.warning(str(message))
        else:
            notes[current.hide(str(message))] = None

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
