"""A request that lasts ends when its client is no longer known: no stream outlives its token."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_worker import FakeWorker

from fromnoise.serve.safety import gate, tokens
from fromnoise.serve.safety.gate import Gate
from fromnoise.serve.safety.sessions import SECONDS

OWN = {"origin": "http://127.0.0.1:8188", "sec-fetch-site": "same-origin"}
IMAGES = "/v1/images/generations"
PATIENCE = 20  # seconds for what takes a tenth of one


@pytest.fixture
def client(make_server, monkeypatch):
    """A server that looks often, whose jobs wait before their first step."""
    monkeypatch.setattr(gate, "LOOK", 0.05)
    monkeypatch.setattr(tokens, "FRESH", 0.05)
    made = make_server(FakeWorker())
    made.server.worker.held.clear()
    yield made
    made.server.worker.held.set()


@pytest.fixture
def ann(client):
    return {"authorization": f"Bearer {client.server.tokens.add('ann', ['draw', 'gallery'])}"}


def wait_for(what):
    until = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.005)
    return found


def submit(client, headers):
    wait_for(lambda: client.get("/api/jobs", headers=headers).status_code == 200)
    return client.post("/api/generate", json={"prompt": "a cat"}, headers=headers).json()["id"]


def listen(client, ask, change):
    """The answer to a request that lasts, after `change` has ended its permission."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        try:
            wait_for(lambda: client.server.streams)
            change()
            return answer.result(PATIENCE)
        finally:
            client.server.runner.ended.set()  # else a stream that is not cut holds the test
            client.server.worker.held.set()
            client.server.hub.wake()


STREAMS = {
    "all jobs": lambda client, headers: client.get("/api/events", headers=headers),
    "one job": lambda client, headers: client.get(
        f"/api/jobs/{submit(client, headers)}/events", headers=headers
    ),
    "OpenAI's": lambda client, headers: client.post(
        IMAGES, json={"prompt": "a cat", "stream": True}, headers=headers
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_ends_with_its_token(client, ann, name):
    server = client.server
    answer = listen(client, lambda: STREAMS[name](client, ann), lambda: server.tokens.remove("ann"))
    assert answer.status_code == 200
    assert "event: done" not in answer.text
    assert "completed" not in answer.text
    assert wait_for(lambda: not server.streams)


def sign_in(client, ann):
    secret = ann["authorization"].split()[1]
    wait_for(lambda: client.get("/api/session").json()["needed"])
    assert client.post("/api/session", json={"token": secret}, headers=OWN).status_code == 204


def sign_out(client):
    # from another tab: its answer takes the cookie out of this browser too
    assert client.delete("/api/session", headers=OWN).status_code == 204


def expire(client, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + SECONDS + 1)


ENDS = {
    "its token is removed": lambda client, patch: client.server.tokens.remove("ann"),
    "somebody signs out": lambda client, patch: sign_out(client),
    "it is over": expire,
}


@pytest.mark.parametrize("name", ENDS)
def test_a_stream_ends_with_its_session(client, ann, monkeypatch, name):
    client.server.tokens.add("bob", ["draw"])  # so that a token is needed to the end
    sign_in(client, ann)
    page = {"sec-fetch-site": "same-origin"}
    answer = listen(
        client,
        lambda: client.get("/api/events", headers=page),
        lambda: ENDS[name](client, monkeypatch),
    )
    assert answer.status_code == 200


def test_on_this_machine_a_stream_ends_when_the_first_token_is_made(client):
    answer = listen(
        client,
        lambda: client.get("/api/events"),
        lambda: client.server.tokens.add("ann", ["draw"]),
    )
    assert answer.status_code == 200


def test_who_waits_for_pictures_is_told_that_its_token_is_gone(client, ann):
    server = client.server

    def remove():
        wait_for(lambda: server.worker.calls)
        server.tokens.remove("ann")

    server.tokens.add("bob", ["draw"])
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, IMAGES, json={"prompt": "a cat"}, headers=ann)
        remove()
        try:
            answer = answer.result(PATIENCE)
        finally:
            server.worker.held.set()
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def run_gate(client, headers, kind, change):
    """What a gate sends of an endless answer of that kind, in front of an application that knows
    nothing of tokens. change: is called when the first piece was sent, and for each later one."""
    sent, ended = [], []

    async def endless(scope, receive, send):
        head = [(b"content-type", kind.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0.01)
        finally:
            ended.append(True)

    async def receive():
        await asyncio.sleep(PATIENCE)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if message.get("body"):
            change(len(sent))

    server = client.server
    whole = Gate(
        endless,
        server.settings,
        server.clients,
        server.metrics,
        lambda path: 0,
        lambda path, refusal: {},
        lambda path: False,
    )
    given = {"host": "127.0.0.1:8188"} | headers
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/api/any",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        "client": ("here", 1),
    }
    asyncio.run(asyncio.wait_for(whole(scope, receive, send), PATIENCE))
    assert ended
    return sent


@pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-8", "application/zip"])
def test_every_answer_is_cut_whatever_sends_it(client, ann, kind):
    server, looks = client.server, []
    find = server.clients.find

    async def count(request):
        looks.append(request)
        return await find(request)

    server.clients.find = count

    def change(pieces):
        if len(looks) == 4:  # a client that is known is looked up again and again, and heard out
            server.tokens.remove("ann")
            looks.append(None)

    wait_for(lambda: client.get("/api/jobs").status_code == 401)
    sent = run_gate(client, ann, kind, change)
    assert len([look for look in looks if look]) >= 4
    # a stream may end at any event; of a file nobody shall take a part for the whole
    assert sent[-1].get("more_body", False) is (kind == "application/zip")


def test_where_the_database_does_not_answer_a_stream_ends(client, ann):
    server = client.server
    find = server.clients.find
    wait_for(lambda: client.get("/api/jobs").status_code == 401)

    def change(pieces):
        server.clients.find = fail

    async def fail(request):
        raise RuntimeError("no database")

    sent = run_gate(client, ann, "text/event-stream", change)
    server.clients.find = find
    assert sent[-1].get("more_body", False) is False


def test_the_bound():
    """A look, and an answer of the database that was fresh at the look before."""
    assert gate.LOOK + tokens.FRESH <= 10
