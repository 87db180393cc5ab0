"""From end to end: the bundled model behind the server draws what the command line draws."""

import io
import time
from dataclasses import asdict

import pytest
from PIL import Image

from fromnoise.api import load
from fromnoise.serve.settings import Settings
from fromnoise.serve.work.drawing import EngineWorker


def test_the_bundled_model_draws_the_same_as_alone_also_beside_others(make_server, folder):
    worker = EngineWorker(Settings(folder, slots=3))
    client = make_server(worker, slots=3)
    asked = [
        {"prompt": "a neon cat in space", "seed": 1, "steps": 4},
        {"prompt": "a red star AND a forest", "seed": 2, "steps": 3, "sampler": "euler_a"},
        {"prompt": "a fish", "seed": 3, "steps": 2, "sampler": "heun", "cfg": 1.0, "tiling": "x"},
    ]
    jobs = [client.post("/api/generate", json=values).json() for values in asked]
    engine, limit = load(), time.monotonic() + 120
    for values, job in zip(asked, jobs, strict=True):
        while (found := client.get(f"/api/jobs/{job['id']}").json())["state"] != "done":
            assert found["state"] in ("queued", "running"), found
            assert time.monotonic() < limit
            time.sleep(0.05)
        with Image.open(io.BytesIO(client.get(found["pictures"][0]["file"]).content)) as drawn:
            alone = engine.generate(**values)
            assert drawn.tobytes() == alone.tobytes()
            assert drawn.info["parameters"] == alone.info["parameters"]
    bad = client.post("/api/generate", json={"prompt": "x", "width": 100})
    assert bad.status_code == 422
    assert "multiple" in bad.json()["error"]["remedy"]
    first = client.get("/api/models").json()[0]
    assert first["loaded"]
    assert (first["side"], first["multiple"]) == (128, 16)
    # what CLIP sees of the first picture is what the library sees
    data = io.BytesIO()
    seen = engine.generate(**asked[0])
    seen.save(data, "PNG")
    image = client.post("/api/uploads", files={"file": data.getvalue()}).json()["id"]
    both = {"pictures": [image], "texts": ["a neon cat in space"]}
    for kind, values in (("describe", {"image": image, "top": 2}), ("similarity", both)):
        job = client.post(f"/api/{kind}", json=values).json()
        while (found := client.get(f"/api/jobs/{job['id']}").json())["state"] != "done":
            assert found["state"] in ("queued", "running"), found
            assert time.monotonic() < limit
            time.sleep(0.05)
        if kind == "describe":
            assert found["answer"]["captions"] == [asdict(d) for d in engine.describe(seen, top=2)]
        else:
            assert found["answer"]["kinds"] == ["picture", "words"]
            cosine = engine.similarity(seen, "a neon cat in space")
            assert found["answer"]["cosines"][0][1] == pytest.approx(cosine, abs=1e-6)
    # films and blends have the library's bits
    film = {"prompts": ["a red cat", "a blue fish"], "key_seeds": [1, 7], "frames": 3, "steps": 2}
    mix = {"prompt": "a dog", "weight": 0.25, "seed": 3, "steps": 2}
    asked_of = {"film": film, "blend": mix | {"first": image, "second": image}}
    alone_of = {"film": engine.film(**film), "blend": [engine.blend(seen, seen, **mix)]}
    for kind, values in asked_of.items():
        job = client.post(f"/api/{kind}", json=values).json()
        while (found := client.get(f"/api/jobs/{job['id']}").json())["state"] != "done":
            assert found["state"] in ("queued", "running"), found
            assert time.monotonic() < limit
            time.sleep(0.05)
        for picture, alone in zip(found["pictures"], alone_of[kind], strict=True):
            with Image.open(io.BytesIO(client.get(picture["file"]).content)) as drawn:
                assert drawn.tobytes() == alone.tobytes()
                assert drawn.info["parameters"] == alone.info["parameters"]
        seeds = [picture["seed"] for picture in found["pictures"]]
        assert seeds == {"film": ["1", "1", "7"], "blend": ["3"]}[kind]


def test_a_grid_has_a_sheet_and_the_cells_of_the_library(make_server, folder):
    client = make_server(EngineWorker(Settings(folder)))
    asked = {
        "prompt": "a red cat",
        "seed": 4,
        "steps": 2,
        "x": "prompt:cat=cat,fish",
        "y": "cfg=1,4",
    }
    job, limit = client.post("/api/grid", json=asked).json(), time.monotonic() + 120
    while (found := client.get(f"/api/jobs/{job['id']}").json())["state"] != "done":
        assert found["state"] in ("queued", "running"), found
        assert time.monotonic() < limit
        time.sleep(0.05)
    sheet, *cells = found["pictures"]
    assert "Script: X/Y/Z plot" in sheet["infotext"]
    assert sheet["width"] > 2 * cells[0]["width"]
    alone = load().generate("a red fish", seed=4, steps=2, cfg=4.0)
    with Image.open(io.BytesIO(client.get(cells[3]["file"]).content)) as drawn:
        assert drawn.tobytes() == alone.tobytes()
    assert [cell["seed"] for cell in cells] == ["4"] * 4
    assert found["step"] == found["total"] == 8
