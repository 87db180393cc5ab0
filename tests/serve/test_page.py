"""What the studio's page asks of the server: its own files, one stream for all jobs, and help."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fromnoise.pipeline.request import GenerationRequest
from fromnoise.serve import page
from fromnoise.serve.command import make_settings, make_studio_settings
from fromnoise.serve.work.events import FED, Hub
from fromnoise.serve.work.words import read_words

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model():
    from fromnoise.checkpoints.hub import load_parts

    return load_parts(None)


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    (folder / "assets").mkdir(parents=True)
    for name in ("index.html", "studio.html", "assets/a-1.js", "404.html"):
        (folder / name).write_text(name)
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setattr(page.add_page, "__defaults__", (folder,))
    return folder


def test_the_page_is_sent_with_its_policy_and_nothing_else_is(site, make_server):
    client = make_server(page=True)
    answer = client.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/studio.html")
    answer = client.get("/studio.html")
    assert answer.text == "studio.html"
    assert answer.headers["content-security-policy"] == page.STRICT
    assert "unsafe" not in page.STRICT
    assert answer.headers["server-timing"] == "fromnoise"
    same = client.get("/studio.html", headers={"if-none-match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert "immutable" in client.get("/assets/a-1.js").headers["cache-control"]
    for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/assets/../../secret.txt", "/assets"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert "secret" not in answer.text
    assert client.get("/api/nothing").json()["error"]["code"] == "not_found"
    assert client.post("/studio.html").status_code == 405


def test_without_the_page_there_are_no_files(make_server):
    assert make_server().get("/studio.html").status_code == 404


def test_serve_with_its_page_has_room_for_a_gallery():
    plain, paged = (make_settings(8, folder=Path("x"), page=page) for page in (False, True))
    assert not plain.page
    assert paged.page
    assert paged.limits.requests_per_minute == 10 * plain.limits.requests_per_minute


def test_the_page_can_be_read_without_a_token_and_the_api_cannot(site, make_server):
    client = make_server(page=True)
    client.server.tokens.add("ann", ["draw"])
    client.server.tokens.counted = (0.0, False)
    assert client.get("/studio.html").status_code == 200
    assert client.get("/api/jobs").status_code == 401


def test_the_policy_of_the_built_page_is_that_of_the_server():
    source = (ROOT / "studio/build/studio.ts").read_text()
    rules = re.findall(r'"([a-z-]+ [^"]+)"', source.split("STUDIO_POLICY")[1].split("]")[0])
    assert [*rules, "frame-ancestors 'none'"] == page.STRICT.split("; ")


def test_a_studio_is_for_this_machine_alone(tmp_path):
    settings = make_studio_settings(folder=tmp_path)
    assert settings.is_local
    assert settings.page


def read_events(text):
    """[(event, data, id), …] of a stream."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"]), lines.get("id")))
    return found


def listen(client, last=None):
    """The feed until the server ends."""
    headers = {"last-event-id": last} if last else {}
    return read_events(client.get("/api/events", headers=headers).text)


def test_one_stream_tells_of_all_jobs_and_goes_on_where_it_broke(make_server):
    client = make_server()
    name = client.server.hub.name
    jobs = [client.post("/api/generate", json={"prompt": f"cat {i}"}).json()["id"] for i in (0, 1)]
    for job in jobs:
        client.get(f"/api/jobs/{job}/events")  # until it has ended
    client.server.runner.ended.set()  # so that the stream ends
    assert [event for event, *_ in listen(client)] == ["reset"]
    client.server.runner.ended.clear()
    client.server.runner.ended.is_set = iter([False, True]).__next__
    events = listen(client, f"{name}-0")
    assert "reset" not in [event for event, *_ in events]
    for job in jobs:
        own = [e for e in events if job in (e[1].get("id"), e[1].get("job"))]
        assert [event for event, *_ in own] == ["job"] * 2 + ["step"] * 4 + ["job"]
        assert own[-1][1]["state"] == "done"
        assert len(own[-1][1]["pictures"]) == 1
    serials = [int(identifier.split("-")[1]) for *_, identifier in events]
    assert serials == sorted(serials)
    client.server.runner.ended.is_set = iter([False, True]).__next__
    assert listen(client, f"{name}-{serials[4]}") == events[5:]


