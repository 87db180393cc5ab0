"""No answer names a folder of the machine, wherever the operator's own model lies."""

import io
import json
import re
import shutil
import time
import zipfile
from pathlib import Path

import fakes
import pytest
from PIL import Image

from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.serve.settings import Settings
from fromnoise.serve.work.drawing import EngineWorker

PLACE = "a hidden place"
STREAMS = {"/api/events"}  # which never end by themselves
DRAW = {"prompt": "a cat", "steps": 1, "seed": 1}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folders of a model and of a torn one, where names have spaces."""
    place = tmp_path_factory.mktemp("secret") / PLACE
    made = fakes.model(place / "words", steps=1, cfg=3.0)
    diffusers_folder_save.save(made, place / "my model")
    shutil.copytree(place / "my model", place / "torn one")
    (place / "torn one" / "unet" / "config.json").write_text("{")
    return place


def unpack(answer):
    """All bytes that an answer tells."""
    data = answer.content
    if data[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            data = b"".join([file.read(name) for name in file.namelist()])
    return repr(sorted(answer.headers.items())).encode() + data


def wait_for(client, job):
    limit = time.monotonic() + 60
    while (found := client.get(f"/api/jobs/{job['id']}").json())["finished"] is None:
        assert time.monotonic() < limit
        time.sleep(0.02)
    return found


def send_posts(client):
    """The answers to the usual requests; the last one is that of the native API."""
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 10, 10)).save(data, "PNG")
    upload = client.post("/api/uploads", files={"file": data.getvalue()})
    yield upload
    yield client.post("/api/settings", files={"file": data.getvalue()})
    for path, values in (
        ("/v1/images/generations", {"prompt": "a cat", "steps": 1, "response_format": "url"}),
        ("/v1/images/generations", {"prompt": "a cat", "steps": 1, "stream": True}),
        ("/v1/images/generations", {"prompt": "a cat", "model": "none"}),
        ("/sdapi/v1/txt2img", {"prompt": "a cat", "steps": 1}),
        ("/sdapi/v1/reload-checkpoint", None),
        ("/sdapi/v1/options", {"sd_model_checkpoint": "none"}),
        ("/api/words", {"text": "a cat"}),
        ("/api/expand", {"prompt": "a cat"}),
        ("/api/models/load", {"name": client.server.settings.model_name}),
        ("/api/models/load", {"name": client.server.settings.model}),
        ("/api/edit", DRAW | {"image": upload.json()["id"]}),
        ("/api/describe", {"image": upload.json()["id"]}),
        ("/api/generate", DRAW | {"model": "none"}),
        ("/api/generate", DRAW),
    ):
        yield client.post(path, json=values)


@pytest.mark.parametrize("name", ["my model", "torn one"])
def test_no_answer_names_a_folder(written, make_server, folder, monkeypatch, name):
    monkeypatch.setenv("HOME", str(folder))
    worker = EngineWorker(Settings(folder, model=str(written / name)))
    client = make_server(worker, model=str(written / name))
    hidden = [PLACE, str(written.parent), written.parent.name]

    def check(asked, answer):
        data = unpack(answer)
        for word in hidden:
            assert word.encode() not in data, (asked, word, data[:2000])

    answers = list(send_posts(client))
    job = wait_for(client, answers[-1].json())
    assert job["state"] == ("done" if name == "my model" else "failed")
    assert job["model"] == name
    known = {"/jobs/": job["id"], "/uploads/": answers[0].json()["id"]}
    if job["pictures"]:
        picture = known["/pictures/"] = job["pictures"][0]["id"]
        assert "Model: my model" in job["pictures"][0]["infotext"]
        traced = client.post(f"/api/pictures/{picture}/inside", json={})
        assert wait_for(client, traced.json()["job"])["state"] == "done"
        answers.append(traced)
        known["/inside/"] = traced.json()["trace"]
    for answer in answers:
        check(answer.request.url, answer)

    def fill(path, field):
        for prefix, identifier in known.items():
            if field == prefix or f"{prefix}{{{field}}}" in path:
                return identifier
        return "0" if field in ("call", "step") else "0" * 32

    tried = 0
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        if "get" not in methods or path in STREAMS:
            continue
        full = re.sub(r"{(\w+)}", lambda found, path=path: fill(path, found[1]), path)
        check(full, client.get(full))
        tried += 1
    assert tried > 40
    models = client.get("/api/models").json()
    assert models[0]["name"] == name
    assert models[0]["bytes"] > 0
    listed = client.get("/sdapi/v1/sd-models").json()[0]
    assert listed["filename"] == listed["title"] == name
    assert client.get("/v1/models").json()["data"][0]["id"] == name
    for line in (folder / "data" / "audit.jsonl").read_text().splitlines():
        assert json.loads(line)["action"]


def test_a_name_is_no_path(tmp_path, monkeypatch):
    """What the operator says of the server's own model, and what HTTP calls it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for said, name in (
        ("fromnoise", "fromnoise"),
        ("owner/name", "owner/name"),
        ("diffusers/one", "diffusers/one"),
        ("/srv/models/one.safetensors", "one.safetensors"),
        ("~/one.ckpt", "one.ckpt"),
        ("./here", "here"),
        (str(tmp_path), tmp_path.name),
        ("/srv/fromnoise", "fromnoise (own)"),  # not the bundled one
    ):
        assert Settings(Path("data"), model=said).model_name == name
