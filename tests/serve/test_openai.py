"""The `openai` client, as it is, against a server that listens: it draws, edits, varies, streams,
and meets every kind of error."""

import base64
import contextlib
import io
import json
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import openai
import pytest
import uvicorn
from fake_worker import FakeWorker
from PIL import Image, PngImagePlugin

from fromnoise.api import load
from fromnoise.errors import BadInput
from fromnoise.serve.app import make_app
from fromnoise.serve.dialects.openai import shapes
from fromnoise.serve.running import Uvicorn
from fromnoise.serve.safety import links
from fromnoise.serve.server import Server, make_expander
from fromnoise.serve.settings import Limits, Settings
from fromnoise.serve.work.drawing import EngineWorker


@pytest.fixture
def listen(folder):
    """`listen(worker, **settings)` → (the client of a server that listens, the server)."""
    started = []

    def start(worker=None, **settings):
        settings = {"folder": folder / "data", "drain_seconds": 1.0} | settings
        server = Server(Settings(**settings), worker or FakeWorker())
        config = uvicorn.Config(make_app(server), port=0, log_config=None, loop="asyncio")
        told = []
        running = Uvicorn(config, server, told.append)
        thread = threading.Thread(target=running.run)
        thread.start()
        while not told or not server.loaded:
            time.sleep(0.01)
        client = openai.OpenAI(base_url=f"{told[0]}/v1", api_key="any", max_retries=0)
        started.append((client, running, thread))
        return client, server

    yield start
    for client, running, thread in started:
        client.close()
        running.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def read(image):
    """The picture of an answer."""
    return Image.open(io.BytesIO(base64.b64decode(image.b64_json)))


def write(picture, kind="PNG"):
    data = io.BytesIO()
    picture.save(data, kind)
    return data.getvalue()


def jobs_of(server):
    """The newest job first; its settings are in `request`."""
    return server.queue.find(None)


def test_it_draws(listen):
    client, server = listen()
    answer = client.images.generate(
        prompt="a cat",
        n=2,
        size="64x32",
        quality="high",
        user="ann",
        extra_body={"seed": 5, "negative_prompt": "a dog", "guidance_scale": 3, "sampler": "heun"},
    )
    assert [read(one).size for one in answer.data] == [(64, 32)] * 2
    assert (answer.size, answer.quality, answer.output_format) == ("64x32", "high", "png")
    assert (answer.background, answer.safety_identifier) == ("opaque", "ann")
    assert abs(answer.created - time.time()) < 60
    assert answer.usage.output_tokens == 2 * 8 * 4
    assert answer.usage.input_tokens_details.text_tokens == 4
    assert answer.usage.total_tokens == 64 + 4
    settings = json.loads(jobs_of(server)[0].request)
    assert settings == {
        "prompt": "a cat",
        "negative_prompt": "a dog",
        "seed": 5,
        "steps": 40,
        "cfg": 3.0,
        "sampler": "heun",
        "count": 2,
        "width": 64,
        "height": 32,
    }


def test_the_bundled_model_draws_what_it_draws_alone(listen, folder):
    client, _ = listen(EngineWorker(Settings(folder)))
    more = {"seed": 1, "steps": 2}
    *partial, done = client.images.generate(
        prompt="a neon cat in space", stream=True, partial_images=1, extra_body=more
    )
    assert [event.size for event in (*partial, done)] == ["128x128"] * 2
    assert read(done).tobytes() == load().generate(prompt="a neon cat in space", **more).tobytes()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_formats_and_links(listen, kind):
    client, server = listen()
    server.tokens.add("ann", ["draw"])  # from now on all but a link needs a token
    secret = server.tokens.add("bob", ["draw"])
    server.tokens.counted = (0.0, False)
    mine = client.with_options(api_key=secret)
    answer = mine.images.generate(prompt="a cat", output_format=kind, output_compression=60)
    assert read(answer.data[0]).format == kind.upper()
    assert (answer.model_extra.get("warnings") is None) == (kind != "png")
    link = answer.data[0].url
    assert secret not in link
    with urllib.request.urlopen(link) as got:
        assert got.headers["content-type"] == f"image/{kind}"
        assert got.read() == base64.b64decode(answer.data[0].b64_json)
    bent = link.replace(".60.", ".61.") if ".60." in link else link.replace(".100.", ".99.")
    for wrong in (bent, link[:-4] + "x", link.replace("/files/", "/files/..%2f")):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(wrong)
        assert error.value.code in (401, 404)
        error.value.close()
    only = mine.images.generate(prompt="a cat", response_format="url").data[0]
    assert only.url
    assert only.b64_json is None
    only = mine.images.generate(prompt="a cat", response_format="b64_json").data[0]
    assert only.b64_json
    assert only.url is None


