"""The gallery of the native dialect, on both databases: searches, boards, thumbnails, sheets."""

import base64
import io
import json
import time
import zipfile

import pytest
from PIL import Image
from test_native import submit, wait


@pytest.fixture
def client(client_of_each):
    return client_of_each


def test_the_gallery(client):
    job = wait(client, submit(client, prompt="a neon cat", steps=2, count=3))
    dog = wait(client, submit(client, prompt="a 100% dog", steps=20))["pictures"][0]
    cats = [p["id"] for p in job["pictures"]]

    def find(**query):
        return [p["id"] for p in client.get("/api/pictures", params=query).json()["pictures"]]

    assert find() == [dog["id"], *reversed(cats)]
    assert find(search="NEON cat") == [*reversed(cats)]
    assert find(search="100% dog") == [dog["id"]]
    assert find(search="steps:20") == [dog["id"]]
    assert find(search="steps:2") == [*reversed(cats)]
    assert find(search="neon dog") == []
    page = client.get("/api/pictures", params={"limit": 3}).json()
    assert find(before=page["before"]) == [cats[0]]
    marked = client.patch(f"/api/pictures/{cats[1]}", json={"favourite": True})
    assert marked.json()["favourite"]
    assert find(favourite=True) == [cats[1]]
    board = client.post("/api/boards", json={"name": "cats"}).json()
    assert client.post("/api/boards", json={"name": "cats"}).status_code == 409
    for _ in range(2):
        assert client.put(f"/api/boards/{board['id']}/pictures/{cats[0]}").status_code == 204
    assert find(board=board["id"]) == [cats[0]]
    assert [b["name"] for b in client.get("/api/boards").json()] == ["cats"]
    answer = client.get("/api/export", params={"search": "neon"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        rows = json.loads(archive.read("settings.json"))
        assert sorted(r["id"] for r in rows) == sorted(cats)
        assert len(archive.namelist()) == 4
        assert archive.testzip() is None
    gone = client.delete(f"/api/pictures/{cats[0]}").json()
    assert gone["undo_until"] > time.time()
    assert cats[0] not in find()
    assert find(deleted=True) == [cats[0]]
    assert client.get(gone["file"]).status_code == 404
    assert client.post(f"/api/pictures/{cats[0]}/restore").json()["undo_until"] is None
    assert cats[0] in find()
    assert client.delete(f"/api/boards/{board['id']}").status_code == 204
    assert find(board=board["id"]) == []


def test_the_gallery_in_short_is_the_gallery(client):
    for i in range(3):
        job = client.post("/api/generate", json={"prompt": f"cat {i}", "steps": i + 1}).json()["id"]
        client.get(f"/api/jobs/{job}/events")
    whole = client.get("/api/pictures").json()["pictures"]
    short = client.get("/api/gallery").json()
    assert [one["id"] for one in short["pictures"]] == [one["id"] for one in whole]
    assert short["pictures"][0] == {
        "id": whole[0]["id"],
        "prompt": "cat 2",
        "favourite": False,
        "width": 32,
        "height": 32,
    }
    assert short["more"] is False
    client.patch(f"/api/pictures/{whole[1]['id']}", json={"favourite": True})
    for query in ("search=steps:2", "favourite=true"):
        found = client.get(f"/api/gallery?{query}").json()["pictures"]
        assert [one["prompt"] for one in found] == ["cat 1"], query
    client.delete(f"/api/pictures/{whole[1]['id']}")
    assert [p["prompt"] for p in client.get("/api/gallery?deleted=1").json()["pictures"]] == [
        "cat 1"
    ]


def test_many_thumbnails_with_one_request(client, monkeypatch):
    job = wait(client, submit(client, prompt="a cat", count=3))
    cats = [p["id"] for p in job["pictures"]]

    def ask(*identifiers):
        answer = client.get("/api/thumbnails", params={"of": ",".join(identifiers)})
        assert answer.status_code == 200, answer.text
        return answer.json()["thumbnails"]

    monkeypatch.setattr("fromnoise.serve.dialects.native.gallery.MAKING", -1.0)
    assert [*ask(*cats)] == cats[:1]  # the others are not made yet
    monkeypatch.undo()
    client.delete(f"/api/pictures/{cats[1]}")  # it can be brought back, and is shown until then
    client.server.files.remove("pictures", job["pictures"][2]["hash"])
    shown = ask(*cats, "0" * 32)
    assert [*shown] == [*cats, "0" * 32]
    assert [value is None for value in shown.values()] == [False, False, True, True]
    head, data = shown[cats[0]].split(",")
    assert head == "data:image/webp;base64"
    assert base64.b64decode(data) == client.get(job["pictures"][0]["thumbnail"]).content
    for bad in ("", "x", f"{cats[0]},", ",".join(["0" * 32] * 101)):
        assert client.get("/api/thumbnails", params={"of": bad}).status_code == 422


def test_what_was_deleted_goes_for_good_and_shared_files_stay(client):
    one, two = (wait(client, submit(client, seed=7))["pictures"][0] for _ in range(2))
    path = client.server.files.path("pictures", one["hash"])
    gallery = client.server.gallery
    client.delete(f"/api/pictures/{one['id']}")
    assert gallery.purge(time.time() + 1) == 1
    assert path.exists()  # the other one's still
    client.delete(f"/api/pictures/{two['id']}")
    assert gallery.purge(time.time() - 60) == 0
    assert gallery.purge(time.time() + 1) == 1
    assert not path.exists()
    assert client.post(f"/api/pictures/{one['id']}/restore").status_code == 404


def test_files_that_no_row_names_are_swept_after_a_while(client):
    import os

    used = wait(client, submit(client))["pictures"][0]["hash"]
    files, gallery = client.server.files, client.server.gallery
    orphan = files.add("pictures", b"left by a killed job")
    assert files.sweep("pictures", gallery.used) == 0
    for digest in (used, orphan):
        os.utime(files.path("pictures", digest), (1, 1))
    assert files.sweep("pictures", gallery.used) == 1
    assert files.path("pictures", used).exists()
    assert not files.path("pictures", orphan).exists()


def test_pictures_of_the_gallery_become_one_sheet(client):
    job = wait(client, submit(client, seed=7, count=4, steps=2))
    ids = [picture["id"] for picture in job["pictures"]]
    x = {"name": "steps", "values": "4,8", "labels": ["steps 4", "steps 8"]}
    y = {"name": "prompt:cat", "values": '"a cat, red",dog', "labels": ["a cat, red", "dog"]}
    answer = client.post("/api/sheet", json={"x": x, "y": y, "pictures": [*ids[:3], None]})
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as sheet:
        text, size, pixels = sheet.info["parameters"], sheet.size, sheet.convert("RGB")
    assert text.startswith(job["pictures"][0]["infotext"])
    assert text.endswith(
        'Script: X/Y/Z plot, X Type: steps, X Values: "4,8", Y Type: "prompt:cat", '
        'Y Values: "\\"a cat, red\\",dog"'
    )
    assert size[0] > 64
    colours = {pixels.getpixel((x, y)) for x in range(size[0]) for y in range(size[1])}
    for picture in job["pictures"][:3]:
        data = client.get(picture["file"]).content
        assert Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0)) in colours
    left_out = client.get(job["pictures"][3]["file"]).content
    assert Image.open(io.BytesIO(left_out)).convert("RGB").getpixel((0, 0)) not in colours


