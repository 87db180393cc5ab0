"""The durable queue: a job that was accepted ends exactly once, whatever is killed in between.

A job is committed before it is answered with 202. Who draws it holds a lease and renews it. The
pictures are committed in one transaction with the job's end, and only by the holder of its lease:
a second drawing of the same job, after a lease that ran out, changes nothing."""

import json
import secrets
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, or_, select, text, update
from sqlalchemy.exc import IntegrityError

from fromnoise.serve.database.opening import reading
from fromnoise.serve.database.tables import clients, job_inputs, jobs, pictures
from fromnoise.serve.refusals import Refusal, refuse_missing
from fromnoise.serve.settings import Settings

QUEUED, RUNNING = "queued", "running"
DONE, FAILED, CANCELLED, EXPIRED = "done", "failed", "cancelled", "expired"
ENDED = (DONE, FAILED, CANCELLED, EXPIRED)
STATES = (QUEUED, RUNNING, *ENDED)
SUBMITTING = 7_046_029_255  # the number of PostgreSQL's lock while a job is counted and added
NO_OWNER: dict[str, Any] = {"owner": None, "lease": None}


@dataclass(frozen=True)
class Ticket:
    """What a client asks for: the settings of a picture, their seeds decided."""

    client: str
    dialect: str
    kind: str
    model: str
    request: dict[str, Any]
    inputs: tuple[str, ...] = ()  # hashes of the uploads that it reads
    priority: int = 0
    seconds: float | None = None  # until its deadline
    key: str | None = None  # the same key and digest: the same job
    digest: str = ""  # of what was asked for, before seeds were decided


@dataclass(frozen=True)
class Job:
    """A row of the table of jobs."""

    number: int
    id: str
    client: str
    dialect: str
    kind: str
    model: str
    request: str
    state: str
    priority: int
    attempts: int
    owner: str | None
    lease: float | None
    not_before: float
    deadline: float | None
    cancelled: bool
    key: str | None
    digest: str
    step: int
    total: int
    notes: str
    error: str | None
    created: float
    started: float | None
    finished: float | None
    answer: str | None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclass
class Pulse:
    """What the queue answers when leases are renewed: these jobs are not to be drawn on."""

    lost: set[str] = field(default_factory=set)  # another one's now
    cancelled: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)


