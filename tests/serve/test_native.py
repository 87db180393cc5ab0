"""The native dialect on a fake worker: from a request to the pictures, and everything around."""

import base64
import io
import json
import threading
import time

import pytest
from fake_worker import FakeWorker
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import update

from fromnoise.serve.database.tables import jobs


def submit(client, kind="generate", headers=None, **values):
    words = {} if kind in ("upscale", "describe", "similarity", "film") else {"prompt": "a cat"}
    answer = client.post(f"/api/{kind}", json=words | values, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def wait(client, job, seconds=10.0):
    limit, found = time.monotonic() + seconds, None
    while time.monotonic() < limit:
        found = client.get(f"/api/jobs/{job['id']}").json()
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.01)
    raise AssertionError(f"the job has not ended: {found}")


def read_events(answer):
    events = []
    for block in answer.text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            events.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return events


def png(size=(16, 16), mode="RGB"):
    data = io.BytesIO()
    Image.new(mode, size, "red").save(data, "PNG")
    return data.getvalue()


def upload(client, data=None):
    answer = client.post("/api/uploads", files={"file": ("../../x.png", data or png())})
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("values", "message", "remedy"),
    [
        ({"steps": 0}, "cannot use steps = 0", "steps: input should be greater than or equal to 1"),
        (
            {"seed": "seven", "cfg": -1},
            "cannot use cfg = -1, seed = 'seven'",
            "cfg: input should be greater than or equal to 0; seed: input should be a valid "
            "integer, unable to parse string as an integer",
        ),
        ({"wonder": 5}, "cannot use wonder = 5", "wonder: extra inputs are not permitted"),
    ],
)
def test_a_bad_value_is_told_with_what_it_must_be(client, values, message, remedy):
    answer = client.post("/api/generate", json={"prompt": "a cat"} | values)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["message"], error["remedy"]) == (message, remedy)


def test_a_job_becomes_pictures_with_their_settings(client):
    answer = client.post("/api/generate", json={"prompt": "a cat", "count": 2, "steps": 3})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/jobs/{answer.json()['id']}"
    job = wait(client, answer.json())
    assert job["state"] == "done"
    assert (job["step"], job["total"]) == (3, 3)
    assert [p["index"] for p in job["pictures"]] == [0, 1]
    seed = job["settings"]["seed"]
    assert [p["seed"] for p in job["pictures"]] == [str(seed), str(seed + 1)]
    file = client.get(job["pictures"][0]["file"])
    assert file.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(file.content)) as picture:
        assert picture.info["parameters"].startswith("a cat\nSteps: 3")
    small = client.get(job["pictures"][0]["thumbnail"])
    assert small.headers["content-type"] == "image/webp"
    assert client.get(f"/api/pictures/{job['pictures'][0]['id']}").json() == job["pictures"][0]


def test_the_same_settings_are_the_same_file(client):
    first, second = (wait(client, submit(client, seed=7)) for _ in range(2))
    assert first["pictures"][0]["hash"] == second["pictures"][0]["hash"]
    assert first["pictures"][0]["id"] != second["pictures"][0]["id"]


def test_previews_are_made_for_who_looks(client):
    worker = client.server.worker
    job = client.post("/api/generate", json={"prompt": "a cat", "steps": 30}).json()
    limit = time.monotonic() + 10
    while client.get(f"/api/jobs/{job['id']}").json()["state"] != "done":
        assert time.monotonic() < limit
    assert worker.previews == 1  # the last one, so that nothing of the run is kept
    for _ in range(2):
        assert client.get(f"/api/jobs/{job['id']}/preview").status_code == 200
    assert worker.previews == 1


def test_each_picture_has_its_preview_once_it_has_begun():
    import torch

    from fromnoise.pipeline.generate import Step
    from fromnoise.pipeline.likeness import preview_pixels
    from fromnoise.serve.work.drawing import describe_step
    from fromnoise.serve.work.engines import Engine

    engine = Engine(None, None, preview_pixels)  # type: ignore[arg-type]
    x0 = torch.linspace(-1, 1, 4 * 3 * 2 * 2).reshape(4, 3, 2, 2)
    together = describe_step(engine, Step(0, 4, 1.0, x0, x0)).previews
    assert together
    assert len({picture.tobytes() for picture in together()}) == 4
    # samplers that draw one after the other give those that wait the first one's latents
    alone = describe_step(engine, Step(0, 4, 1.0, x0, x0[[0, 1, 0, 0]])).previews
    assert alone
    assert [picture.tobytes() for picture in alone()] == [
        picture.tobytes() for picture in together()[:2]
    ]


