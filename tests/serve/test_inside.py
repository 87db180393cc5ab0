"""Looking inside a picture of the gallery: the bundled model behind the server, and refusals."""

import io
import json
import time

import numpy as np
import pytest
import torch
from fake_worker import FakeWorker
from PIL import Image
from test_native import submit, upload, wait

import fromnoise
from fromnoise.api import load
from fromnoise.errors import BadInput
from fromnoise.pipeline.inside.panels import compare, measure_apart
from fromnoise.serve.settings import Limits, Settings
from fromnoise.serve.store.traces import Traces
from fromnoise.serve.work.drawing import EngineWorker
from fromnoise.serve.work.tracing import remove_word

ASKED = {"prompt": "a red neon cat in space", "seed": 5, "steps": 4, "width": 64, "height": 64}


def open_trace(client, picture, seconds=60.0, headers=None, **asked):
    """(the path of a finished trace, what the server says of it)."""
    path = f"/api/pictures/{picture['id']}/inside"
    answer = client.post(path, json=asked, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    if answer.status_code == 202:
        job = wait(client, answer.json()["job"], seconds)
        assert (job["state"], job["kind"]) == ("done", "trace"), job
        assert job["pictures"] == []
        answer = client.post(path, json=asked, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["ready"]
    return answer.json()["path"], client.get(answer.json()["path"], headers=headers).json()


def read_png(client, path):
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as picture:
        picture.load()
        return picture


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    return EngineWorker(Settings(tmp_path_factory.mktemp("inside")))


def test_the_trace_is_the_picture_again_and_every_panel_has_data(make_server, worker):
    client = make_server(worker)
    done = wait(client, submit(client, **ASKED, count=2), 60)
    path, facts = open_trace(client, done["pictures"][1])
    assert (facts["same"], facts["levels"]) == (True, 0)
    assert [call["step"] for call in facts["calls"]] == [0, 1, 2, 3]
    words = [word["text"] for word in facts["words"]]
    assert words == ["<start>", "a", "red", "neon", "cat", "in", "space", "<end>"]

    engine = load()
    request = {**ASKED, "seed": 6}
    picture, trace = engine.trace(**request)
    image = read_png(client, facts["image"])
    assert image.tobytes() == picture.tobytes()
    call = trace.calls[0][2]
    assert call.uncond is not None  # guidance acts there
    assert facts["calls"][2]["sigma"] == call.sigma
    for of, value in (("x", call.x), ("cond", call.cond), ("eps", call.eps())):
        panel = client.get(f"{path}/latents?call=2&of={of}").json()
        assert panel["shape"] == [16, 8, 8]
        assert np.allclose(panel["values"], value.numpy(), atol=1e-6)
        assert facts["calls"][2]["rms"][of] == pytest.approx(float(value.square().mean().sqrt()))
    guided = client.get(f"{path}/latents?call=2&of=guided").json()["values"]
    assert np.allclose(guided, trace.steps[2].x0[0].numpy(), atol=1e-6)
    assert np.allclose(guided, torch.lerp(call.uncond, call.cond, 4.0).numpy(), atol=1e-5)

    cat = words.index("cat")
    panel = client.get(f"{path}/map?word={cat}&layer=0").json()
    one = trace.map("cat", steps=[2], layers=[facts["layers"][0]])
    assert np.allclose(panel["values"][2], one.numpy(), atol=1e-6)
    share = client.get(f"{path}/words").json()["rows"][cat]
    assert share[0] == "cat"
    means = [float(maps[list(call.words[cat].at)].sum(0).mean()) for maps in call.maps.values()]
    assert share[2 + 2] == pytest.approx(sum(means) / len(means), rel=1e-5)

    frame = read_png(client, f"{path}/frame/png?call=3&of=guided")
    assert frame.tobytes() == engine.pictures(trace.steps[3].x0)[0].tobytes()
    noisy = call.x / (1 + call.sigma**2) ** 0.5
    frame = read_png(client, f"{path}/frame/png?call=2&of=x")
    assert frame.tobytes() == engine.pictures(noisy[None])[0].tobytes()
    direction = (call.cond - call.uncond).square().mean(0).sqrt()
    panel = client.get(f"{path}/guidance?call=2").json()
    assert np.allclose(panel["values"][0], direction.numpy(), atol=1e-6)
    for name in ("sigmas", "norms", "guidance", "latents", "words", "map"):
        panel = client.get(f"{path}/{name}?call=2&of=cond&word={cat}").json()
        assert panel["rows"], name
        assert all(len(row) == len(panel["columns"]) for row in panel["rows"])
        read_png(client, f"{path}/{name}/png?call=2&of=cond&word={cat}")
        for place in panel["places"]:  # the line is that of the function, today
            text = (fromnoise_root() / place["file"]).read_text("utf-8").splitlines()
            near = " ".join(text[place["line"] - 1 : place["line"] + 1])
            assert place["name"].split(".")[-1] in near, place


def fromnoise_root():
    from pathlib import Path

    return Path(fromnoise.__file__).parent


def test_the_same_seed_without_a_word_and_with_other_settings(make_server, worker):
    client = make_server(worker)
    picture = wait(client, submit(client, **ASKED), 60)["pictures"][0]
    path, facts = open_trace(client, picture)
    assert facts["same_file"]
    _, other = open_trace(client, picture, without="cat")
    assert other["prompt"] == "a red neon in space"
    assert other["changed"]
    assert other["same"] is None
    assert other["trace"] != facts["trace"]
    alone = load().generate(**{**ASKED, "prompt": "a red neon in space"})
    assert read_png(client, other["image"]).tobytes() == alone.tobytes()
    found = client.get(f"{path}/difference?other={other['trace']}").json()
    first = found["rows"][0]
    assert first[found["columns"].index("x apart")] == 0  # the seed's noise is the same
    assert found["rows"][-1][found["columns"].index("x0 apart")] > 0.01
    assert "of 255 levels on average" in found["note"]
    assert found["shape"] == [1, 64, 64]
    read_png(client, f"{path}/difference/png?other={other['trace']}")
    of_a_call = client.get(f"{path}/difference?other={other['trace']}&call=1").json()
    assert of_a_call["values"] != found["values"]
    itself = client.get(f"{path}/difference?other={facts['trace']}").json()
    assert itself["note"].startswith("0.00 of 255")
    _, heun = open_trace(client, picture, changes={"sampler": "heun", "steps": 2, "cfg": 2})
    assert [(c["step"], c["stage"]) for c in heun["calls"]] == [(0, 0), (0, 1), (1, 0)]
    assert heun["settings"]["cfg"] == 2
    assert client.get(f"{path}/difference?other={heun['trace']}").status_code == 200


def test_edits_and_two_passes_are_traced(make_server, worker):
    client = make_server(worker)
    data = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(data, "PNG")
    image = upload(client, data.getvalue())["id"]
    edit = wait(client, submit(client, "edit", image=image, seed=3, steps=4, strength=0.6), 60)
    _, facts = open_trace(client, edit["pictures"][0])
    assert facts["same_file"]
    upscaled = wait(client, submit(client, "upscale", image=image, scale=2), 60)
    answer = client.post(f"/api/pictures/{upscaled['pictures'][0]['id']}/inside", json={})
    assert answer.status_code == 422
    assert "nothing to look into" in answer.json()["error"]["message"]
    hires = {"prompt": "a fish", "seed": 2, "steps": 2, "width": 64, "height": 64}
    done = wait(client, submit(client, "hires", **hires, hires_scale=1.5, hires_steps=2), 90)
    path, facts = open_trace(client, done["pictures"][0], 90)
    assert facts["same_file"]
    assert [call["step"] for call in facts["calls"]] == [0, 1, 2, 3]  # both passes, as one run
    shapes = [client.get(f"{path}/latents?call={i}").json()["shape"] for i in (1, 2)]
    assert shapes == [[16, 8, 8], [16, 12, 12]]
    assert client.get(f"{path}/map?word=2").json()["shape"][0] == 4


def test_a_trace_has_a_bound_and_says_so(make_server, worker):
    limits = Limits(trace_bytes=70_000)
    client = make_server(worker, limits=limits)
    picture = wait(client, submit(client, **ASKED), 60)["pictures"][0]
    path, facts = open_trace(client, picture)
    assert [call["kept"] for call in facts["calls"]] == [True, False, True, False]
    assert "bounded" in facts["notes"][0]
    assert facts["same_file"]
    answer = client.get(f"{path}/latents?call=1")
    assert answer.status_code == 422
    assert "choose one of 0, 2" in answer.json()["error"]["remedy"]
    file = next((client.server.settings.folder / "traces").glob("*/*.safetensors"))
    assert file.stat().st_size < 70_000 + 40_000  # the picture and the numbers beside


def test_traces_go_by_age_and_by_bytes(tmp_path):
    store = Traces(tmp_path, 3_000, 100.0)
    names = [f"{i:032x}" for i in range(4)]
    for name in names:
        store.add(name, {"n": name}, {"0.x": np.zeros(200, np.float32)}, b"png")
        time.sleep(0.02)
    assert [store.has(name) for name in names] == [False, False, True, True]
    assert store.open(names[3]).facts == {"n": names[3]}
    Traces(tmp_path, 10**9, 0.0).clean()
    assert not any(store.has(name) for name in names)


def test_refusals(make_server):
    client = make_server(FakeWorker(), limits=Limits(steps=40))
    client.server.tokens.add("ann", ("draw", "gallery"))
    ann, bob = (
        {"authorization": f"Bearer {client.server.tokens.add(name, ('draw', 'gallery'))}"}
        for name in ("eve", "bob")
    )
    job = client.post("/api/generate", json={"prompt": "a cat"}, headers=ann).json()
    while (found := client.get(f"/api/jobs/{job['id']}", headers=ann).json())["state"] != "done":
        time.sleep(0.01)
    picture = found["pictures"][0]
    base = f"/api/pictures/{picture['id']}/inside"
    asked = client.post(base, json={}, headers=ann).json()
    while client.post(base, json={}, headers=ann).status_code != 200:
        time.sleep(0.01)
    path = asked["path"]
    assert client.get(path, headers=ann).json()["same"]
    # another client sees nothing of it
    assert client.post(base, json={}, headers=bob).status_code == 404
    for tail in ("", "/image", "/norms", "/frame/png?call=0"):
        assert client.get(path + tail, headers=ann).status_code == 200, tail
        assert client.get(path + tail, headers=bob).status_code == 404, tail
    # nor does one trace stand for another picture's
    job = client.post("/api/generate", json={"prompt": "a dog"}, headers=bob).json()
    while (found := client.get(f"/api/jobs/{job['id']}", headers=bob).json())["state"] != "done":
        time.sleep(0.01)
    own = f"/api/pictures/{found['pictures'][0]['id']}/inside"
    assert client.get(f"{own}/{asked['trace']}", headers=bob).status_code == 404
    crossed = f"other_picture={picture['id']}&other={asked['trace']}"
    mine = client.post(own, json={}, headers=bob).json()
    while client.post(own, json={}, headers=bob).status_code != 200:
        time.sleep(0.01)
    assert client.get(f"{mine['path']}/difference?{crossed}", headers=bob).status_code == 404
    for body, status in (
        ({"without": "dog"}, 422),
        ({"without": ""}, 422),
        ({"changes": {"seed": 1}}, 422),
        ({"changes": {"steps": 100}}, 422),
        ({"changes": {"prompt": "x\ud800"}}, 400),
        ({"script": "x"}, 422),
    ):
        answer = client.post(base, content=json.dumps(body), headers=ann | JSON)
        assert answer.status_code == status, body
        assert answer.json()["error"]["remedy"]
    for tail in (
        "nothing",
        "map?word=99",
        "map?layer=9",
        "latents?call=7",
        "latents",
        "difference",
    ):
        answer = client.get(f"{path}/{tail}", headers=ann)
        assert answer.status_code == 422, tail
    assert client.get(f"{base}/{'0' * 32}", headers=ann).status_code == 404
    assert client.post(f"/api/pictures/{'0' * 32}/inside", json={}, headers=ann).status_code == 404


JSON = {"content-type": "application/json"}


def test_a_trace_is_a_job_that_can_be_cancelled(make_server):
    worker = FakeWorker()
    client = make_server(worker)
    picture = wait(client, submit(client))["pictures"][0]
    worker.held.clear()
    asked = client.post(f"/api/pictures/{picture['id']}/inside", json={})
    assert asked.status_code == 202
    again = client.post(f"/api/pictures/{picture['id']}/inside", json={}).json()
    assert again["job"]["id"] == asked.json()["job"]["id"]  # it is asked for once
    client.delete(f"/api/jobs/{asked.json()['job']['id']}")
    worker.held.set()
    assert wait(client, asked.json()["job"])["state"] == "cancelled"
    assert client.get(asked.json()["path"]).status_code == 404
    assert client.get(picture["file"]).status_code == 200


def test_a_word_leaves_the_prompt():
    assert remove_word("a red cat, in space", "red") == "a cat, in space"
    assert remove_word("a red cat, in space", "cat") == "a red, in space"
    assert remove_word("A Cat", "a") == "Cat"
    assert remove_word("a cat and a dog", "a", 1) == "a cat and dog"
    assert remove_word("a (neon:1.4) cat", "neon") == "a (:1.4) cat"
    assert remove_word("a cat, a dog", ",") == "a cat a dog"
    for word, which in (("ca", 0), ("cat", 1), (" ", 0)):
        with pytest.raises(BadInput):
            remove_word("a cat", word, which)


def test_apart_is_measured_as_vectors():
    a, b = np.array([3.0, 0.0]), np.array([0.0, 4.0])
    assert measure_apart(a, b) == [pytest.approx(12.5**0.5), pytest.approx(90.0)]
    assert measure_apart(a, None) == [None, None]
    with pytest.raises(BadInput):
        compare(*[None] * 3, Image.new("RGB", (8, 8)), Image.new("RGB", (8, 16)))
