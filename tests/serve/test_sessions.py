"""Signing in with a token: a cookie in its place, only for the server's own page, until the token
is removed."""

import json
import time

import pytest
from sqlalchemy import select

from fromnoise.serve.database.tables import ended_sessions
from fromnoise.serve.safety.sessions import COOKIE, SECONDS
from fromnoise.serve.safety.tokens import LOCAL
from fromnoise.serve.settings import Limits

OWN = {"origin": "http://127.0.0.1:8188", "sec-fetch-site": "same-origin"}
DENIED = 401


@pytest.fixture
def client(make_server):
    made = make_server(origins=("https://app.example",))
    made.secret = made.server.tokens.add("änn.b-c", ["draw", "gallery"])
    forget_answers(made)
    return made


def forget_answers(client):
    """As after some seconds: the database is asked again."""
    client.server.tokens.known.clear()
    client.server.tokens.counted = (0.0, False)


def sign_in(client, secret=None, **headers):
    body = {"token": secret or client.secret}
    return client.post("/api/session", json=body, headers=OWN | headers)


def read_audit(client):
    lines = (client.server.settings.folder / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_page_signs_in_and_out(client):
    shown = {"needed": True, "signed_in": False, "name": None, "scopes": []}
    assert client.get("/api/session").json() == shown
    assert client.get("/api/jobs").status_code == DENIED
    answer = sign_in(client)
    assert (answer.status_code, answer.content) == (204, b"")
    kept = answer.headers["set-cookie"]
    facts = {part.strip().lower() for part in kept.split(";")[1:]}
    assert facts == {"httponly", "samesite=strict", "path=/", f"max-age={SECONDS}"}
    assert client.secret not in kept
    assert answer.headers["cache-control"] == "no-store"
    shown = {"needed": True, "signed_in": True, "name": "änn.b-c", "scopes": ["draw", "gallery"]}
    assert client.get("/api/session").json() == shown
    assert client.get("/api/jobs").status_code == 200
    asked = client.post("/api/generate", json={"prompt": "a cat"}, headers=OWN)
    assert asked.status_code == 202
    job = asked.json()
    while (job := client.get(f"/api/jobs/{job['id']}").json())["state"] != "done":
        time.sleep(0.01)
    picture = job["pictures"][0]
    for path in (picture["thumbnail"], picture["file"], "/api/export", job["events"]):
        assert client.get(path, headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert client.get("/metrics").status_code == 403  # it may do what its token may
    gone = client.delete("/api/session", headers=OWN)
    assert gone.status_code == 204
    assert "max-age=0" in gone.headers["set-cookie"].lower()
    assert client.get("/api/jobs").status_code == DENIED


def test_the_token_also_comes_in_its_header(client):
    headers = OWN | {"authorization": f"Bearer {client.secret}"}
    assert client.post("/api/session", headers=headers).status_code == 204
    assert client.get("/api/jobs").status_code == 200
    assert client.get("/api/session", headers=headers).json()["signed_in"]
    wrong = {"authorization": "Bearer wrong"}  # which counts, whatever cookie comes beside it
    assert client.get("/api/jobs", headers=wrong).status_code == DENIED


def test_over_tls_the_cookie_never_travels_without_it(make_server):
    client = make_server(names=("pictures.example",))
    client.secret = client.server.tokens.add("ann", ["draw"])
    forget_answers(client)
    # a proxy adds TLS: the server sees http, and the page names its https
    far = {"host": "pictures.example", "origin": "https://pictures.example"}
    answer = sign_in(client, **far)
    assert answer.status_code == 204
    assert "; secure" in answer.headers["set-cookie"].lower()
    client.base_url = "https://127.0.0.1:8188"
    answer = sign_in(client, origin="https://127.0.0.1:8188")
    assert "; secure" in answer.headers["set-cookie"].lower()


FOREIGN = {
    "a page of another site": {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    "a page of another port": {"origin": "http://127.0.0.1:9999", "sec-fetch-site": "same-site"},
    "a page that hides its origin": {"origin": "null"},
    "a browser that says so": {"sec-fetch-site": "cross-site"},
    "a listed page": {"origin": "https://app.example", "sec-fetch-site": "cross-site"},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_pages_of_others_have_no_session(client, name):
    """They can neither sign somebody in or out, nor use a cookie that a browser would send."""
    headers = FOREIGN[name]
    body = {"token": client.secret}
    answer = client.post("/api/session", json=body, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "foreign_origin"
    assert "set-cookie" not in answer.headers
    assert client.delete("/api/session", headers=headers).status_code == 403
    assert sign_in(client).status_code == 204
    drawn = client.post("/api/generate", json={"prompt": "a cat"}, headers=headers)
    assert drawn.status_code in (401, 403)
    assert client.get("/api/jobs", headers=headers).status_code in (401, 403)
    assert client.server.queue.count_states()["queued"] == 0
    # the listed page still has its own way
    bearer = {"authorization": f"Bearer {client.secret}"}
    listed = client.get("/api/jobs", headers=FOREIGN["a listed page"] | bearer)
    assert listed.status_code == 200


def test_a_change_needs_the_page_to_be_named(client):
    """Browsers name the page with everything but GET: a request without is not the page's."""
    sign_in(client)
    assert client.post("/api/generate", json={"prompt": "a cat"}).status_code == DENIED
    assert client.get("/api/jobs", headers={"sec-fetch-site": "none"}).status_code == 200


def test_a_session_outlives_the_server_and_ends_with_its_token(make_server):
    first = make_server()
    first.secret = first.server.tokens.add("ann", ["draw"])
    forget_answers(first)
    sign_in(first)
    kept = first.cookies[COOKIE]
    assert first.secret not in kept
    first.__exit__(None, None, None)
    second = make_server()
    second.cookies[COOKIE] = kept
    assert second.get("/api/jobs").status_code == 200
    second.server.tokens.remove("ann")
    second.server.tokens.add("bob", ["draw"])
    forget_answers(second)
    assert second.get("/api/jobs").status_code == DENIED
    second.server.tokens.add("ann", ["draw"])  # of the same name: another token
    forget_answers(second)
    assert second.get("/api/jobs").status_code == DENIED
    seen = second.get("/api/session")
    assert seen.json()["signed_in"] is False
    assert "max-age=0" in seen.headers["set-cookie"].lower()
    denied = [line for line in read_audit(second) if line["action"] == "denied"]
    assert [line["path"] for line in denied] == ["/api/jobs", "/api/jobs", "/api/session"]


def test_sessions_that_were_not_signed_here_are_refused(client, monkeypatch):
    sign_in(client)
    name, until, salt, mac = client.cookies[COOKIE].split(".")
    other = client.server.tokens.add("bob", ["draw", "admin"])
    forged = [f"{b'bob'.hex()}.{until}.{salt}.{mac}", f"{name}.{int(until) + 1}.{salt}.{mac}"]
    forged += ["", ".", "x" * 999, f"{name}.{until}.{'0' * 16}.{mac}", f"{name}.{until}.{mac}"]
    forged += [f"{name}.{until}.{salt}.{mac[::-1]}", f"ff.{until}.{salt}.{mac}"]
    forged += [f"{name}.{until}.{salt}", other]
    client.cookies.clear()

    def ask(value):
        return client.get("/api/jobs", headers={"cookie": f"{COOKIE}={value}"}).status_code

    for value in forged:
        assert ask(value) == DENIED, value
    assert ask(f"{name}.{until}.{salt}.{mac}") == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + SECONDS + 1)
    assert ask(f"{name}.{until}.{salt}.{mac}") == DENIED


def make_signed(client):
    """A client that has a token, and whose server wants one to the end."""
    client.secret = client.server.tokens.add("ann", ["draw"])
    client.server.tokens.add("bob", ["draw"])
    forget_answers(client)
    return client


def test_a_session_that_was_signed_out_works_no_more_wherever_its_cookie_lies(client_of_each):
    client = make_signed(client_of_each)
    sign_in(client)
    kept = client.cookies[COOKIE]
    client.cookies.clear()
    sign_in(client)  # in another browser, in the same second
    other = client.cookies[COOKIE]
    assert client.delete("/api/session", headers=OWN).status_code == 204
    last = read_audit(client)[-1]
    assert (last["action"], last["client"]) == ("sign out", "ann")
    for value, status in ((other, DENIED), (kept, 200)):
        client.cookies.clear()
        headers = {"cookie": f"{COOKIE}={value}"}
        assert client.get("/api/jobs", headers=headers).status_code == status


def test_what_is_kept_of_ended_sessions_goes_with_their_time(client_of_each, monkeypatch):
    client = make_signed(client_of_each)
    sessions = client.server.clients.sessions

    def count():
        with client.server.database.connect() as connection:
            return len(connection.execute(select(ended_sessions)).all())

    value = ""
    for _ in range(2):
        sign_in(client)
        value = client.cookies[COOKIE]
        client.delete("/api/session", headers=OWN)
    assert count() == 2
    client.delete("/api/session", headers=OWN)  # without a session
    client.delete("/api/session", headers=OWN | {"cookie": f"{COOKIE}=aa.{2**33}.{'0' * 81}"})
    with monkeypatch.context() as patch:  # as when two requests end it at once
        patch.setattr(sessions, "read", lambda value: LOCAL)
        sessions.end(value)
    assert count() == 2
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + SECONDS + 1)
    sign_in(client)
    client.delete("/api/session", headers=OWN)
    assert count() == 1


def test_wrong_tokens_are_counted_and_written_down(client, still_clock):
    codes = [sign_in(client, f"wrong {i}").status_code for i in range(20)]
    for _ in range(20):
        codes.append(client.get("/api/jobs", headers={"authorization": "Bearer no"}).status_code)
        codes.append(client.get("/api/session", headers={"authorization": "Bearer x"}).status_code)
    assert set(codes) == {401, 200}
    codes = [sign_in(client, "wrong").status_code for _ in range(5)]
    assert codes[-1] == 429  # one bucket for all ways
    denied = [line for line in read_audit(client) if line["action"] == "denied"]
    assert {line["path"] for line in denied} == {"/api/session", "/api/jobs"}
    assert len(denied) == 60
    assert sign_in(client).status_code == 204
    whole = json.dumps(read_audit(client))
    assert "sign in" in whole
    assert client.secret not in whole


def test_visitors_have_a_rate_of_their_own(make_server, still_clock):
    client = make_server(limits=Limits(requests_per_minute=5))
    client.server.tokens.add("ann", ["draw"])
    forget_answers(client)
    codes = [client.get("/api/session").status_code for _ in range(7)]
    assert codes == [200] * 5 + [429] * 2


def test_bodies_that_are_no_token(client):
    for body in ({"token": ""}, {"token": 1}, {"token": "x" * 401}, {"other": "x"}, ["x"]):
        answer = client.post("/api/session", json=body, headers=OWN)
        assert answer.status_code == 422, body
    assert client.post("/api/session", headers=OWN).status_code == DENIED
    form = client.post("/api/session", data={"token": client.secret}, headers=OWN)
    assert form.status_code == 422


def test_a_server_without_tokens_asks_for_none(make_server):
    client = make_server()
    scopes = ["draw", "gallery", "admin"]
    shown = {"needed": False, "signed_in": False, "name": None, "scopes": scopes}
    assert client.get("/api/session").json() == shown
    answer = client.post("/api/session", json={"token": "any"}, headers=OWN)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "no_token_needed"