def test_what_makes_no_sheet_is_refused_with_a_reason(client):
    picture = wait(client, submit(client, steps=1))["pictures"][0]["id"]
    row = {"labels": ["a", "b"]}
    for values, status, word in (
        ({"x": row, "pictures": [picture]}, 422, "2 cells"),
        ({"x": row, "pictures": [None, None]}, 422, "no picture"),
        ({"pictures": ["0" * 32]}, 404, "no picture"),
        ({"pictures": ["../etc"]}, 422, "pictures"),
        ({"pictures": []}, 422, "pictures"),
        ({"pictures": [picture], "more": 1}, 422, "more"),
        ({"x": {"labels": ["x" * 2001]}, "pictures": [picture]}, 422, "labels"),
        ({"x": {"labels": ["x" * 2000] * 11}, "pictures": [picture] * 11}, 422, "labels"),
        ({"x": {"labels": []}, "pictures": []}, 422, "labels"),
    ):
        answer = client.post("/api/sheet", json=values)
        assert answer.status_code == status, answer.text
        assert word in answer.json()["error"]["message"]


def test_a_sheet_beyond_the_limit_is_refused_before_it_is_drawn(client):
    large = wait(client, submit(client, steps=1, width=2048, height=2048))["pictures"][0]["id"]
    asked = {"x": {"labels": ["a"] * 8}, "y": {"labels": ["b"] * 5}, "pictures": [large] * 40}
    answer = client.post("/api/sheet", json=asked)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert "pixels, more than it may" in error["message"]
    assert error["remedy"] == "ask for fewer or smaller cells, or shorter labels"


def test_a_client_has_a_limited_number_of_boards(client, monkeypatch):
    monkeypatch.setattr("fromnoise.serve.store.gallery.BOARDS", 2)
    made = [client.post("/api/boards", json={"name": name}) for name in ("one", "two", "three")]
    assert [answer.status_code for answer in made] == [201, 201, 409]
    assert made[2].json()["error"]["code"] == "too_many_boards"
    assert client.delete(f"/api/boards/{made[0].json()['id']}").status_code == 204
    assert client.post("/api/boards", json={"name": "three"}).status_code == 201