def test_a_link_ends(listen, monkeypatch):
    client, server = listen(public_url="https://pictures.example.org/")
    link = client.images.generate(prompt="a cat").data[0].url
    start = "https://pictures.example.org/v1/images/files/"
    assert link.startswith(start)
    server.links.read(link.removeprefix(start))
    now = time.time()
    monkeypatch.setattr(links.time, "time", lambda: now + links.SECONDS + 2)
    with pytest.raises(Exception, match="works no more"):
        server.links.read(link.removeprefix(start))
    other = links.Links(server.settings.folder)  # of a server that starts again
    assert other.key == server.links.key
    assert (server.settings.folder / "links.key").stat().st_mode & 0o777 == 0o600


def test_it_edits_where_the_mask_is_clear(listen):
    client, server = listen()
    picture, mask = Image.new("RGB", (32, 32), "red"), Image.new("RGBA", (32, 32), "white")
    mask.paste((1, 2, 3, 0), (8, 8, 16, 32))
    mask.paste((1, 2, 3, 5), (0, 0, 4, 4))  # nearly clear: kept
    answer = client.images.edit(
        image=write(picture), mask=write(mask), prompt="a dog", n=2, extra_body={"seed": 3}
    )
    assert len(answer.data) == 2
    assert answer.usage.input_tokens_details.image_tokens == 16
    settings = json.loads(jobs_of(server)[0].request)
    assert settings["strength"] == 1
    with Image.open(server.files.path("uploads", settings["mask"])) as painted:
        assert painted.mode == "L"
        assert painted.getbbox() == (8, 8, 16, 32)
        assert painted.histogram()[255] == 8 * 24
    # the picture's own transparency, and none at all
    client.images.edit(image=[write(mask)], prompt="a dog")
    own = json.loads(jobs_of(server)[0].request)
    assert own["mask"] == settings["mask"]
    client.images.edit(image=write(picture), prompt="a dog", input_fidelity="high", size="64x64")
    plain = json.loads(jobs_of(server)[0].request)
    assert "mask" not in plain
    assert (plain["strength"], plain["width"]) == (0.5, 64)
    with server.database.connect() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM uploads").scalar()
    assert left == 0


def test_further_pictures_are_for_adapters(listen):
    client, server = listen()
    pictures = [write(Image.new("RGB", (32, 32), colour)) for colour in ("red", "blue")]
    with pytest.raises(openai.BadRequestError, match="IP-Adapters"):
        client.images.edit(image=pictures, prompt="a dog")
    adapters = json.dumps({"ip_adapters": [{"name": "plus", "weight": 0.5}]})
    client.images.edit(image=pictures, prompt="a dog", extra_body={"addons": adapters})
    asked = json.loads(jobs_of(server)[0].request)
    assert len(asked["addons"]["ip_adapters"][0]["pictures"][0]) == 64
    assert asked["addons"]["ip_adapters"][0]["pictures"] != [asked["image"]]
    with pytest.raises(openai.BadRequestError, match="1 pictures came"):
        client.images.edit(image=pictures[0], prompt="a dog", extra_body={"addons": adapters})


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_it_varies(listen):
    client, server = listen()
    text = PngImagePlugin.PngInfo()  # as this program and others write it
    text.add_text("parameters", "a neon cat\nSteps: 4, Sampler: Euler, CFG scale: 2, Seed: 1")
    drawn = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(drawn, "PNG", pnginfo=text)
    varied = client.images.create_variation(image=drawn.getvalue(), response_format="b64_json")
    assert read(varied.data[0]).size == (32, 32)
    settings = json.loads(jobs_of(server)[0].request)
    assert (settings["prompt"], settings["strength"]) == ("a neon cat", 0.6)
    plain = client.images.create_variation(image=write(Image.new("RGB", (32, 32))), size="64x64")
    assert "without words" in plain.model_extra["warnings"][0]