def test_the_feed_knows_only_its_own_serials():
    hub = Hub()
    for i in range(FED + 10):
        hub.announce(f"{i}")
    assert hub.find_serial(f"{hub.name}-{FED + 10}") == FED + 10
    assert hub.find_serial(f"{hub.name}-10") == 10
    assert len(hub.fed_after(10)) == FED
    for unknown in (f"{hub.name}-9", f"{hub.name}-{FED + 11}", "other-20", f"{hub.name}-x", ""):
        assert hub.find_serial(unknown) is None


def test_the_feed_tells_nobody_of_jobs_of_others(make_server):
    client = make_server()
    client.server.tokens.counted = (0.0, False)
    ann, bob = (client.server.tokens.add(name, ["draw", "gallery"]) for name in ("ann", "bob"))
    client.server.tokens.counted = (0.0, False)
    headers = {"authorization": f"Bearer {ann}"}
    job = client.post("/api/generate", json={"prompt": "cat"}, headers=headers).json()["id"]
    client.get(f"/api/jobs/{job}/events", headers=headers)
    last = {"last-event-id": f"{client.server.hub.name}-0"}
    for token, heard in ((ann, True), (bob, False)):
        client.server.runner.ended.is_set = iter([False, True]).__next__
        text = client.get("/api/events", headers=last | {"authorization": f"Bearer {token}"}).text
        assert bool(read_events(text)) is heard


def show(text, spans):
    return [text[span.start : span.end] for span in spans]


def test_words_are_counted_and_marked(model):
    text = "a (neon:1.3) cat, a zyxxy <lora:dog:0.5> \\(dog\\)"
    found = read_words(model, text, "a1111", False)
    plain = model.tokenizer.encode_words("a neon cat, a zyxxy  (dog)")
    assert (found.tokens, found.blocks, found.borders) == (len(plain), 1, [])
    assert show(text, found.weights) == ["neon"]
    assert found.weights[0].weight == 1.3
    assert show(text, found.unknown) == ["zyxxy"]
    assert found.networks == ["lora: dog"]
    for negative, blocks in ((False, 2), (True, 1)):
        assert read_words(model, "a cat AND a dog", "a1111", negative).blocks == blocks


def test_the_borders_of_blocks_are_where_words_begin(model):
    text = " ".join(["cat"] * (2 * model.tokenizer.max_length))
    found = read_words(model, text, "a1111", False)
    room = model.tokenizer.max_length - 2
    assert found.borders == [4 * room * i for i in range(1, found.blocks)]
    text = "a cat BREAK a dog"
    found = read_words(model, text, "a1111", False)
    assert (found.blocks, text[found.borders[0] :]) == (2, "a dog")


@pytest.mark.parametrize("text", ["", "((", "[a:b", "a:1.3)", "<lora:", "\\", "é 🦊 (ß:1.2)", "]["])
def test_broken_syntax_is_words(model, text):
    for dialect in ("a1111", "comfy"):
        found = read_words(model, text, dialect, False)
        for span in (*found.weights, *found.unknown):
            assert 0 <= span.start < span.end <= len(text)


def test_words_and_defaults_over_http(make_server, model):
    client = make_server()
    answer = client.post("/api/words", json={"text": "a cat"})
    assert answer.json()["loaded"] is False  # the fake worker holds no model
    client.server.worker.peek = lambda name: model
    assert client.post("/api/words", json={"text": "a cat"}).json()["tokens"] == 2
    assert client.post("/api/words", json={"text": "a", "model": "x"}).status_code == 404
    defaults = client.get("/api/defaults").json()
    whole = GenerationRequest().resolve(model)
    for name in ("sampler", "spacing", "steps", "cfg", "width", "height"):
        assert defaults[name] == getattr(whole, name)
    assert defaults["presets"]["fast"]["steps"] == 8


