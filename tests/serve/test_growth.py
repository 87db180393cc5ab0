"""What a server keeps in its memory has a bound, whatever names come from outside."""

import asyncio

from fromnoise.serve.dialects.native import feed, jobs
from fromnoise.serve.safety import clients, tokens
from fromnoise.serve.safety.clients import Rates
from fromnoise.serve.safety.tokens import LOCAL
from fromnoise.serve.work.events import Fed


def count_series(client):
    return len([line for line in client.get("/metrics").text.splitlines() if line[0] != "#"])


def test_figures_have_no_names_from_outside(client):
    def ask(i):
        client.request(f"MADEUP{i}", "/api/jobs")
        client.get(f"/made/up/{i}")
        client.get(f"/api/jobs/{i:032x}")
        client.get("/healthz", headers={"host": f"made.up.{i}.example"})

    client.get("/metrics")
    ask(0)
    client.get("/metrics")
    before = count_series(client)
    for i in range(1, 10):
        ask(i)
    assert count_series(client) == before
    assert "MADEUP" not in client.get("/metrics").text


def test_rates_of_the_newest_clients_alone_are_kept(monkeypatch):
    monkeypatch.setattr(clients, "CLIENTS", 5)
    rates = Rates()
    for i in range(20):
        rates.take("one that comes again", 1000)
        rates.take(f"address {i}", 1000)
    assert len(rates.buckets) == 5
    assert "one that comes again" in rates.buckets


def test_answers_about_tokens_are_not_kept_for_ever(client, monkeypatch):
    monkeypatch.setattr(tokens, "KNOWN", 5)
    kept = client.server.tokens
    for i in range(20):
        secret = kept.add(f"name{i}", ["draw"])
        assert kept.find(secret)
        assert kept.find_name(f"name{i}")
        assert kept.find("no token") is None
        kept.remove(f"name{i}")
    assert 0 < len(kept.known) <= 5


def test_a_stream_forgets_whose_jobs_it_saw_long_ago(client, monkeypatch):
    monkeypatch.setattr(feed, "OWNED", 5)
    owned = {}

    async def tell():
        for i in range(20):
            fed = Fed(i, f"{i:032x}", None)
            told = await feed.tell(client.server, LOCAL, fed, False, jobs.show_job, owned)
            assert told is None

    asyncio.run(tell())
    assert [*owned] == [f"{i:032x}" for i in range(15, 20)]