class Queue:
    """The jobs in a database. Every method is one transaction, and may be called by any thread."""

    def __init__(self, engine: Engine, settings: Settings):
        self.engine, self.limits = engine, settings.limits
        self.lease_seconds, self.slots = settings.lease_seconds, settings.slots
        self.job_seconds = 5.0  # of late, about: for Retry-After

    # --- a client's side

    def submit(self, ticket: Ticket) -> tuple[Job, bool]:
        """(the job, whether it is new). Raises Refusal for a full queue, and for a key that was
        used for something else."""
        try:
            return self._submit(ticket)
        except IntegrityError:  # the same key, at the same moment, of another server
            return self._submit(ticket)

    def _submit(self, ticket: Ticket) -> tuple[Job, bool]:
        now, values = time.time(), ticket.__dict__.copy()
        seconds, inputs, request = (values.pop(k) for k in ("seconds", "inputs", "request"))
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({SUBMITTING})"))
            if ticket.key is not None and (same := self._find_key(connection, ticket)):
                return same, False
            self._check_depth(connection, ticket.client)
            if not connection.scalar(select(clients.c.name).filter_by(name=ticket.client)):
                connection.execute(insert(clients).values(name=ticket.client, served=0))
            values |= {
                "id": secrets.token_hex(16),
                "request": json.dumps(request),
                "state": QUEUED,
                "attempts": 0,
                "not_before": now,
                "deadline": None if seconds is None else now + seconds,
                "cancelled": False,
                "step": 0,
                "total": 0,
                "notes": "[]",
                "created": now,
            }
            connection.execute(insert(jobs).values(values))
            rows = [{"job": values["id"], "hash": digest} for digest in dict.fromkeys(inputs)]
            if rows:
                connection.execute(insert(job_inputs), rows)
            return self._get(connection, values["id"]), True

    def _find_key(self, connection: Connection, ticket: Ticket) -> Job | None:
        row = connection.execute(
            select(jobs).where(jobs.c.client == ticket.client, jobs.c.key == ticket.key)
        ).first()
        if row is not None and row.digest != ticket.digest:
            raise Refusal(
                409,
                "key_reused",
                "this idempotency key was used for another request",
                "take a new key for each new request",
            )
        return None if row is None else Job(**row._mapping)

    def _check_depth(self, connection: Connection, client: str) -> None:
        """Raises Refusal where as many jobs wait as may."""
        waiting = select(func.count()).select_from(jobs).where(jobs.c.state == QUEUED)
        own = connection.scalar(waiting.where(jobs.c.client == client)) or 0
        everyone = connection.scalar(waiting) or 0
        for depth, limit, whose in (
            (own, self.limits.depth_per_client, "of yours "),
            (everyone, self.limits.depth, ""),
        ):
            if depth >= limit:
                seconds = min(max(self.job_seconds * depth / self.slots / 2, 1), 600)
                raise Refusal(
                    429,
                    "queue_full",
                    f"{depth:,} jobs {whose}wait already, and the limit is {limit:,}",
                    "try again later",
                    seconds,
                )

    def get(self, identifier: str, client: str | None = None) -> Job:
        """A job; client: whose it must be. Raises Refusal."""
        with reading(self.engine) as connection:
            return self._get(connection, identifier, client)

    def _get(self, connection: Connection, identifier: str, client: str | None = None) -> Job:
        row = connection.execute(select(jobs).where(jobs.c.id == identifier)).first()
        if row is None or client not in (None, row.client):
            raise refuse_missing("job", identifier)
        return Job(**row._mapping)

    def find(
        self,
        client: str | None,
        states: Sequence[str] = (),
        before: int | None = None,
        most: int = 50,
    ) -> list[Job]:
        """The newest jobs first. client: whose; None: everyone's. before: a job's number."""
        query = select(jobs).order_by(jobs.c.number.desc()).limit(most)
        query = query if client is None else query.where(jobs.c.client == client)
        query = query.where(jobs.c.state.in_(states)) if states else query
        query = query if before is None else query.where(jobs.c.number < before)
        with reading(self.engine) as connection:
            return [Job(**row._mapping) for row in connection.execute(query)]

    def find_digest(self, client: str, digest: str) -> Job | None:
        """The client's job that asks for this and has not ended."""
        query = select(jobs).where(jobs.c.state.in_((QUEUED, RUNNING)))
        query = query.where(jobs.c.client == client, jobs.c.digest == digest).limit(1)
        with reading(self.engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else Job(**row._mapping)

    def count_ahead(self, job: Job) -> int:
        """How many jobs of the same client wait before this one, or are more urgent."""
        first = or_(
            jobs.c.priority > job.priority,
            (jobs.c.priority == job.priority) & (jobs.c.number < job.number),
        )
        query = select(func.count()).where(
            jobs.c.state == QUEUED, jobs.c.client == job.client, first
        )
        with reading(self.engine) as connection:
            return connection.scalar(query) or 0

    def cancel(self, identifier: str, client: str | None = None) -> Job:
        """Cancels a job that waits, or tells who draws it to stop. A job that has ended stays as
        it is. Raises Refusal where there is none."""
        with self.engine.begin() as connection:
            self._get(connection, identifier, client)
            this = jobs.c.id == identifier
            ended = {"state": CANCELLED, "finished": time.time()}
            connection.execute(update(jobs).where(this, jobs.c.state == QUEUED).values(ended))
            running = update(jobs).where(this, jobs.c.state == RUNNING)
            connection.execute(running.values(cancelled=True))
            return self._get(connection, identifier)

    def count_states(self) -> dict[str, int]:
        """State → number of jobs."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with reading(self.engine) as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return {state: found.get(state, 0) for state in STATES}

    # --- the side of who draws

    def claim(self, owner: str) -> Job | None:
        """The next job, now drawn by `owner`; None where no job waits.

        The most urgent one; among equals, the clients take turns: first the one that waits for
        its turn the longest."""
        with self.engine.begin() as connection:
            now = time.time()
            row = connection.execute(
                select(jobs.c.id, jobs.c.client)
                .join(clients, clients.c.name == jobs.c.client)
                .where(jobs.c.state == QUEUED, jobs.c.not_before <= now)
                .where(or_(jobs.c.deadline.is_(None), jobs.c.deadline > now))
                .order_by(jobs.c.priority.desc(), clients.c.served, jobs.c.number)
                .limit(1)
                .with_for_update(of=jobs, skip_locked=True)
            ).first()
            if row is None:
                return None
            # skip_locked may give a row that another one has just taken: the state is looked at
            taken = connection.execute(
                update(jobs)
                .where(jobs.c.id == row.id, jobs.c.state == QUEUED)
                .values(
                    state=RUNNING,
                    owner=owner,
                    lease=now + self.lease_seconds,
                    attempts=jobs.c.attempts + 1,
                    started=func.coalesce(jobs.c.started, now),
                    step=0,
                    total=0,
                )
            )
            if taken.rowcount != 1:
                return None
            latest = select(func.coalesce(func.max(clients.c.served), 0) + 1).scalar_subquery()
            connection.execute(
                update(clients).where(clients.c.name == row.client).values(served=latest)
            )
            return self._get(connection, row.id)

    def pulse(self, owner: str, progress: dict[str, tuple[int, int]]) -> Pulse:
        """Renews the leases of `owner`. progress: the jobs that it draws → (step, total)."""
        pulse = Pulse()
        with self.engine.begin() as connection:
            now = time.time()  # other writers may have been waited for
            for identifier, (step, total) in sorted(progress.items()):
                mine = (jobs.c.id == identifier) & (jobs.c.owner == owner)
                mine &= jobs.c.state == RUNNING
                renewed = connection.execute(
                    update(jobs)
                    .where(mine)
                    .values(lease=now + self.lease_seconds, step=step, total=total)
                )
                if renewed.rowcount != 1:
                    pulse.lost.add(identifier)
                    continue
                row = connection.execute(
                    select(jobs.c.cancelled, jobs.c.deadline).where(mine)
                ).one()
                if row.cancelled:
                    pulse.cancelled.add(identifier)
                elif row.deadline is not None and row.deadline <= now:
                    pulse.expired.add(identifier)
        return pulse

    def finish(
        self,
        job: Job,
        drawn: Sequence[dict[str, Any]],
        notes: Iterable[str] = (),
        steps: int = 0,
        answer: Any = None,
    ) -> str | None:
        """Ends a job with its pictures (rows of that table), after so many steps, or with its
        answer, where the kind gives one. Returns its state: done, or cancelled where that was asked
        for meanwhile; None where the job is not the caller's any more."""
        with self.engine.begin() as connection:
            row = self._lock(connection, job)
            if row is None:
                return None
            state = CANCELLED if row.cancelled else DONE
            self._end(connection, job, state, notes, None, steps)
            if state == DONE and answer is not None:
                text = json.dumps(answer)
                connection.execute(update(jobs).where(jobs.c.id == job.id).values(answer=text))
            if state == DONE and drawn:
                connection.execute(insert(pictures), list(drawn))
            return state

    def fail(
        self, job: Job, state: str, error: dict[str, Any] | None, notes: Iterable[str] = ()
    ) -> bool:
        """Ends a job without pictures. Returns whether it was the caller's still."""
        with self.engine.begin() as connection:
            mine = self._lock(connection, job) is not None
            if mine:
                self._end(connection, job, state, notes, error)
            return mine

    def retry(self, job: Job, error: dict[str, Any]) -> str | None:
        """Puts a job back after a fault of the program, or ends it after as many as may be.
        Returns its state; None where the job is not the caller's any more."""
        with self.engine.begin() as connection:
            row = self._lock(connection, job)
            if row is None:
                return None
            if row.cancelled or job.attempts >= self.limits.attempts:
                state = CANCELLED if row.cancelled else FAILED
                self._end(connection, job, state, (), error)
                return state
            later = time.time() + min(2.0 ** (job.attempts - 1), 60)
            values = NO_OWNER | {"state": QUEUED, "not_before": later}
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(values))
            return QUEUED

    def hand_back(self, owner: str) -> int:
        """Puts the jobs of `owner` back, as if it had not begun them: it ends. Returns how many."""
        values = NO_OWNER | {"state": QUEUED, "attempts": jobs.c.attempts - 1}
        mine = (jobs.c.owner == owner) & (jobs.c.state == RUNNING)
        with self.engine.begin() as connection:
            return connection.execute(update(jobs).where(mine).values(values)).rowcount

    def recover(self, everything: bool = False, alive: Collection[str] = ()) -> int:
        """Puts jobs back whose lease ran out, and ends what is past its deadline or was begun too
        often. everything: no one else draws, so no lease holds. alive: jobs that the caller draws
        itself, however late it renews their leases. Returns how many were put back."""
        now = time.time()
        dead = (jobs.c.state == RUNNING) & jobs.c.id.not_in(alive)
        dead = dead if everything else dead & (jobs.c.lease < now)
        gone = NO_OWNER | {"finished": now}
        often = {
            "type": "crash",
            "message": f"the server stopped {self.limits.attempts} times while it drew this job",
            "remedy": "look at the server's log; ask for fewer pixels",
        }
        late = {"type": "expired", "message": "the job's deadline passed", "remedy": ""}
        stopped, past = gone | {"state": CANCELLED}, jobs.c.deadline <= now
        failed = gone | {"state": FAILED, "error": json.dumps(often)}
        expired = gone | {"state": EXPIRED, "error": json.dumps(late)}
        with self.engine.begin() as connection:
            run = connection.execute
            run(update(jobs).where(dead, jobs.c.cancelled).values(stopped))
            run(update(jobs).where(dead | (jobs.c.state == QUEUED), past).values(expired))
            run(update(jobs).where(dead, jobs.c.attempts >= self.limits.attempts).values(failed))
            return run(update(jobs).where(dead).values(NO_OWNER | {"state": QUEUED})).rowcount

    def forget(self, before: float) -> int:
        """Removes the records of jobs that ended before a time. Their pictures stay."""
        old = jobs.c.state.in_(ENDED) & (jobs.c.finished < before)
        ended = select(jobs.c.id).where(jobs.c.state.in_(ENDED))
        with self.engine.begin() as connection:
            connection.execute(delete(job_inputs).where(job_inputs.c.job.in_(ended)))
            return connection.execute(delete(jobs).where(old)).rowcount

    def _lock(self, connection: Connection, job: Job) -> Any:
        """The job's row, held until the transaction ends; None where another one has it."""
        mine = (jobs.c.id == job.id) & (jobs.c.owner == job.owner) & (jobs.c.state == RUNNING)
        return connection.execute(select(jobs.c.cancelled).where(mine).with_for_update()).first()

    def _end(
        self,
        connection: Connection,
        job: Job,
        state: str,
        notes: Iterable[str],
        error: dict[str, Any] | None = None,
        steps: int = 0,
    ) -> None:
        now = time.time()
        values = NO_OWNER | {
            "state": state,
            "notes": json.dumps(list(notes)),
            "error": None if error is None else json.dumps(error),
            "finished": now,
        }
        if state == DONE:
            values |= {"step": steps, "total": steps}
            self.job_seconds += 0.1 * (now - (job.started or now) - self.job_seconds)
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(values))