def save(path, key, text):
    info = PngInfo()
    info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path.read_bytes()


def test_the_settings_of_a_foreign_picture(tmp_path, make_server):
    client = make_server()
    data = save(
        tmp_path / "a.png",
        "parameters",
        "a cat\nNegative prompt: dog\nSteps: 12, Sampler: Euler a, CFG scale: 4, "
        f"Seed: {2**60 + 1}, Size: 64x64, Wonder: 3",
    )
    answer = client.post("/api/settings", files={"file": data})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["maker"], found["kind"]) == ("a1111", "generate")
    settings = found["settings"]
    assert (settings["prompt"], settings["negative_prompt"]) == ("a cat", "dog")
    assert (settings["steps"], settings["seed"]) == (12, str(2**60 + 1))
    assert "Wonder" in found["unused"]
    # and a job can be made of them
    assert client.post("/api/generate", json=settings).status_code == 202
    plain = save(tmp_path / "b.png", "Title", "nothing")
    for bad in (plain, b"no picture"):
        answer = client.post("/api/settings", files={"file": bad})
        assert answer.status_code == 422
        assert answer.json()["error"]["remedy"]


def test_a_second_pass_of_a_foreign_picture(tmp_path, make_server):
    client = make_server()

    def read(fields: str) -> dict:
        data = save(
            tmp_path / "a.png",
            "parameters",
            f"a cat\nSteps: 2, Sampler: Euler a, CFG scale: 4, Seed: 1, Size: 64x64, {fields}",
        )
        return client.post("/api/settings", files={"file": data}).json()

    found = read(
        "Denoising strength: 0.4, Hires upscale: 2, Hires upscaler: Latent, Hires steps: 3, "
        "Hires sampler: DPM++ 2M, Hires schedule type: SGM Uniform, Hires CFG Scale: 3"
    )
    assert found["kind"] == "hires"
    own = {name: value for name, value in found["settings"].items() if name.startswith("hires_")}
    assert own == {
        "hires_strength": 0.4,
        "hires_scale": 2.0,
        "hires_upscaler": "Latent",
        "hires_steps": 3,
        "hires_sampler": "dpmpp_2m",
        "hires_spacing": "sgm_uniform",
        "hires_cfg": 3.0,
    }
    assert not [name for name in found["unused"] if name.startswith(("Hires", "Denoising"))]
    assert client.post("/api/hires", json=found["settings"]).status_code == 202

    found = read("Denoising strength: 0.4, Hires resize: 96x0, Hires upscaler: 4x-Their_ESRGAN")
    assert found["settings"]["hires_width"] == 96
    assert "hires_upscaler" not in found["settings"]
    assert found["unused"]["Hires upscaler"].startswith("4x-Their_ESRGAN (")
    assert found["unused"].keys() & {"Denoising strength", "Hires resize"} == set()
    assert client.post("/api/hires", json=found["settings"]).status_code == 202

    found = read("Denoising strength: 40, Hires upscale: 2, Hires sampler: Theirs, Hires steps: -1")
    assert found["settings"].keys() & {"hires_strength", "hires_sampler", "hires_steps"} == set()
    assert {"Denoising strength", "Hires sampler", "Hires steps"} <= found["unused"].keys()
    assert client.post("/api/hires", json=found["settings"]).status_code == 202


def test_add_ons_are_listed_by_kind(tmp_path, make_server, monkeypatch):
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/glow.safetensors").write_bytes(b"x" * 9)
    monkeypatch.setenv("FROMNOISE_MODELS", str(tmp_path))
    found = [one for one in make_server().get("/api/addons").json() if "glow" in one["name"]]
    about = {"name": "loras/glow.safetensors", "kind": "lora", "bytes": 9, "program": "fromnoise"}
    assert found == [about | {"thumbnail": None}]