def test_events_tell_of_steps_previews_warnings_and_the_end(client):
    worker = client.server.worker
    worker.held.clear()
    job = submit(client, prompt="a noted cat", steps=3, count=3)
    threading.Timer(0.1, worker.held.set).start()
    answer = client.get(job["events"])
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = read_events(answer)
    names = [name for _, name, _ in events]
    assert names[-1] == "done"
    assert [n for n in names if n == "step"] == ["step"] * 3
    assert "warning" in names
    steps = [data for _, name, data in events if name == "step"]
    assert [s["step"] for s in steps] == [1, 2, 3]
    assert steps[-1]["seconds_left"] == 0
    heads, bodies = zip(*(url.split(",") for url in steps[-1]["previews"]), strict=True)
    assert heads == ("data:image/webp;base64",) * 3  # each picture has its own
    assert len(set(bodies)) == 3
    assert len(events[-1][2]["pictures"]) == 3
    for i, body in enumerate(bodies):
        answer = client.get(f"/api/jobs/{job['id']}/preview?picture={i}")
        assert answer.headers["content-type"] == "image/webp"
        assert base64.b64encode(answer.content).decode() == body
    assert client.get(f"/api/jobs/{job['id']}/preview?picture=3").status_code == 404
    # where a stream broke, it goes on
    at = next(i for i, (_, name, data) in enumerate(events) if data.get("step") == 2)
    again = client.get(job["events"], headers={"Last-Event-ID": events[at][0]})
    assert [e[:2] for e in read_events(again)] == [e[:2] for e in events[at + 1 :]]
    over = client.get(job["events"], headers={"Last-Event-ID": "end"})
    assert over.status_code == 204
    plain = read_events(client.get(f"{job['events']}?previews=false"))
    assert not any("previews" in data for _, _, data in plain)


def test_cancelling_ends_a_run_before_its_next_step(client):
    worker = client.server.worker
    worker.held.clear()
    running, waiting = submit(client, steps=50), submit(client, steps=50)
    while client.get(f"/api/jobs/{running['id']}").json()["state"] != "running":
        time.sleep(0.01)
    assert client.delete(f"/api/jobs/{waiting['id']}").json()["state"] == "cancelled"
    client.delete(f"/api/jobs/{running['id']}")
    worker.held.set()
    assert wait(client, running)["state"] == "cancelled"
    assert [c for c in worker.calls if isinstance(c, int)] == [0]  # the step that ran, no other
    assert wait(client, submit(client))["state"] == "done"  # the slot is free
    assert read_events(client.get(running["events"]))[-1][1] == "cancelled"


def test_a_key_makes_a_job_once(client_of_each):
    client = client_of_each
    headers = {"Idempotency-Key": "abc"}
    first, second = (submit(client, headers=headers) for _ in range(2))
    assert first["id"] == second["id"]
    other = client.post("/api/generate", json={"prompt": "a dog"}, headers=headers)
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "key_reused"


def test_errors_of_a_job_are_its_own(client):
    job = wait(client, submit(client, prompt="a broken model"))
    assert job["state"] == "failed"
    error = {"type": "BadInput", "message": "this model is broken", "remedy": "take another"}
    assert job["error"] == error
    assert wait(client, submit(client))["state"] == "done"


def test_a_fault_is_tried_again(make_server):
    worker = FakeWorker()
    worker.faults = 1
    client = make_server(worker)
    job = wait(client, submit(client, seed=3))
    assert (job["state"], job["attempts"]) == ("done", 2)


def test_deadlines(client):
    client.server.worker.held.clear()
    job = submit(client, deadline_seconds=0.2)
    time.sleep(0.3)
    client.server.runner._beat()
    client.server.worker.held.set()
    assert wait(client, job)["state"] == "expired"