@pytest.mark.parametrize("kind", ["generate", "edit"])
def test_it_streams(listen, kind):
    client, _ = listen(FakeWorker(0.03))
    values = {"prompt": "a noted cat", "size": "64x64", "output_format": "jpeg", "n": 2}
    more = {"steps": 8}
    if kind == "edit":
        values["image"] = write(Image.new("RGB", (64, 64)))
    draw = getattr(client.images, kind)
    events = list(draw(stream=True, partial_images=3, extra_body=more, **values))
    name = {"generate": "image_generation", "edit": "image_edit"}[kind]
    names = [event.type for event in events]
    assert names == [f"{name}.partial_image"] * 3 + [f"{name}.completed"] * 2
    assert [event.partial_image_index for event in events[:3]] == [0, 1, 2]
    for event in events:
        assert read(event).format == "JPEG"
        assert read(event).size == (64, 64)
        assert (event.size, event.output_format, event.quality) == ("64x64", "jpeg", "medium")
        assert (event.background, event.created_at > 1e9) == ("opaque", True)
    assert events[-1].usage.output_tokens == 64
    assert events[-1].model_extra["warnings"] == ["a note"]
    assert [e.type for e in draw(stream=True, **values)] == [f"{name}.completed"] * 2


class LanguageModel(BaseHTTPRequestHandler):
    """What stands in for llama.cpp and the like; a prompt says how it fails."""

    asked: ClassVar[list] = []

    def do_GET(self):
        self.answer(b'{"data": [{"id": "local"}]}')

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, self.headers["authorization"], body))
        prompt = body["messages"][-1]["content"]
        text = f'"{prompt} in <lora:evil:9> (soft:9) light\nAND a dog"\n'
        whole = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        if "slow" in prompt:
            time.sleep(1)
        if "elsewhere" in prompt:
            self.send_response(302)
            self.send_header("location", "http://127.0.0.1:1/")
            return self.end_headers()
        self.answer(b"x" * 100_000 if "long" in prompt else b"{}" if "empty" in prompt else whole)

    def answer(self, data):
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def language_model():
    """The address of a language model."""
    with ThreadingHTTPServer(("127.0.0.1", 0), LanguageModel) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        LanguageModel.asked.clear()
        yield f"http://127.0.0.1:{served.server_port}/v1"
        served.shutdown()


