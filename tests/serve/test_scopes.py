"""What a token of one scope may do: all that its scope says, also with what it drew itself."""

import time

import pytest

ALL = ["draw", "gallery", "admin"]
OWN = {"origin": "http://127.0.0.1:8188", "sec-fetch-site": "same-origin"}


@pytest.fixture
def client(client_of_each):
    return client_of_each


def make_asker(client, name, scopes):
    """`ask(method, path)` → the status of the answer to a new token."""
    headers = {"authorization": f"Bearer {client.server.tokens.add(name, scopes)}"}
    client.server.tokens.counted = (0.0, False)

    def ask(method, path, **more):
        return client.request(method, path, headers=headers, **more)

    return ask


def draw(ask):
    job = ask("POST", "/api/generate", json={"prompt": "a cat"}).json()
    while (job := ask("GET", f"/api/jobs/{job['id']}").json())["state"] != "done":
        time.sleep(0.005)
    return job


def list_ways(picture):
    """name → a request with a picture."""
    path = f"/api/pictures/{picture['id']}"
    sheet = {"json": {"pictures": [picture["id"]]}}
    return {
        "its job": ("GET", f"/api/jobs/{picture['job']}", {}),
        "its settings": ("GET", path, {}),
        "its file": ("GET", picture["file"], {}),
        "in small": ("GET", picture["thumbnail"], {}),
        "on a sheet": ("POST", "/api/sheet", sheet),
        "find": ("GET", "/api/pictures", {}),
        "list": ("GET", "/api/gallery", {}),
        "many": ("GET", f"/api/thumbnails?of={picture['id']}", {}),
        "boards": ("GET", "/api/boards", {}),
        "export": ("GET", "/api/export", {}),
        "mark": ("PATCH", path, {"json": {"favourite": True}}),
        "delete": ("DELETE", path, {}),
        "restore": ("POST", f"{path}/restore", {}),
        "draw": ("POST", "/api/generate", {"json": {"prompt": "a cat"}}),
        "jobs": ("GET", "/api/jobs", {}),
        "models": ("GET", "/api/models", {}),
        "cancel": ("DELETE", f"/api/jobs/{picture['job']}", {}),
        "inside": ("POST", f"{path}/inside", {"json": {}}),
        "load": ("POST", "/api/models/load", {"json": {"name": "fromnoise"}}),
    }


LOOKING = {"its job", "its settings", "its file", "in small", "on a sheet"}
SORTING = {"find", "list", "many", "boards", "export", "mark", "delete", "restore"}
DRAWING = {"draw", "jobs", "models", "cancel", "inside"}
MAY = {
    "draw": LOOKING | DRAWING,
    "gallery": LOOKING | SORTING,
    "admin": {"load"},
}


@pytest.mark.parametrize("scope", MAY)
def test_a_token_of_one_scope(client, scope):
    ask = make_asker(client, "whole", ALL)
    picture = draw(ask)["pictures"][0]
    limited = make_asker(client, "limited", [scope])
    # the pictures are its own: as if its token had once had all scopes
    with client.server.database.begin() as connection:
        for table in ("jobs", "pictures"):
            connection.exec_driver_sql(f"UPDATE {table} SET client = 'limited'")
    codes = {
        name: limited(method, path, **more).status_code
        for name, (method, path, more) in list_ways(picture).items()
    }
    assert {name for name, code in codes.items() if code < 400} == MAY[scope], codes
    assert {code for code in codes.values() if code >= 400} == {403}


def test_a_token_that_draws_sees_its_own_pictures_alone(client):
    ann, bob = make_asker(client, "ann", ["draw"]), make_asker(client, "bob", ["draw"])
    ways = list_ways(draw(ann)["pictures"][0])
    for name in LOOKING:
        method, path, more = ways[name]
        assert ann(method, path, **more).status_code == 200, name
        assert bob(method, path, **more).status_code == 404, name


def test_a_refusal_names_every_scope_that_would_do(client):
    make_asker(client, "ann", ALL)
    ask = make_asker(client, "bob", ["admin"])
    told = ask("GET", f"/api/jobs/{'0' * 32}").json()["error"]["message"]
    assert told == "this token may not do that: it lacks 'draw' or 'gallery'"


def test_a_page_learns_its_scopes(client):
    assert client.get("/api/session").json()["scopes"] == ALL  # no token is needed
    secret = client.server.tokens.add("ann", ["gallery", "draw"])
    client.server.tokens.counted = (0.0, False)
    assert client.get("/api/session").json()["scopes"] == []
    assert client.post("/api/session", json={"token": secret}, headers=OWN).status_code == 204
    assert client.get("/api/session").json()["scopes"] == ["draw", "gallery"]