def test_the_queue_refuses_at_its_depth(make_server):
    from fromnoise.serve.settings import Limits

    client = make_server(limits=Limits(depth_per_client=2))
    client.server.worker.held.clear()
    first = submit(client)
    while client.get(f"/api/jobs/{first['id']}").json()["state"] == "queued":
        time.sleep(0.01)
    submit(client)
    submit(client)
    answer = client.post("/api/generate", json={"prompt": "one more"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    client.server.worker.held.set()


def test_edits_and_masks_come_by_upload(client_of_each):
    client = client_of_each
    picture, mask = upload(client), upload(client, png(mode="L"))
    job = wait(client, submit(client, "edit", image=picture["id"], mask=mask["id"]))
    assert job["state"] == "done"
    parts = submit(client, prompt="a cat IMASK(sky)", masks={"sky": mask["id"]})
    assert wait(client, parts)["state"] == "done"
    assert client.get(f"/api/uploads/{picture['id']}").json()["width"] == 16
    kept = client.get(f"/api/uploads/{picture['id']}/file")
    assert kept.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(kept.content)).getpixel((3, 3)) == (255, 0, 0)
    assert client.delete(f"/api/uploads/{picture['id']}").status_code == 204
    assert client.get(f"/api/uploads/{picture['id']}/file").status_code == 404
    answer = client.post("/api/edit", json={"prompt": "x", "image": picture["id"]})
    assert answer.status_code == 404
    for bad in ("/etc/passwd", "../x", "", 3, None, "f" * 31):
        answer = client.post("/api/edit", json={"prompt": "x", "image": bad})
        assert answer.status_code == 422


def test_uploads_are_pictures_and_within_the_limits(make_server):
    from fromnoise.serve.settings import Limits

    client = make_server(limits=Limits(upload_bytes=5_000, upload_pixels=1_000))
    for data, status in ((b"no picture", 422), (png((40, 40)), 422), (bytes(6_000), 413)):
        answer = client.post("/api/uploads", files={"file": ("x.png", data)})
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["message"]


def test_what_there_is(client):
    models = client.get("/api/models").json()
    assert models[0]["name"] == "fromnoise"
    assert client.post("/api/models/load", json={"name": "other"}).status_code == 200
    assert client.post("/api/models/load", json={"name": "../../etc"}).status_code == 404
    listed = client.get("/api/samplers").json()
    assert "euler_a" in [s["name"] for s in listed["samplers"]]
    assert listed["spacings"]
    assert listed["upscalers"]
    health = client.get("/api/health").json()
    assert health["ready"]
    assert health["memory"] == {"models": 3, "budget": 9}
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").status_code == 200
    wait(client, submit(client, steps=4))
    figures = client.get("/metrics").text
    for line in (
        'fromnoise_jobs_ended_total{state="done"} 1.0',
        'fromnoise_jobs{state="queued"} 0',
        "fromnoise_step_seconds_count 4.0",
        "process_resident_memory_bytes",
        'route="/api/generate"',
    ):
        assert line in figures


def test_jobs_are_listed(client_of_each):
    client = client_of_each
    first, second = wait(client, submit(client)), wait(client, submit(client, prompt="broken"))
    listed = client.get("/api/jobs").json()
    assert [j["id"] for j in listed["jobs"]] == [second["id"], first["id"]]
    failed = client.get("/api/jobs", params={"state": "failed"}).json()["jobs"]
    assert [j["id"] for j in failed] == [second["id"]]
    page = client.get("/api/jobs", params={"limit": 1}).json()
    rest = client.get("/api/jobs", params={"before": page["before"]}).json()["jobs"]
    assert [j["id"] for j in rest] == [first["id"]]


def test_a_stopped_server_hands_its_job_back_and_the_next_one_draws_the_same(make_server):
    slow = make_server(FakeWorker(), drain_seconds=0.1)
    slow.server.worker.held.clear()
    job = submit(slow, steps=2)
    while slow.get(f"/api/jobs/{job['id']}").json()["state"] == "queued":
        time.sleep(0.01)
    threading.Timer(0.5, slow.server.worker.held.set).start()
    slow.server.stop()
    slow.server.stop = lambda: None
    client = make_server(FakeWorker())
    done = wait(client, job)
    assert (done["state"], done["attempts"]) == ("done", 1)
    assert done["settings"] == job["settings"]
    assert len(done["pictures"]) == 1


def test_two_servers_do_not_share_a_folder(client, make_server):
    from fromnoise.errors import BadInput

    with pytest.raises(BadInput, match="another server"):
        make_server()


def test_jobs_of_a_killed_server_are_taken_up(make_server):
    client = make_server()
    client.server.runner.drain(1)
    job = submit_without_drawing(client)
    with client.server.database.begin() as connection:
        values = {"state": "running", "owner": "dead", "lease": time.time() + 999, "attempts": 1}
        connection.execute(update(jobs).where(jobs.c.id == job).values(values))
    client.server.stop()
    client.server.stop = lambda: None
    again = make_server()
    assert wait(again, {"id": job})["attempts"] == 2


def submit_without_drawing(client):
    from fromnoise.serve.queue.jobs import Ticket

    ticket = Ticket("local", "native", "generate", "fromnoise", {"prompt": "x", "seed": 1})
    return client.server.queue.submit(ticket)[0].id


def test_a_picture_is_enlarged_and_keeps_its_settings(client):
    drawn = Image.new("RGB", (16, 8), "red")
    text, data = "a cat\nSteps: 3, Sampler: Euler, Seed: 5", io.BytesIO()
    info = PngInfo()
    info.add_text("parameters", text)
    drawn.save(data, "PNG", pnginfo=info)
    image = upload(client, data.getvalue())["id"]
    job = wait(client, submit(client, "upscale", image=image, scale=3))
    assert job["state"] == "done", job
    picture = job["pictures"][0]
    assert (picture["width"], picture["height"], picture["seed"]) == (48, 24, "5")
    assert picture["infotext"].startswith(text + ", Postprocess upscale by: 3")
    cut = wait(client, submit(client, "upscale", image=image, width=20, height=20, resize="crop"))
    assert (cut["pictures"][0]["width"], cut["pictures"][0]["height"]) == (20, 20)
    for values in (
        {"scale": 2, "width": 8},
        {"width": 9000},
        {"upscaler": "/etc/passwd"},
        {"scale": 64, "upscaler": "nearest", "image": image},
    ):
        bad = client.post("/api/upscale", json={"image": image} | values)
        limit = values.get("scale") == 64  # 1024 x 512 is fine
        assert bad.status_code == (202 if limit else 422), bad.text


def test_clip_answers_in_words_and_figures(client):
    image = upload(client)["id"]
    job = wait(client, submit(client, "describe", image=image))
    assert (job["state"], job["pictures"]) == ("done", [])
    assert job["answer"]["captions"][0]["caption"] == "a red square"
    job = wait(client, submit(client, "similarity", pictures=[image], texts=["a cat"]))
    assert job["answer"]["cosines"] == [[1.0]]
    for path, values in (
        ("describe", {"image": image, "source": "/etc"}),
        ("describe", {"image": "/etc/passwd"}),
        ("similarity", {"texts": ["one"]}),
        ("similarity", {"pictures": ["/etc/passwd", image]}),
    ):
        assert client.post(f"/api/{path}", json=values).status_code == 422


def test_a_film_has_a_limit_and_its_words_are_filtered(client):
    long = client.post("/api/film", json={"prompts": ["a", "b"], "frames": 241})
    assert long.status_code == 422
    assert "240" in long.json()["error"]["remedy"]
    client.server.content_filter = lambda words, picture: "no" if words and "bad" in words else ""
    refused = client.post("/api/film", json={"prompts": ["good", "bad"], "frames": 2})
    assert refused.json()["error"]["code"] == "filtered"


def test_a_film_is_drawn(client):
    job = wait(client, submit(client, "film", prompts=["a", "b"], frames=3, seed=1, steps=2))
    assert job["state"] == "done", job
    assert job["pictures"]
    assert {one["prompt"] for one in client.get("/api/gallery").json()["pictures"]} == {"a"}


def test_a_grid_is_checked_and_filtered_cell_by_cell(client):
    job = wait(client, submit(client, "grid", x="steps=1,2", y="prompt:cat=dog,fox", seed=1))
    assert job["state"] == "done", job
    client.server.content_filter = lambda words, picture: "no" if words and "bad" in words else ""
    refused = client.post("/api/grid", json={"prompt": "a cat", "x": "prompt:cat=dog,bad"})
    assert refused.json()["error"]["code"] == "filtered"


def test_a_wrong_method_is_told_all_right_ones(client):
    told = {
        ("PUT", "/api/session"): "DELETE, GET, POST",
        ("OPTIONS", "/api/boards"): "GET, POST",
        ("POST", f"/api/jobs/{'0' * 32}"): "DELETE, GET",
        ("GET", "/api/generate"): "POST",
        ("PUT", "/openapi.json"): "GET, HEAD",
    }
    for (method, path), allowed in told.items():
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert sorted(answer.headers["allow"].split(", ")) == allowed.split(", "), path


def test_numbers_are_no_answers_to_yes_or_no(client):
    assert client.post("/api/words", json={"text": "x", "negative": 0}).status_code == 422
    path = f"/api/pictures/{'0' * 32}"
    assert client.patch(path, json={"favourite": 1}).status_code == 422
