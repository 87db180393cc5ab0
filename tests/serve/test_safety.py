"""What a server refuses, and that it says why: hostile requests, foreign pages, missing tokens."""

import io
import json
import re
import socket
import struct
import threading
import time
import zlib
from pathlib import Path

import pytest
from fake_worker import FakeWorker
from PIL import Image

from fromnoise.errors import BadInput
from fromnoise.serve.app import make_app
from fromnoise.serve.running import Uvicorn, make_protocol, refuse_open_door
from fromnoise.serve.safety.folders import hide_folders
from fromnoise.serve.server import Server
from fromnoise.serve.settings import Limits, Settings
from fromnoise.serve.work.kinds import KINDS, derive_fields, has_path, list_models
from fromnoise.serve.work.worker import build_task

ID = "0" * 32
JSON = {"content-type": "application/json"}


def bomb():
    """A PNG file of a few kilobytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def generate(**values):
    return ("POST", "/api/generate", {"json": {"prompt": "a cat"} | values})


def post(content, headers=JSON):
    return ("POST", "/api/generate", {"content": content, "headers": headers})


def get(path, **headers):
    return ("GET", path, {"headers": headers})


def file(data, name="x.png"):
    return ("POST", "/api/uploads", {"files": {"file": (name, data)}})


def image(**values):
    return ("POST", "/v1/images/generations", {"json": {"prompt": "a cat"} | values})


def edit(path="edits", files=(), **values):
    """A form. files: (name, bytes) of its files."""
    parts = [(name, ("x.png", data) if data is not None else (None, "1")) for name, data in files]
    parts += [(name, (None, value)) for name, value in {"prompt": "a cat", **values}.items()]
    return ("POST", f"/v1/images/{path}", {"files": parts})


def link(name):
    return ("GET", f"/v1/images/files/{name}", {})


HOSTILE = {
    # values
    "a negative seed": generate(seed=-1),
    "a seed of 65 bits": generate(seed=2**64),
    "a seed of words": generate(seed="one"),
    "NaN as a size": post('{"prompt": "x", "width": NaN}'),
    "infinity as a scale": post('{"prompt": "x", "cfg": -Infinity}'),
    "NaN in words": generate(cfg="nan"),
    "a size below nothing": generate(width=-8),
    "too many pixels": generate(width=8192, height=8192),
    "too many steps": generate(steps=1000),
    "too many pictures": generate(count=1000),
    "a size that is a list": generate(width=[64]),
    "a prompt that is a table": generate(prompt={"a": 1}),
    "a prompt that is too long": generate(prompt="x" * 20_001),
    "half a letter": post('{"prompt": "\\ud800"}'),
    "a NUL in a prompt": post('{"prompt": "a\\u0000b"}'),
    "a field that nobody knows": generate(script="rm -rf"),
    "the server's own limit": generate(max_cost=1e9),
    "a sampler that nobody knows": generate(sampler="../../x"),
    "a priority beyond all": generate(priority=10**9),
    "a deadline that has passed": generate(deadline_seconds=-1),
    "a model by its path": generate(model="/etc/passwd"),
    "a model by an address": generate(model="http://169.254.169.254/latest/meta-data"),
    # files and paths
    "a mask by its path": generate(masks={"a": "/etc/passwd"}),
    "a LoRA by its path": generate(addons={"loras": [{"name": "x", "file": "/etc/passwd"}]}),
    "an add-on that nobody knows": generate(addons={"scripts": ["x"]}),
    "an upscaler by its path": ("POST", "/api/hires", {"json": {"hires_upscaler": "/etc/x.pth"}}),
    "an image by an address": ("POST", "/api/edit", {"json": {"image": "http://127.0.0.1:1/"}}),
    "an axis of paths": ("POST", "/api/grid", {"json": {"prompt": "x", "x": "masks=/etc/passwd"}}),
    "an axis of files": ("POST", "/api/grid", {"json": {"prompt": "x", "x": "addons=/etc/passwd"}}),
    "a grid that is huge": ("POST", "/api/grid", {"json": {"prompt": "x", "x": "seed=1-9999"}}),
    "steps beyond the limit in an axis": ("POST", "/api/grid", {"json": {"x": "steps=4,999"}}),
    "a blend by a path": ("POST", "/api/blend", {"json": {"first": "/etc/passwd", "second": ID}}),
    "an image by data": ("POST", "/api/edit", {"json": {"image": "data:image/png;base64,AA"}}),
    "a depth map by its path": ("POST", "/api/edit", {"json": {"image": ID, "depth_map": "../x"}}),
    "an id with a way up": ("GET", "/api/pictures/..%2f..%2fetc%2fpasswd/file", {}),
    "an id that is none": ("GET", "/api/jobs/%00", {}),
    "a decompression bomb": file(bomb()),
    "a picture that is none": file(b"<svg onload=alert(1)>", "x.svg"),
    "a picture of nothing": file(b""),
    "a picture that is cut off": file(bomb()[:60]),
    "a form without a file": ("POST", "/api/uploads", {"data": {"file": "x"}}),
    # bodies
    "JSON that is nested": post("[" * 100_000),
    "JSON that is huge": post('{"prompt": "' + "x" * 2_000_000 + '"}'),
    "JSON that is broken": post('{"prompt": '),
    "a number without an end": post('{"seed": ' + "9" * 5_000 + "}"),
    "no JSON": post(b"\xff\xfe"),
    "JSON as plain text": post("{}", {"content-type": "text/plain"}),
    "a packed body": post(zlib.compress(b"{}"), JSON | {"content-encoding": "gzip"}),
    "a form without its boundary": post("x", {"content-type": "multipart/form-data"}),
    # headers and methods
    "a host of somebody else": get("/api/jobs", host="evil.example"),
    "a host that is broken": get("/api/jobs", host="a@127.0.0.1"),
    "a page of somebody else": get("/api/jobs", origin="https://evil.example"),
    "a page without an origin": get("/api/jobs", origin="null"),
    "a length that is none": post("", JSON | {"content-length": "-5"}),
    "a key that is none": post("{}", JSON | {"idempotency-key": "a b"}),
    "headers that are too large": get("/api/jobs", x="y" * 40_000),
    "a method that nobody knows": ("BREW", "/api/jobs", {}),
    "a search that is too long": get("/api/pictures?search=" + "x" * 501),
    "a page that is none": get("/api/pictures?before=-1"),
    "a board without a name": ("POST", "/api/boards", {"json": {"name": ""}}),
}
# the same in OpenAI's words, whose error object has other fields
HOSTILE_IMAGES = {
    "a negative seed, for OpenAI": image(seed=-1),
    "NaN, for OpenAI": ("POST", "/v1/images/generations", post('{"prompt": "x", "n": NaN}')[2]),
    "infinity in words": image(guidance_scale="inf"),
    "too many pictures, for OpenAI": image(n=1000),
    "too many pixels, for OpenAI": image(size="8192x8192"),
    "a size of nothing": image(size="0x0"),
    "a size that is huge": image(size="9" * 5_000 + "x1"),
    "a prompt of nothing": image(prompt=""),
    "a prompt that is a list": image(prompt=["a"]),
    "a prompt that is too long, for OpenAI": image(prompt="x" * 20_001),
    "a model by its path, for OpenAI": image(model="../../etc/passwd"),
    "a model by an address, for OpenAI": image(model="http://169.254.169.254/"),
    "an expander by its address": image(expand="http://169.254.169.254/"),
    "a user that is a table": image(user={"a": 1}),
    "a mask by its path, for OpenAI": image(masks={"a": "/etc/passwd"}),
    "an upload of nobody": image(masks={"a": ID}),
    "a LoRA by its path, for OpenAI": image(addons={"loras": [{"name": "x", "file": "/etc/x"}]}),
    "a stream that is none": image(stream="perhaps"),
    "JSON that is nested, for OpenAI": ("POST", "/v1/images/generations", post("[" * 9_999)[2]),
    "an edit of an address": edit(image="http://169.254.169.254/x.png"),
    "an edit as JSON": ("POST", "/v1/images/edits", {"json": {"image": "http://127.0.0.1:1/"}}),
    "an edit of a path": edit(image="/etc/passwd"),
    "an edit of data": edit(image="data:image/png;base64,AA"),
    "an edit of nothing": edit(),
    "an edit of a bomb": edit(files=[("image", bomb())]),
    "an edit of text": edit(files=[("image", b"<svg>")]),
    "a mask that is an address": edit(files=[("image", b"x")], mask="http://127.0.0.1/"),
    "a prompt that is a file": edit(files=[("image", b"x"), ("prompt", b"x")]),
    "a field that comes twice": edit(files=[("image", b"x"), ("n", None), ("n", None)]),
    "too many files": edit(files=[("image[]", b"x")] * 30),
    "too many fields": edit(**{f"x{i}": "1" for i in range(200)}),
    "a field that is huge": edit(prompt="x" * 300_000),
    "a NUL in a form": edit(files=[("image", b"x")], prompt="a\0b"),
    "add-ons that are nested": edit(files=[("image", b"x")], addons="{" * 5_000),
    "add-ons by their path": edit(
        files=[("image", b"x")], addons='{"loras": [{"name": "x", "file": "/etc/x"}]}'
    ),
    "a mask's name by its path": edit(files=[("image", b"x")], masks='{"a": "/etc/x"}'),
    "a form that is cut off": (
        "POST",
        "/v1/images/edits",
        {
            "content": b"--x\r\nContent",
            "headers": {"content-type": "multipart/form-data; boundary=x"},
        },
    ),
    "a variation of an address": edit("variations", image="http://127.0.0.1/"),
    "a link that is none": link("x"),
    "a link with a way up": link("..%2f..%2fetc%2fpasswd"),
    "a link that nobody signed": link(f"{ID}.9999999999.100.{ID}.png"),
    "a link of the past": link(f"{ID}.1.100.{ID}.png"),
    "a model that is not there": ("GET", "/v1/models/..%2f..%2fetc", {}),
    "a chat": ("POST", "/v1/chat/completions", {"json": {"messages": []}}),
    "a method that is not there": ("DELETE", "/v1/models", {}),
    "a key of OpenAI's that is none": (
        *image()[:2],
        image()[2] | {"headers": {"idempotency-key": "a b"}},
    ),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from fastapi.testclient import TestClient

    server = Server(Settings(tmp_path_factory.mktemp("serve"), drain_seconds=1.0), FakeWorker())
    app = make_app(server)
    with TestClient(app, "http://127.0.0.1:8188", raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests_are_refused_with_a_reason(shared, name):
    method, path, more = HOSTILE[name]
    answer = shared.request(method, path, **more)
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert len(answer.content) < 10_000
    assert "Traceback" not in answer.text
    assert shared.get("/healthz").status_code == 200


@pytest.mark.parametrize("name", HOSTILE_IMAGES)
def test_openais_error_object_says_why(shared, name):
    method, path, more = HOSTILE_IMAGES[name]
    answer = shared.request(method, path, **more)
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] == "invalid_request_error"
    assert len(answer.content) < 10_000
    assert "Traceback" not in answer.text
    assert shared.get("/api/uploads/" + ID).status_code == 404
    assert shared.get("/healthz").status_code == 200


def test_there_are_forty_of_them():
    assert len(HOSTILE) >= 40


def test_answers_have_the_headers_that_browsers_heed(shared):
    for path in ("/api/jobs", "/api/none", "/healthz"):
        headers = shared.get(path, headers={"x-request-id": "my-id"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-request-id"] == "my-id"
        assert "access-control-allow-origin" not in headers
    assert shared.get("/healthz", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def walk_fields(model):
    """(field, annotation) of a derived model and of the models in it."""
    for name, info in model.model_fields.items():
        yield name, info.annotation
        for inner in list_models(info.annotation):
            yield from walk_fields(inner)


def test_every_field_that_could_name_a_file_is_judged():
    """A path in a request becomes the id of an upload, or is no field of HTTP. A text cannot be
    told from a path: whoever adds one says here that it is none."""
    texts = {
        "prompt",
        "negative_prompt",
        "preset",
        "sampler",
        "spacing",
        "hires_sampler",
        "hires_spacing",
        "hires_prompt",
        "hires_negative_prompt",
        "dialect",
        "prompt_steps",
        "variation_blend",
        "noise_scaling",
        "final_sigma",
        "timesteps",
        "rng",
        "tiling",
        "resize",
        "content",
        "phrases",
        "texts",
    }
    texts |= {"prompts", "easing", "blend", "x", "y", "z"}  # axes are of names and values
    # tasks.check_limits takes listed names alone; sources have a fixed list
    checked = {"hires_upscaler", "upscaler", "source"}
    # of numbers and words, see diffusion.options; by the names of a network's blocks
    tables = {"sampler_options", "spacing_options", "blocks", "size_conditions"}
    uploads = {"image", "first", "second", "mask", "masks", "depth_map", "pictures"}
    listed = {"name", "encoder", "vae"}  # of add-ons, see library.find_addon: a path is no name
    words = {"mode", "preprocess", "kind", "type", "combine"}  # of add-ons, from a fixed list
    known = texts | checked | tables | uploads | listed | words
    for kind in KINDS:
        for name, annotation in walk_fields(derive_fields(kind)):
            assert not has_path(annotation), name
            if not list_models(annotation) and re.search("str|Literal|Any", str(annotation)):
                assert name in known, f"can {name} name a file?"


def test_a_path_that_a_schema_lets_through_is_refused_all_the_same():
    values = {"prompt": "x", "addons": {"loras": [{"name": "x", "file": "/etc/passwd"}]}}
    with pytest.raises(BadInput, match="cannot name a file"):
        build_task("generate", "fromnoise", values, Path, 1.0)
    with pytest.raises(BadInput, match="cannot name a file"):
        build_task("hires", "fromnoise", {"prompt": "x", "addons": values["addons"]}, Path, 1.0)
    task = build_task("edit", "fromnoise", {"image": "a", "masks": {"m": "b"}}, Path, 1.0)
    assert task.inputs == {"image": Path("a")}
    assert task.request.masks == {"m": Path("b")}


def test_a_server_beyond_this_machine_needs_a_token(make_server):
    client = make_server()
    open_to_all = Settings(client.server.settings.folder, host="0.0.0.0")
    with pytest.raises(BadInput, match="anyone"):
        refuse_open_door(open_to_all, client.server.tokens)
    client.server.tokens.add("ann", ["draw"])
    client.server.tokens.counted = (0.0, False)
    refuse_open_door(open_to_all, client.server.tokens)


def test_tokens_say_who_may_do_what(make_server):
    client = make_server()
    tokens = client.server.tokens
    assert client.get("/api/jobs").status_code == 200  # without tokens, this machine may all
    ann, bob = tokens.add("ann", ["draw", "gallery"]), tokens.add("bob", ["gallery"])
    root = tokens.add("root", ["draw", "gallery", "admin"])
    tokens.counted = (0.0, False)
    assert client.get("/api/jobs").status_code == 401
    assert client.get("/api/jobs").headers["www-authenticate"] == "Bearer"
    assert client.get("/healthz").status_code == 200

    def ask(secret, method, path, **more):
        headers = {"authorization": f"Bearer {secret}"}
        return client.request(method, path, headers=headers, **more)

    job = ask(ann, "POST", "/api/generate", json={"prompt": "x"}).json()
    assert ask("wrong", "GET", "/api/jobs").status_code == 401
    assert ask(bob, "POST", "/api/generate", json={"prompt": "x"}).status_code == 403
    assert ask(bob, "GET", "/api/pictures").status_code == 200
    while ask(ann, "GET", f"/api/jobs/{job['id']}").json()["state"] != "done":
        time.sleep(0.01)
    picture = ask(ann, "GET", f"/api/jobs/{job['id']}").json()["pictures"][0]
    assert ask(bob, "GET", picture["file"]).status_code == 404  # another client's
    assert ask(bob, "DELETE", f"/api/pictures/{picture['id']}").status_code == 404
    small = f"/api/thumbnails?of={picture['id']}"
    assert ask(bob, "GET", small).json() == {"thumbnails": {picture["id"]: None}}
    assert ask(ann, "GET", small).json()["thumbnails"][picture["id"]]
    assert ask(root, "GET", picture["file"]).status_code == 200
    assert ask(ann, "GET", "/metrics").status_code == 403
    assert ask(root, "GET", "/metrics").status_code == 200
    urgent = {"prompt": "x", "priority": 1}
    assert ask(ann, "POST", "/api/generate", json=urgent).status_code == 403
    assert ask(root, "POST", "/api/generate", json=urgent).status_code == 202
    basic = client.get("/api/jobs", auth=("anyone", ann))
    assert basic.status_code == 200
    tokens.remove("ann")
    tokens.known.clear()
    assert ask(ann, "GET", "/api/jobs").status_code == 401
    kept = (client.server.settings.folder / "queue.sqlite").read_bytes()
    kept += (client.server.settings.folder / "queue.sqlite-wal").read_bytes()
    assert ann.encode() not in kept
    assert b"root" in kept
    for line in (client.server.settings.folder / "audit.jsonl").read_text().splitlines():
        assert json.loads(line)["action"] in ("submit", "delete", "denied")


def test_rates(make_server, still_clock):
    client = make_server()
    secret = client.server.tokens.add("ann", ["draw"], per_minute=3)
    client.server.tokens.counted = (0.0, False)
    headers = {"authorization": f"Bearer {secret}"}
    codes = [client.get("/api/jobs", headers=headers).status_code for _ in range(5)]
    assert codes == [200, 200, 200, 429, 429]
    assert int(client.get("/api/jobs", headers=headers).headers["retry-after"]) >= 1


def test_pages_that_are_listed_may_ask(make_server):
    client = make_server(origins=("https://app.example",))
    headers = {"origin": "https://app.example"}
    answer = client.get("/api/jobs", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    asked = headers | {"access-control-request-method": "POST"}
    answer = client.options("/api/generate", headers=asked)
    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    own = client.get("/api/jobs", headers={"origin": "http://127.0.0.1:8188"})
    assert own.status_code == 200


def test_a_content_filter_of_the_operator(make_server, monkeypatch):
    import fake_worker

    def judge(prompt, picture):
        if prompt is not None:
            return "no dogs" if "dog" in prompt else None
        return "too red" if picture.width == 64 else None

    monkeypatch.setattr(fake_worker, "judge", judge, raising=False)
    client = make_server(content_filter="fake_worker:judge")
    refused = client.post("/api/generate", json={"prompt": "a dog"})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "filtered"
    job = client.post("/api/generate", json={"prompt": "a cat", "width": 64}).json()
    while (job := client.get(f"/api/jobs/{job['id']}").json())["state"] in ("queued", "running"):
        time.sleep(0.01)
    assert job["error"]["type"] == "filtered"
    assert client.get("/api/pictures").json()["pictures"] == []
    with pytest.raises(BadInput, match="content filter"):
        make_server(content_filter="nothing:there")


@pytest.fixture
def address(folder):
    """A server that listens, with short limits of time; (its port, the server)."""
    import uvicorn

    limits = Limits(header_seconds=0.5, body_seconds=0.5, header_bytes=8192)
    server = Server(Settings(folder / "data", drain_seconds=1.0, limits=limits), FakeWorker())
    config = uvicorn.Config(
        make_app(server),
        port=0,
        http=make_protocol(limits),
        log_config=None,
        loop="asyncio",
        h11_max_incomplete_event_size=limits.header_bytes,
        timeout_graceful_shutdown=1,
    )
    told = []
    running = Uvicorn(config, server, told.append)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not told:
        time.sleep(0.01)
    yield int(told[0].rsplit(":", 1)[1]), running
    running.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def talk(port, *pieces, pause=0.0, seconds=5.0):
    """What a server answers to bytes that come piece by piece."""
    with socket.create_connection(("127.0.0.1", port), seconds) as one:
        answer = b""
        try:
            for piece in pieces:
                one.sendall(piece)
                time.sleep(pause)
            while data := one.recv(65536):
                answer += data
                if b"\r\n\r\n" in answer and b"connection: close" not in answer.lower():
                    break
        except ConnectionError:
            pass
        return answer


HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


POST = b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
TRICKS = {
    "headers that are too large": (HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: 127.0.0.1\r\n\r\n", b"400"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", b"400"),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}", b"400"),
    "a NUL in a header": (HEAD + b"X: a\r\n b\x00\r\n\r\n", b"400"),
    "a body that does not come": (POST + b"Content-Length: 99\r\n\r\n{", b"408"),
    "a body that is too long": (POST + b"Content-Length: 999999999\r\n\r\n{", b"413"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
}


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_with_bytes(address, name):
    sent, status = TRICKS[name]
    answer = talk(address[0], sent)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
    assert talk(address[0], HEAD + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_slow_headers_are_cut_off_and_others_are_served(address):
    begun = time.monotonic()
    pieces = [HEAD, *[b"X-%d: a\r\n" % i for i in range(30)]]
    answer = talk(address[0], *pieces, pause=0.1)
    assert time.monotonic() - begun < 5
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
    assert talk(address[0], HEAD + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_server_that_ends_lets_its_job_and_its_stream_end(address):
    import http.client

    port, running = address
    worker = running.server.worker
    worker.held.clear()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/api/generate", '{"prompt": "x", "steps": 3}', JSON)
    job = json.loads(connection.getresponse().read())
    connection.request("GET", job["events"])
    stream = connection.getresponse()
    running.should_exit = True
    time.sleep(0.3)
    worker.held.set()
    told = stream.read().decode()
    connection.close()
    assert "event: done" in told


def test_uploads_of_all_kinds_become_plain_png_files(shared):
    for kind in ("JPEG", "WEBP", "TIFF"):
        data = io.BytesIO()
        Image.new("RGB", (20, 10), "red").save(data, kind)
        answer = shared.post("/api/uploads", files={"file": ("x", data.getvalue())})
        assert answer.status_code == 201, answer.text
        assert (answer.json()["width"], answer.json()["height"]) == (20, 10)


SECRET = "/srv/a secret place"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{SECRET}/lora/a b.safetensors is damaged", "lora/a b.safetensors is damaged"),
        ("/home/ann/x/y.pt: no such key", "y.pt: no such key"),
        ("2 files: /a/b/c.pt, /a/d/c.pt", "2 files: c.pt, c.pt"),
        ("put it into the folder /a/models/lora, or", "put it into the folder lora, or"),
        ("/root/kept/pictures/x.png is gone", "pictures/x.png is gone"),
        ("see /openapi.json and POST /api/uploads", "see /openapi.json and POST /api/uploads"),
        (
            "http://127.0.0.1:1/a/b and ../../x and a/b",
            "http://127.0.0.1:1/a/b and ../../x and a/b",
        ),
    ],
)
def test_texts_lose_the_folders_of_their_paths(monkeypatch, text, told):
    monkeypatch.setenv("FROMNOISE_MODELS", SECRET)
    assert hide_folders(text, Path("/root/kept")) == told


def ask_for(kind, **item):
    return {"prompt": "a cat", "addons": {kind: [item]}}


def test_errors_of_drawing_name_no_folder(folder, make_server, monkeypatch):
    """Add-ons, towers and models that are missing, damaged, twice there or for another model, drawn
    by a true model: every refusal, and every warning, says names alone."""
    import fakes
    import torch
    from safetensors.torch import save_file

    from fromnoise.checkpoints.formats import diffusers_folder_save
    from fromnoise.serve.work.drawing import EngineWorker

    models = folder / "a secret place"
    damaged = {"lora": "hurt", "embeddings": "hurt", "controlnet": "hurt", "ipadapter": "hurt"}
    for place, name in damaged.items():
        (models / place).mkdir(parents=True)
        (models / place / f"{name}.safetensors").write_bytes(b"\x09" * 40)
        other = {
            "alien.lora_up.weight": torch.zeros(4, 2),
            "alien.lora_down.weight": torch.zeros(2, 4),
        }
        save_file(other, models / place / "alien.safetensors")
        for twice in ("a", "b"):
            (models / place / twice).mkdir()
            save_file(other, models / place / twice / "twice.safetensors")
    (models / "checkpoints").mkdir()
    (models / "checkpoints" / "hurt.ckpt").write_bytes(b"\x80\x02.")
    diffusers_folder_save.save(fakes.model(folder / "w"), models / "own", torch.float32)
    monkeypatch.setenv("FROMNOISE_MODELS", str(models))
    monkeypatch.setenv("HOME", str(folder))
    settings = Settings(folder / "worker", model=str(models / "own"))
    client = make_server(EngineWorker(settings), model=str(models / "own"))
    picture = io.BytesIO()
    Image.new("RGB", (32, 32)).save(picture, "PNG")
    upload = client.post("/api/uploads", files={"file": ("x.png", picture.getvalue())}).json()["id"]
    asked = []
    for name in ("none", "hurt", "alien", "twice", "/etc/passwd", str(models / "lora" / "hurt")):
        asked += [ask_for("loras", name=name), ask_for("embeddings", name=name)]
        asked += [ask_for("controls", name=name, image=upload)]
        asked += [ask_for("ip_adapters", name=name, pictures=[upload])]
        asked += [
            {"prompt": f"a <lora:{name}:1>"},
            {"prompt": f"embedding:{name}", "dialect": "comfy"},
        ]
    for tower in ("none", "/etc/passwd", str(models / "lora" / "hurt.safetensors")):
        asked.append(ask_for("ip_adapters", name="alien", pictures=[upload], encoder=tower))
    asked += [{"prompt": "x", "model": name} for name in ("checkpoints/hurt.ckpt", "none")]
    failed = refused = 0
    for values in asked:
        answer = client.post("/api/generate", json=values)
        told, refused = answer.text, refused + (answer.status_code == 404)
        if answer.status_code == 202:
            job = answer.json()
            while (job := client.get(f"/api/jobs/{job['id']}").json())["state"] in (
                "queued",
                "running",
            ):
                time.sleep(0.005)
            told = json.dumps([job["error"], job["warnings"]])
            failed += job["state"] == "failed"
        for given in re.findall(r'"([^"]*/[^"]*)"', json.dumps(values)):
            told = told.replace(given, "")  # the client's own words
        for word in ("secret", str(folder), str(Path.home()), "fromnoise/", "/etc"):
            assert word not in told, (values, told)
    assert failed > 10  # drawn: the file is there, and cannot be used
    assert failed + refused > 30
