"""The queue, on both databases: states, leases, turns, keys, limits; and that its tables are those
of the migrations."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, update

from fromnoise.errors import BadInput
from fromnoise.serve.database.opening import migrate, open_database
from fromnoise.serve.database.tables import jobs, metadata, pictures
from fromnoise.serve.queue.jobs import Queue, Ticket
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.settings import Limits, Settings


@pytest.fixture
def queue(database):
    return Queue(database, Settings(Path("."), limits=Limits(depth=8, depth_per_client=5)))


def ticket(client="ann", **more):
    return Ticket(client, "native", "generate", "fromnoise", {"prompt": "a cat"}, **more)


def picture(job, index=0):
    return {
        "id": f"{job.id[:30]}{index:02}",
        "client": job.client,
        "job": job.id,
        "index": index,
        "hash": "0" * 64,
        "width": 8,
        "height": 8,
        "bytes": 9,
        "seed": "1",
        "model": job.model,
        "settings": "{}",
        "infotext": "",
        "words": "",
        "favourite": False,
        "created": 0.0,
    }


def count_pictures(queue):
    with queue.engine.begin() as connection:
        return len(connection.execute(select(pictures.c.id)).all())


def test_tables_are_those_of_the_migrations(database):
    migrate(database)  # a second time changes nothing
    with database.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []


def test_a_job_goes_from_queued_to_done_with_its_pictures(queue):
    job, new = queue.submit(ticket())
    assert new
    assert job.state == "queued"
    assert queue.get(job.id, "ann") == job
    held = queue.claim("a")
    assert (held.id, held.state, held.attempts) == (job.id, "running", 1)
    assert queue.claim("b") is None
    assert queue.finish(held, [picture(held)], ["a note"]) == "done"
    ended = queue.get(job.id)
    assert ended.state == "done"
    assert ended.notes == '["a note"]'
    assert ended.owner is None
    assert count_pictures(queue) == 1
    assert queue.count_states()["done"] == 1


def test_another_clients_job_looks_as_if_it_were_not_there(queue):
    job, _ = queue.submit(ticket())
    for call in (queue.get, queue.cancel):
        with pytest.raises(Refusal, match="no job"):
            call(job.id, "bob")
    assert queue.find("bob") == []
    assert [j.id for j in queue.find(None)] == [job.id]


def test_clients_take_turns_and_urgent_jobs_come_first(queue):
    for client in ("ann", "ann", "ann", "bob", "bob", "cid"):
        queue.submit(ticket(client))
    queue.submit(ticket("bob", priority=1))
    order = [queue.claim("a").client for _ in range(7)]
    assert order == ["bob", "ann", "cid", "bob", "ann", "bob", "ann"]


def test_a_full_queue_refuses_and_says_when_to_come_back(queue):
    for _ in range(5):
        queue.submit(ticket())
    with pytest.raises(Refusal, match="5 jobs of yours") as refused:
        queue.submit(ticket())
    assert refused.value.status == 429
    assert refused.value.retry_after >= 1
    for _ in range(3):
        queue.submit(ticket("bob"))
    with pytest.raises(Refusal, match="8 jobs wait"):
        queue.submit(ticket("cid"))


def test_the_depth_holds_when_all_come_at_once(queue):
    outcomes = []

    def submit(client):
        try:
            outcomes.append(queue.submit(ticket(client))[1])
        except Refusal:
            outcomes.append(False)

    threads = [threading.Thread(target=submit, args=(f"c{i}",)) for i in range(20)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sum(outcomes) == 8


def test_a_key_gives_the_same_job_once_and_for_ever(queue):
    first, new = queue.submit(ticket(key="k", digest="x"))
    again, repeated = queue.submit(ticket(key="k", digest="x"))
    assert new
    assert not repeated
    assert again.id == first.id
    with pytest.raises(Refusal, match="another request") as refused:
        queue.submit(ticket(key="k", digest="y"))
    assert refused.value.status == 409
    assert queue.submit(ticket("bob", key="k", digest="y"))[1]  # keys are each client's own
    outcomes = []
    threads = [
        threading.Thread(
            target=lambda: outcomes.append(queue.submit(ticket("cid", key="z", digest="x"))[0].id)
        )
        for _ in range(8)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(set(outcomes)) == 1
    assert len(outcomes) == 8


def test_a_lease_that_ran_out_gives_the_job_to_another_and_the_first_changes_nothing(queue):
    queue.submit(ticket())
    slow = queue.claim("slow")
    assert queue.recover() == 0  # the lease holds
    with queue.engine.begin() as connection:
        connection.execute(update(jobs).values(lease=time.time() - 1))
    assert queue.recover() == 1
    quick = queue.claim("quick")
    assert quick.attempts == 2
    assert queue.pulse("slow", {slow.id: (1, 9)}).lost == {slow.id}
    assert queue.finish(slow, [picture(slow)]) is None
    assert not queue.fail(slow, "failed", {})
    assert queue.retry(slow, {}) is None
    assert queue.finish(quick, [picture(quick)]) == "done"
    assert queue.finish(quick, [picture(quick)]) is None  # a second end is none
    assert count_pictures(queue) == 1


def test_a_sign_of_life_renews_the_lease_and_tells_of_cancelling_and_deadlines(queue):
    queue.submit(ticket())
    queue.submit(ticket(seconds=60.0))
    one, two = queue.claim("a"), queue.claim("a")
    assert queue.pulse("a", {one.id: (3, 20), two.id: (0, 20)}).cancelled == set()
    seen = queue.get(one.id)
    assert (seen.step, seen.total) == (3, 20)
    assert seen.lease > one.lease
    assert queue.cancel(one.id, "ann").cancelled
    with queue.engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == two.id).values(deadline=1.0))
    pulse = queue.pulse("a", {one.id: (4, 20), two.id: (1, 20)})
    assert pulse.cancelled == {one.id}
    assert pulse.expired == {two.id}
    assert queue.finish(one, [picture(one)]) == "cancelled"  # what is cancelled is never done
    assert count_pictures(queue) == 0


def test_cancelling(queue):
    job, _ = queue.submit(ticket())
    assert queue.cancel(job.id).state == "cancelled"
    assert queue.claim("a") is None
    assert queue.cancel(job.id).state == "cancelled"  # again: nothing changes
    done, _ = queue.submit(ticket())
    queue.finish(queue.claim("a"), [])
    assert queue.cancel(done.id).state == "done"


def test_deadlines_end_jobs_that_wait(queue):
    job, _ = queue.submit(ticket(seconds=-1.0))
    assert queue.claim("a") is None
    queue.recover()
    assert queue.get(job.id).state == "expired"


def test_faults_are_tried_again_later_and_not_for_ever(queue):
    queue.limits = replace(queue.limits, attempts=2)
    job, _ = queue.submit(ticket())
    assert queue.retry(queue.claim("a"), {"message": "oh"}) == "queued"
    assert queue.claim("a") is None  # not yet
    with queue.engine.begin() as connection:
        connection.execute(update(jobs).values(not_before=0.0))
    assert queue.retry(queue.claim("a"), {"message": "oh"}) == "failed"
    assert queue.get(job.id).error == '{"message": "oh"}'


def test_a_job_that_kills_every_server_is_given_up(queue):
    queue.limits = replace(queue.limits, attempts=2)
    job, _ = queue.submit(ticket())
    for _ in range(2):
        assert queue.claim("a")
        queue.recover(everything=True)
    assert queue.claim("a") is None
    assert "stopped 2 times" in queue.get(job.id).error


def test_a_server_that_is_late_does_not_take_its_own_jobs_from_itself(queue):
    """On a machine with much to do a lease may run out before it is renewed."""
    job, _ = queue.submit(ticket())
    queue.lease_seconds = -1.0
    held = queue.claim("a")
    assert queue.recover(alive=[job.id]) == 0
    queue.lease_seconds = 30.0
    queue.pulse("a", {job.id: (1, 2)})
    assert queue.recover() == 0
    assert queue.finish(held, [picture(held)]) == "done"


def test_a_server_that_ends_hands_its_jobs_back(queue):
    job, _ = queue.submit(ticket())
    queue.claim("a")
    assert queue.hand_back("b") == 0
    assert queue.hand_back("a") == 1
    assert (queue.get(job.id).state, queue.get(job.id).attempts) == ("queued", 0)


def test_many_claim_at_once_and_each_job_is_drawn_once(queue):
    queue.limits = Limits()
    for i in range(24):
        queue.submit(ticket(f"c{i % 3}"))
    held = []

    def work(owner):
        misses = 0
        while misses < 3:
            job = queue.claim(owner)
            if job is None:
                misses += 1
                continue
            held.append(job.id)
            queue.finish(job, [picture(job)])

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(held) == len(set(held)) == 24
    assert count_pictures(queue) == 24


def test_old_records_go_and_their_pictures_stay(queue):
    job, _ = queue.submit(ticket(inputs=("f" * 64,)))
    queue.finish(queue.claim("a"), [picture(job)])
    assert queue.forget(time.time() + 1) == 1
    assert queue.find(None) == []
    assert count_pictures(queue) == 1


@pytest.mark.parametrize(
    "bad", ["", "nothing", "mysql://x/y", "postgresql://u:secret@127.0.0.1:1/none"]
)
def test_a_database_that_cannot_be_opened_is_a_clear_error(bad):
    with pytest.raises(BadInput) as error:
        open_database(bad)
    assert "secret" not in str(error.value)