def test_prompts_are_expanded_by_a_language_model(listen, language_model):
    client, server = listen(expand=language_model, expand_key="secret")
    answer = client.images.generate(prompt="a cat", response_format="url")
    revised = answer.data[0].revised_prompt
    assert revised == "a cat in lora:evil:9 soft:9 light and a dog"  # words alone, no signs
    assert json.loads(jobs_of(server)[0].request)["prompt"] == revised
    path, key, body = LanguageModel.asked[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret", "local")
    plain = client.images.generate(prompt="a cat", extra_body={"expand": False})
    assert plain.data[0].revised_prompt is None
    own = client.images.generate(prompt="a (cat:1.2)")
    assert own.data[0].revised_prompt is None
    object.__setattr__(server.expander, "seconds", 0.5)
    for prompt, why in (
        ("slow", "longer than 0.5 seconds"),
        ("elsewhere", "status 302"),
        ("long", "too long"),
        ("empty", "no text"),
    ):
        answer = client.images.generate(prompt=prompt, response_format="url")
        assert why in answer.model_extra["warnings"][0]
        assert "rules" in answer.model_extra["warnings"][0]
        assert answer.data[0].revised_prompt.count(prompt) == 1
        assert answer.data[0].revised_prompt != prompt


def test_prompts_are_expanded_by_rules_where_a_request_says_so(listen):
    client, server = listen()
    key = {"Idempotency-Key": "one"}
    values = {"prompt": "a cat", "extra_headers": key, "extra_body": {"expand": True}}
    answer = client.images.generate(**values)
    revised = answer.data[0].revised_prompt
    assert revised != "a cat"
    assert "a cat" in revised
    assert client.images.generate(**values).data[0].revised_prompt == revised
    assert len(jobs_of(server)) == 1
    done = list(client.images.generate(prompt="a cat", stream=True, extra_body={"expand": True}))
    assert done[-1].model_extra["revised_prompt"] == revised
    base = str(client.base_url).removesuffix("/v1/")
    body = json.dumps({"prompt": "a cat"}).encode()
    asked = urllib.request.Request(f"{base}/api/expand", body, {"content-type": "application/json"})
    with urllib.request.urlopen(asked) as got:
        assert json.load(got) == {"prompt": revised, "warnings": []}
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="a cat", model="none", extra_body={"expand": True})


def test_an_address_that_is_none_is_refused_at_the_start(folder):
    for wrong in ("yes", "ftp://x/v1", "http://", "http://[::1/v1"):
        with pytest.raises(BadInput, match="cannot expand prompts"):
            make_expander(Settings(folder, expand=wrong))


def test_a_stream_that_fails_says_so(listen):
    client, _ = listen()
    with pytest.raises(openai.APIError, match="broken") as error:
        list(client.images.generate(prompt="broken", stream=True))
    assert error.value.type == "invalid_request_error"


def test_models(listen):
    client, _ = listen()
    assert [model.id for model in client.models.list()] == ["fromnoise", "other"]
    assert client.models.retrieve("other").owned_by == "disk"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("some/other")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


WRONG = {
    "a size of nothing": ({"size": "8x8"}, "size", "invalid_value"),
    "a size that is none": ({"size": "big"}, "size", "invalid_value"),
    "a size beyond the schema": ({"size": "9000x9000"}, "size", "invalid_value"),
    "a size beyond the limit": ({"size": "4096x4096"}, "size", "invalid_value"),
    "too many": ({"n": 17}, "n", "invalid_value"),
    "none": ({"n": 0}, "n", "invalid_value"),
    "a sampler": ({"extra_body": {"sampler": "best"}}, "sampler", "invalid_value"),
    "a setting": ({"extra_body": {"script": "x"}}, "script", "invalid_value"),
    "a format": ({"output_format": "gif"}, "output_format", "invalid_value"),
    "no background": ({"background": "transparent"}, "background", "unsupported_value"),
    "previews without a stream": ({"partial_images": 2}, "partial_images", "invalid_value"),
    "too many previews": ({"stream": True, "partial_images": 4}, "partial_images", "invalid_value"),
    "a mask by its path": ({"extra_body": {"masks": {"a": "/etc/x"}}}, "masks.a", "invalid_value"),
}


def test_bad_input_is_a_bad_request_that_names_the_field(listen):
    client, _ = listen()
    for values, param, code in WRONG.values():
        with pytest.raises(openai.BadRequestError) as error:
            client.images.generate(**{"prompt": "a cat"} | values)
        assert error.value.type == "invalid_request_error"
        assert (error.value.param, error.value.code) == (param, code), error.value
        assert error.value.request_id
    with pytest.raises(openai.BadRequestError, match="broken; take another"):
        client.images.generate(prompt="broken")
    with pytest.raises(openai.NotFoundError) as error:
        client.images.generate(prompt="a cat", model="gpt-image-1")
    assert (error.value.param, error.value.code) == ("model", "model_not_found")
    opaque = write(Image.new("RGBA", (32, 32), "white"))
    small, clear = Image.new("RGBA", (16, 16)), Image.new("RGBA", (32, 32))
    for image, mask, field in (
        (b"no picture", None, "image"),
        (opaque, opaque, "mask"),
        (opaque, write(small), "mask"),
    ):
        files = {"image": image} | ({"mask": mask} if mask else {})
        with pytest.raises(openai.BadRequestError) as error:
            client.images.edit(prompt="a cat", **files)
        assert (error.value.param, error.value.code) == (field, "invalid_image")
    assert client.images.edit(prompt="a cat", image=opaque, mask=write(clear)).data


