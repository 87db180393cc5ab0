"""The server behind its dialects: what HTTP asks for becomes jobs, whatever words it used.

A dialect translates between HTTP and the methods here; it knows neither database nor model."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import text
from starlette.concurrency import run_in_threadpool

from fromnoise.errors import BadInput, FromnoiseError
from fromnoise.pipeline.expanding import rules
from fromnoise.pipeline.expanding.remote import ExpanderFailed, RemoteExpander
from fromnoise.pipeline.expanding.rules import Expansion
from fromnoise.serve.database.opening import open_database, reading
from fromnoise.serve.queue.jobs import CANCELLED, QUEUED, Job, Queue, Ticket
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.audit import Audit
from fromnoise.serve.safety.clients import Clients
from fromnoise.serve.safety.content import load_filter
from fromnoise.serve.safety.links import Links
from fromnoise.serve.safety.tokens import Client, Tokens
from fromnoise.serve.seeing import Metrics
from fromnoise.serve.settings import Settings
from fromnoise.serve.store.files import Files
from fromnoise.serve.store.gallery import Gallery, Picture
from fromnoise.serve.store.traces import StoredTrace, Traces, refuse_gone
from fromnoise.serve.store.uploads import Upload, Uploads
from fromnoise.serve.work.events import Event, Hub
from fromnoise.serve.work.kinds import derive_fields
from fromnoise.serve.work.runner import Runner
from fromnoise.serve.work.tasks import check_limits, digest_of, find_inputs, fix_seeds, list_cells
from fromnoise.serve.work.tracing import TRACE, list_inputs, make_order
from fromnoise.serve.work.worker import Worker, build_task

log = logging.getLogger("fromnoise.serve")
POLL = 1.0  # seconds between two looks at a job that another server may draw
USUAL_SIZE = 512  # pixels a side, where the model is not loaded yet


class Server:
    """One server: its database, files, worker, and the threads that draw."""

    def __init__(self, settings: Settings, worker: Worker):
        self.settings, self.worker = settings, worker
        self.expander = make_expander(settings)
        self.content_filter = load_filter(settings.content_filter)
        self.files = Files(settings.folder)
        self.lock = lock_folder(settings.folder) if settings.url.startswith("sqlite") else None
        self.database = open_database(settings.url)
        self.queue = Queue(self.database, settings)
        self.gallery = Gallery(self.database, self.files)
        self.uploads = Uploads(self.database, self.files, settings.limits)
        self.traces = Traces(
            settings.folder, settings.limits.traces_bytes, settings.trace_hours * 3600
        )
        self.tokens, self.metrics, self.hub = Tokens(self.database), Metrics(), Hub()
        self.audit, self.links = Audit(settings.folder), Links(settings.folder)
        self.clients = Clients(settings, self.tokens, self.audit)
        self.runner = Runner(
            settings,
            self.queue,
            self.files,
            self.gallery,
            self.uploads,
            worker,
            self.hub,
            self.metrics,
            self.traces,
            self.content_filter,
        )
        self.streams: dict[str, int] = {}
        self.loaded = False  # whether the server's own model is ready

    def start(self) -> None:
        """Puts back what a killed server left, loads the model, begins to draw. With SQLite nobody
        else draws: the folder is locked."""
        recovered = self.queue.recover(everything=self.lock is not None)
        if recovered:
            log.info("took up jobs", extra={"fields": {"jobs": recovered}})
        self.runner.start()
        for name in dict.fromkeys((*self.settings.preload, self.settings.model_name)):
            try:
                self.worker.load(name)
                self.loaded |= name == self.settings.model_name
            except FromnoiseError as error:  # requests that name other models can still be drawn
                log.error("the model cannot be loaded: %s", error)

    def stop(self) -> None:
        """Ends within `drain_seconds`: running jobs end, or are handed back."""
        try:
            self.runner.drain(self.settings.drain_seconds)
        finally:
            self.hub.wake()
            self.audit.close()
            self.database.dispose()
            if self.lock is not None:
                self.lock.close()

    def check_ready(self) -> str:
        """Why the server is not ready for jobs; "" where it is."""
        if self.runner.ending.is_set():
            return "it ends"
        if not self.loaded:
            return "its model is not loaded"
        if not self.runner.is_alive:
            return "it does not draw"
        try:
            with reading(self.database) as connection:
                connection.execute(text("SELECT 1"))
        except Exception:
            return "its database does not answer"
        return ""

    # --- jobs

    def submit(
        self,
        client: Client,
        dialect: str,
        kind: str,
        values: dict[str, Any],
        model: str | None = None,
        priority: int = 0,
        seconds: float | None = None,
        key: str | None = None,
        wish: Any = None,
    ) -> tuple[Job, bool]:
        """(the job, whether it is new) of a kind of KINDS and values of its `derive_fields`. When
        this returns, the job is on the disk. wish: what the client asked for, where `values` are
        more than that; the same key must come with the same. Raises BadInput, UnknownName, NotFound
        and Refusal."""
        if self.runner.ending.is_set():
            raise Refusal(503, "ending", "the server ends", "try again", 5)
        limits, chosen = self.settings.limits, model or self.settings.model_name
        # checked again, so that no dialect can hand over what the schema refuses
        body = derive_fields(kind)(**values)
        asked = body.model_dump(mode="json", exclude_unset=True)
        if seconds is not None and not 0 < seconds <= limits.job_seconds:
            raise BadInput(
                "the deadline cannot be used", f"give 1 to {limits.job_seconds:,.0f} seconds"
            )
        if priority > 0 and "admin" not in client.scopes:
            raise Refusal(403, "no_scope", "only an admin's jobs come first", "ask for 0 or less")
        size = USUAL_SIZE, USUAL_SIZE
        if kind == "upscale":
            picture = self.uploads.get(asked["image"], client.owner)
            size = picture.width, picture.height
        check_limits(kind, asked, limits, size)
        self._filter_words(client, asked)
        if kind == "grid":
            for cell in list_cells(asked, limits.cells):
                self._filter_words(client, cell.model_dump())
        # with the hashes of uploads: who sends the same file again asks for the same
        named, hashes = find_inputs(
            kind, asked, lambda upload: self.uploads.get(upload, client.owner).hash
        )
        digest = digest_of(kind, chosen, named, priority) if wish is None else digest_of(kind, wish)
        kept = fix_seeds(kind, named)
        self.worker.check(build_task(kind, chosen, kept, self._upload_path, limits.cost))
        ticket = Ticket(
            client.name, dialect, kind, chosen, kept, hashes, priority, seconds, key, digest
        )
        job, new = self.queue.submit(ticket)
        if new:
            self.metrics.accepted.labels(dialect, kind).inc()
            self.audit.write("submit", client.name, job=job.id, kind=kind, dialect=dialect)
            self.hub.announce(job.id)
            self.runner.wake()
        return job, new

    def _filter_words(self, client: Client, values: dict[str, Any]) -> None:
        """Raises Refusal for words that the content filter refuses."""
        texts = [values.get(name) for name in ("prompt", "negative_prompt", "hires_prompt")]
        for words in (*texts, *values.get("prompts", ())):
            if words and self.content_filter and (why := self.content_filter(words, None)):
                self.audit.write("filtered", client.name)
                raise Refusal(
                    400, "filtered", f"the server's filter refuses this: {why}", "ask otherwise"
                )

    def submit_trace(
        self,
        client: Client,
        identifier: str,
        changes: dict[str, Any],
        without: str | None = None,
        which: int = 0,
    ) -> tuple[str, Job | None]:
        """(the id of a picture's trace, the job that makes it; None where the trace is there).

        changes: settings that are to differ; without, which: see tracing.make_order. Raises
        BadInput, UnknownName, NotFound and Refusal."""
        picture = self.gallery.get(identifier, client.owner)
        try:
            drawn_as = self.queue.get(picture.job).kind
        except Refusal:  # records of jobs are kept for a while only
            drawn_as = None
        order = make_order(picture, drawn_as, changes, without, which)
        trace, kind, values = order["trace"], order["of"], order["values"]
        if self.traces.has(trace):
            return trace, None
        digest = digest_of(TRACE, trace)
        if (job := self.queue.find_digest(client.name, digest)) is not None:
            return trace, job
        if self.runner.ending.is_set():
            raise Refusal(503, "ending", "the server ends", "try again", 5)
        limits = self.settings.limits
        check_limits(kind, values, limits, (USUAL_SIZE, USUAL_SIZE))
        self._filter_words(client, values)
        inputs = list_inputs(values)
        for file in map(self._upload_path, inputs):
            if not file.is_file():
                raise Refusal(
                    404,
                    "not_found",
                    "a picture that this one was made from is gone from the disk",
                    "uploads are kept for a day: make it again from a new upload",
                )
        self.worker.check(build_task(kind, picture.model, values, self._upload_path, limits.cost))
        ticket = Ticket(client.name, "native", TRACE, picture.model, order, inputs, digest=digest)
        job, _ = self.queue.submit(ticket)
        self.metrics.accepted.labels("native", TRACE).inc()
        self.audit.write("trace", client.name, job=job.id, picture=identifier)
        self.runner.wake()
        return trace, job

    def open_trace(self, client: Client, identifier: str, trace: str) -> StoredTrace:
        """A trace of a picture. Raises Refusal where the picture is not the client's, and where
        the trace is not there or is another picture's."""
        self.gallery.get(identifier, client.owner)
        stored = self.traces.open(trace)
        if stored.facts["order"]["picture"] != identifier:
            raise refuse_gone()
        return stored

    def expand(self, prompt: str, model: str | None = None) -> Expansion:
        """A prompt that says more, by the language model that the operator named, else by rules.
        Raises NotFound for a model."""
        vocabulary = self.worker.vocabulary(model or self.settings.model_name)
        if self.expander is None or rules.keep_as_it_is(prompt):
            return rules.expand(prompt, vocabulary)
        try:
            return Expansion(self.expander.expand(prompt, vocabulary.words))
        except ExpanderFailed as error:
            log.warning("the language model expands nothing: %s", error.message)
            made = rules.expand(prompt, vocabulary)
            note = f"the server's language model failed ({error.message}); rules expand the prompt"
            return Expansion(made.prompt, (note, *made.notes))

    def _upload_path(self, digest: str) -> Path:
        return self.files.path("uploads", digest)

    def cancel(self, client: Client, identifier: str) -> Job:
        """Cancels a job. Raises Refusal where it is not there."""
        job = self.queue.cancel(identifier, client.owner)
        self.runner.stop_job(identifier, CANCELLED)
        self.hub.announce(identifier)
        self.audit.write("cancel", client.name, job=identifier)
        return job

    def upload(self, client: Client, data: bytes) -> tuple[Upload, list[str]]:
        """(an upload of a picture file's bytes, notes). Raises BadInput and Refusal."""
        limit = self.settings.limits.upload_bytes
        if len(data) > limit:
            raise Refusal(413, "too_large", f"the file has more than {limit:,} bytes", "send less")
        upload, notes = self.uploads.add(client.name, data)
        self.audit.write("upload", client.name, upload=upload.id, bytes=len(data))
        return upload, notes

    async def follow(self, job: Job, last: str = "") -> AsyncIterator[Event | Job]:
        """The events of a job after the one with the id `last`, then the job as it ended. It ends
        early where the server does."""
        with self.hub.listen(job.id) as news:
            shown = (job.step, job.total)
            while True:
                news.clear()
                # in this order: when the runner has ended the job is as it left it, and when the
                # job has ended all of its events are there
                is_last = self.runner.ended.is_set()
                job = await run_in_threadpool(self.queue.get, job.id)
                for event in self.hub.after(job.id, last):
                    last = event.id
                    if event.name != "state":
                        yield event
                    shown = (event.data.get("step", job.step), job.total)
                if job.has_ended:
                    yield job
                    return
                if is_last:
                    return
                if job.owner not in (None, self.runner.owner) and shown != (job.step, job.total):
                    shown = (job.step, job.total)  # drawn by another server
                    yield Event(last, "step", {"step": job.step, "total": job.total})
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), POLL)

    async def wait(self, job: Job) -> Job:
        """The job when it has ended. Raises Refusal where the server ends before that."""
        async for item in self.follow(job):
            if isinstance(item, Job):
                return item
        raise Refusal(503, "ending", "the server ends; the job is kept", f"ask for {job.id}", 5)

    def check_streams(self, client: Client) -> None:
        """Raises Refusal for a client that has as many open streams as it may."""
        if self.streams.get(client.name, 0) >= self.settings.limits.streams_per_client:
            raise Refusal(429, "too_many_streams", "too many open streams", "close some", 5)

    @contextmanager
    def count_stream(self, client: Client) -> Iterator[None]:
        """Counts an open stream of a client."""
        self.streams[client.name] = self.streams.get(client.name, 0) + 1
        self.metrics.streams.inc()
        try:
            yield
        finally:
            self.metrics.streams.dec()
            self.streams[client.name] -= 1
            if not self.streams[client.name]:
                del self.streams[client.name]

    def pictures_of(self, job: Job) -> list[Picture]:
        """The pictures of a job, in their order."""
        return self.gallery.of_jobs([job.id])[job.id]

    def count_ahead(self, job: Job) -> int:
        """How many jobs of its client are before a job that waits."""
        return self.queue.count_ahead(job) if job.state == QUEUED else 0


def make_expander(settings: Settings) -> RemoteExpander | None:
    """What asks the language model that the settings name; None: rules do. Raises BadInput."""
    if settings.expand in ("off", "rules"):
        return None
    return RemoteExpander(settings.expand, settings.expand_model, settings.expand_key)


def lock_folder(folder: Path) -> Any:
    """Holds the data folder for this process; the open file. Raises BadInput where another server
    has it."""
    file = (folder / "serve.lock").open("a")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: two servers on one folder are the user's own care there
        log.warning("this system cannot lock %s: start one server only", folder)
    except OSError:
        file.close()
        raise BadInput(
            f"another server uses the folder {folder}",
            "stop it, choose another folder with --data, or use PostgreSQL for both",
        ) from None
    return file