def test_keys(listen):
    client, server = listen()
    secret = server.tokens.add("ann", ["draw"])
    seer = server.tokens.add("bob", ["gallery"])
    server.tokens.counted = (0.0, False)
    with pytest.raises(openai.AuthenticationError) as error:
        client.images.generate(prompt="a cat")
    assert error.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError):
        client.with_options(api_key=seer).images.generate(prompt="a cat")
    assert client.with_options(api_key=secret).images.generate(prompt="a cat").data


def test_retries_and_idempotency(listen):
    worker = FakeWorker()
    client, server = listen(worker, limits=Limits(depth_per_client=1))
    worker.held.clear()
    threads = [
        threading.Thread(target=lambda: client.images.generate(prompt="a cat")) for _ in range(2)
    ]
    for thread, state in zip(threads, ("running", "queued"), strict=True):
        thread.start()
        while server.queue.count_states()[state] < 1:
            time.sleep(0.01)
    with pytest.raises(openai.RateLimitError) as error:
        client.images.generate(prompt="a cat")
    assert error.value.code == "rate_limit_exceeded"
    assert int(error.value.response.headers["retry-after"]) >= 1
    release = threading.Timer(0.2, worker.held.set)
    release.start()
    key = {"Idempotency-Key": "one"}
    patient = client.with_options(max_retries=4)
    first = patient.images.generate(prompt="a dog", extra_headers=key)
    again = client.images.generate(prompt="a dog", extra_headers=key)
    assert first.data[0].b64_json == again.data[0].b64_json
    picture = write(Image.new("RGB", (32, 32), "red"))  # the same file again is the same request
    key = {"Idempotency-Key": "two"}
    first, again = (
        client.images.edit(image=picture, prompt="a dog", extra_headers=key) for _ in range(2)
    )
    assert first.data[0].b64_json == again.data[0].b64_json
    with pytest.raises(openai.ConflictError):
        client.images.edit(image=picture, prompt="a cat", extra_headers=key)
    for thread in threads:
        thread.join()
    assert len(jobs_of(server)) == 4


def test_who_leaves_cancels_unless_there_is_a_key(listen):
    worker = FakeWorker()
    client, server = listen(worker)
    worker.held.clear()
    hasty = client.with_options(timeout=1.0)
    with pytest.raises(openai.APITimeoutError):
        hasty.images.generate(prompt="a cat")
    with pytest.raises(openai.APITimeoutError):
        hasty.images.generate(prompt="a cat", stream=True).__next__()
    key = {"Idempotency-Key": "one"}
    with pytest.raises(openai.APITimeoutError):
        hasty.images.generate(prompt="a dog", extra_headers=key)
    limit = time.monotonic() + 20  # one waits, and is cancelled; one was begun, and ends later
    while server.queue.count_states()["cancelled"] < 1 and time.monotonic() < limit:
        time.sleep(0.02)
    worker.held.set()
    kept = client.images.generate(prompt="a dog", extra_headers=key)
    assert kept.data
    kept, *left = jobs_of(server)
    assert kept.state == "done"
    assert [job.state for job in left] == ["cancelled"] * 2


def test_the_words_of_this_dialect_are_openais():
    """What the client's own types say, our answers can say."""
    from openai.types import ImagesResponse
    from openai.types.image_gen_completed_event import ImageGenCompletedEvent

    assert shapes.ImagesOut.model_fields.keys() - {"warnings"} <= ImagesResponse.model_fields.keys()
    assert "usage" in ImageGenCompletedEvent.model_fields
