"""The A1111 dialect: webuiapi, unmodified, and the requests of Open WebUI and SillyTavern, which
are written down here from their sources."""

import base64
import io
import json
import threading
import time

import pytest
import uvicorn
import webuiapi
from fake_worker import FakeWorker
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import func, select

from fromnoise.serve.app import make_app
from fromnoise.serve.database.opening import reading
from fromnoise.serve.database.tables import uploads
from fromnoise.serve.running import Uvicorn
from fromnoise.serve.server import Server
from fromnoise.serve.settings import Settings

TEXT = "a cat\nNegative prompt: a dog\nSteps: 3, Sampler: Euler a, Seed: 5, Size: 64x32"


class Recorder(FakeWorker):
    """A fake worker that keeps its tasks."""

    def __init__(self, seconds=0.0):
        super().__init__(seconds)
        self.tasks = []

    def draw(self, task, watch):
        self.tasks.append(task)
        return super().draw(task, watch)


def picture(size=(32, 32), mode="RGB", colour="red", text=""):
    image, info, data = Image.new(mode, size, colour), PngInfo(), io.BytesIO()
    if text:
        info.add_text("parameters", text)
    image.save(data, "PNG", pnginfo=info)
    return base64.b64encode(data.getvalue()).decode()


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    server = Server(Settings(tmp_path_factory.mktemp("serve"), drain_seconds=1.0), Recorder())
    with TestClient(make_app(server), "http://127.0.0.1:8188", raise_server_exceptions=False) as it:
        it.server = server
        yield it


@pytest.fixture(autouse=True)
def _fresh(request):
    if "app" in request.fixturenames:
        request.getfixturevalue("app").server.worker.tasks.clear()


def ask(app, path="txt2img", status=200, **values):
    answer = app.post(f"/sdapi/v1/{path}", json=values)
    assert answer.status_code == status, answer.text
    return answer.json()


def last(app):
    return app.server.worker.tasks[-1]


@pytest.fixture(scope="module")
def listening(tmp_path_factory):
    """The port of a server that listens, and the server."""
    server = Server(Settings(tmp_path_factory.mktemp("serve"), drain_seconds=1.0), Recorder())
    told = []
    config = uvicorn.Config(make_app(server), port=0, log_config=None, loop="asyncio")
    running = Uvicorn(config, server, told.append)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not told:
        time.sleep(0.01)
    yield int(told[0].rsplit(":", 1)[1]), server
    running.should_exit = True
    thread.join(10)


@pytest.fixture
def make_api():
    """webuiapi's clients, whose connections are closed at the end."""
    made = []

    def make(**settings):
        made.append(webuiapi.WebUIApi(**settings))
        return made[-1]

    yield make
    for api in made:
        api.session.close()


def test_webuiapi_runs_its_script(listening, make_api):
    port, server = listening
    api = make_api(port=port, sampler="Euler a", steps=3)
    drawn = api.txt2img(
        prompt="a cat", negative_prompt="a dog", seed=7, batch_size=2, n_iter=2, width=64, height=32
    )
    assert [image.size for image in drawn.images] == [(64, 32)] * 4
    assert drawn.info["all_seeds"] == [7, 8, 9, 10]
    assert drawn.info["infotexts"][1] == drawn.images[1].info["parameters"]
    assert drawn.parameters["prompt"] == "a cat"
    assert len(server.worker.tasks) == 2  # one job for each of n_iter
    upscaler = webuiapi.HiResUpscaler.Latent
    hires = api.txt2img(
        prompt="a cat",
        enable_hr=True,
        hr_scale=2,
        width=64,
        height=64,
        hr_upscaler=upscaler,
        denoising_strength=0.6,
    )
    assert hires.images
    request = server.worker.tasks[-1].request
    assert (request.hires_upscaler, request.hires_strength) == ("Latent", 0.6)
    start, mask = Image.new("RGB", (64, 64), "blue"), Image.new("L", (64, 64), 255)
    api.img2img(images=[start], prompt="a fish", denoising_strength=0.5, width=64, height=64)
    task = server.worker.tasks[-1]
    assert (task.kind, task.request.strength, task.request.resize) == ("edit", 0.5, "stretch")
    api.img2img(
        images=[start],
        mask_image=mask,
        inpainting_fill=1,
        width=64,
        height=64,
        inpaint_full_res_padding=8,
    )
    task = server.worker.tasks[-1]
    assert task.inputs.keys() == {"image", "mask"}
    request = task.request
    assert (request.content, request.only_masked, request.padding) == ("original", True, 8)
    unit = webuiapi.ControlNetUnit(
        image=start,
        module="canny",
        model="canny [d14c016b]",
        threshold_a=100,
        threshold_b=200,
        control_mode=2,
    )
    api.txt2img(prompt="a cat", controlnet_units=[unit])
    [control] = server.worker.tasks[-1].request.addons.controls
    assert (control.name, control.preprocess, control.mode) == ("canny", "canny", "control")
    assert (control.low, control.high, control.resize) == (100, 200, "fill")
    assert control.image.is_file()
    larger = api.extra_single_image(start, upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=3)
    assert larger.image.size == (192, 192)
    both = api.extra_batch_images([start, start], upscaler_1="Nearest", upscaling_resize=2)
    assert [image.size for image in both.images] == [(128, 128)] * 2
    assert api.interrogate(start).info == "a red square"
    told = api.png_info(drawn.images[0])
    assert told.info == drawn.images[0].info["parameters"]
    drawn.images[0].info["parameters"] = TEXT
    told = api.png_info(drawn.images[0])
    assert told.info == TEXT
    assert (told.parameters["Seed"], told.parameters["Size-2"]) == ("5", "32")
    assert (told.parameters["Prompt"], told.parameters["Negative prompt"]) == ("a cat", "a dog")


def test_webuiapi_reads_lists_sets_options_and_interrupts(listening, make_api):
    port, server = listening
    api = make_api(port=port)
    assert not api.has_adetailer
    assert api.util_get_current_model() == "fromnoise"
    assert "Euler a" in api.util_get_sampler_names()
    assert {"automatic", "karras"} <= set(api.util_get_scheduler_names())
    options = api.get_options()
    api.set_options(options | {"sd_model_checkpoint": "other", "of_an_extension": {"a": [1]}})
    assert api.get_options()["of_an_extension"] == {"a": [1]}
    assert api.util_get_current_model() == "other"
    api.util_set_model("fromnoise")
    assert api.util_get_current_model() == "fromnoise"
    assert {"None", "Lanczos"} <= {row["name"] for row in api.get_upscalers()}
    assert "Latent" in {row["name"] for row in api.get_latent_upscale_modes()}
    for listed in (
        api.get_sd_vae(),
        api.get_hypernetworks(),
        api.get_face_restorers(),
        api.get_realesrgan_models(),
        api.get_prompt_styles(),
        api.get_loras(),
    ):
        assert isinstance(listed, list)
    assert api.get_embeddings().keys() == {"loaded", "skipped"}
    assert api.get_memory()["ram"]["used"] > 0
    assert api.get_cmd_flags()["api"] is True
    assert api.refresh_checkpoints() is None
    assert "canny" in api.controlnet_module_list()
    assert isinstance(api.controlnet_model_list(), list)
    assert api.controlnet_version() >= 2
    api.util_wait_for_ready()  # nothing is drawn
    server.worker.held.clear()
    try:
        results = []
        draw = lambda: results.append(api.txt2img(prompt="a cat", steps=50, n_iter=2))  # noqa: E731
        thread = threading.Thread(target=draw)
        thread.start()
        other = make_api(port=port)
        while (told := other.get_progress())["state"]["job_count"] != 2:
            time.sleep(0.01)
        assert told["progress"] > 0
        assert other.interrupt() == {}
    finally:
        server.worker.held.set()
    thread.join(10)
    assert results[0].images == []
    assert results[0].info["interrupted"]
    other.util_wait_for_ready()


def test_options_are_kept_in_both_databases(client_of_each):
    for value in ("a", "b"):
        asked = {"of_an_extension": value}
        assert client_of_each.post("/sdapi/v1/options", json=asked).status_code == 200
        kept = client_of_each.get("/sdapi/v1/options").json()
        assert kept["of_an_extension"] == value


def test_open_webui_s_requests_in_their_order(app):
    """backend/open_webui/routers/images.py: verify_url, get_models, get_image_model,
    set_image_model, image_generations."""
    headers = {"authorization": "Basic " + base64.b64encode(b"").decode()}  # an empty user:password
    assert app.get("/sdapi/v1/options", headers=headers).status_code == 200
    models = app.get("/sdapi/v1/sd-models", headers=headers).json()
    shown = [{"id": model["title"], "name": model["model_name"]} for model in models]
    assert shown[1]["id"] == "other"
    options = app.get("/sdapi/v1/options", headers=headers).json()
    assert options["sd_model_checkpoint"] == "fromnoise"
    options["sd_model_checkpoint"] = "other"
    answer = app.post("/sdapi/v1/options", json=options, headers=headers)
    assert answer.status_code == 200
    data = {
        "prompt": "a cat",
        "batch_size": 2,
        "width": 512,
        "height": 512,
        "steps": 2,
        "negative_prompt": "a dog",
    }
    # a user's own parameters come as they are
    params = {"cfg_scale": 5, "sampler_name": "DPM++ 2M Karras", "scheduler": None}
    answer = app.post("/sdapi/v1/txt2img", json=data | params, headers=headers)
    read = answer.json()
    assert len(read["images"]) == 2
    for image in read["images"]:
        assert Image.open(io.BytesIO(base64.b64decode(image))).format == "PNG"
    assert isinstance(read["info"], str)
    request = last(app).request
    assert (request.sampler, request.spacing, request.cfg) == ("dpmpp_2m", "karras", 5)
    assert last(app).model == "other"
    app.post("/sdapi/v1/options", json={"sd_model_checkpoint": "fromnoise"})


def test_sillytavern_s_requests_in_their_order(app):
    """src/endpoints/stable-diffusion.js, and generateAutoImage of the extension."""
    headers = {"Authorization": "Basic " + base64.b64encode(b"user:").decode()}

    def get(path):
        answer = app.get(f"/sdapi/v1/{path}", headers=headers)
        assert answer.is_success
        return answer.json()

    get("options")  # ping
    upscalers = [row["name"] for row in get("upscalers")]
    upscalers[1:1] = [row["name"] for row in get("latent-upscale-modes")]
    assert upscalers[0] == "None"
    assert [row["model_name"] for row in get("sd-vae")] == []
    samplers = [row["name"] for row in get("samplers")]
    schedulers = [row["name"] for row in get("schedulers")]
    models = [row["title"] for row in get("sd-models")]
    answer = app.post(
        "/sdapi/v1/options",
        content=json.dumps({"sd_model_checkpoint": models[0]}),
        headers=headers | {"Content-Type": "application/json"},
    )
    assert answer.is_success
    progress = get("progress")
    assert progress["progress"] == 0.0
    assert progress["state"]["job_count"] == 0
    assert get("options")["sd_model_checkpoint"] == models[0]
    assert "DDIM" in samplers
    assert "normal" in schedulers or "uniform" in schedulers
    body = {
        "url": "http://localhost:7860",
        "auth": "user:",
        "prompt": "a cat",
        "negative_prompt": "a dog",
        "sampler_name": "DDIM",
        "scheduler": "normal",
        "steps": 3,
        "cfg_scale": 7,
        "width": 512,
        "height": 512,
        "restore_faces": False,
        "enable_hr": False,
        "hr_upscaler": "Latent",
        "hr_scale": 1,
        "denoising_strength": 0.7,
        "hr_second_pass_steps": 0,
        "override_settings": {"CLIP_stop_at_last_layers": 2},
        "override_settings_restore_afterwards": True,
        "clip_skip": 2,
        "save_images": True,
        "send_images": True,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
    }
    answer = app.post(
        "/sdapi/v1/txt2img",
        content=json.dumps(body),
        headers=headers | {"Content-Type": "application/json"},
    )
    assert answer.is_success, answer.text
    image = answer.json()["images"][0]
    assert base64.b64decode(image)[1:4] == b"PNG"
    request = last(app).request
    assert (request.sampler, request.spacing, request.clip_skip) == ("ddim", "linspace", 2)
    ignored = json.loads(answer.json()["info"])["ignored"]
    assert ignored == {"url": "no field is called so", "auth": "no field is called so"}
    assert "user:" not in answer.text
    assert app.post("/sdapi/v1/interrupt", headers=headers).is_success  # the page was closed


def test_settings_mean_what_they_mean_in_a1111(app):
    ask(
        app,
        prompt="a",
        steps=1,
        sampler_name="Euler",
        s_churn=2.0,
        s_tmax=0,
        s_noise=1,
        eta=1.0,
        tiling=True,
        subseed=3,
        subseed_strength=0.5,
        seed=9,
        batch_size=2,
        override_settings={
            "randn_source": "GPU",
            "sgm_noise_multiplier": False,
            "eta_noise_seed_delta": 31337,
            "sd_model_checkpoint": "other",
        },
    )
    task, request = last(app), last(app).request
    assert (task.model, request.rng, request.noise_scaling) == ("other", "nv", "sigma_max")
    assert (request.s_churn, request.s_tmax, request.eta) == (2.0, None, None)  # Euler has no eta
    assert (request.tiling, request.eta_noise_seed_delta) == ("both", 31337)
    assert (request.variation_seed, request.variation_strength) == (3, 0.5)
    assert (request.variation_blend, request.seeds()) == ("columns", [9, 9])
    assert request.spacing == "automatic"
    ask(app, prompt="a", steps=1, n_iter=2, batch_size=2, seed=9, subseed=3, subseed_strength=0.5)
    first, second = (task.request for task in app.server.worker.tasks[-2:])
    assert (first.variation_seed, second.variation_seed) == (3, 5)
    ask(app, prompt="b", infotext=TEXT, steps=2)  # what is said beside a text goes before it
    request = last(app).request
    assert (request.prompt, request.negative_prompt) == ("b", "a dog")
    assert (request.steps, request.seed, request.sampler) == (2, 5, "euler_a")
    ask(
        app,
        prompt="a",
        enable_hr=True,
        firstphase_width=64,
        firstphase_height=32,
        width=128,
        height=64,
        hr_sampler_name="Use same sampler",
        hr_scheduler="Karras",
        hr_cfg=3,
        steps=1,
    )
    request = last(app).request
    assert (request.width, request.height, request.hires_width) == (64, 32, 128)
    assert (request.hires_sampler, request.hires_spacing) == (None, "karras")
    none = ask(app, prompt="a", steps=1, send_images=False)
    assert none["images"] == []
    for name, start in (("jpeg", b"\xff\xd8"), ("webp", b"RIFF")):
        answer = ask(app, prompt="a", steps=1, override_settings={"samples_format": name})
        assert base64.b64decode(answer["images"][0]).startswith(start)


def test_what_is_ignored_is_said(app):
    answer = ask(
        app,
        prompt="a noted cat",
        steps=1,
        restore_faces=True,
        styles=["x"],
        refiner_checkpoint="r",
        override_settings={"sd_vae": "soft", "x": 1, "y": None},
        alwayson_scripts={
            "ADetailer": {"args": [True, {}]},
            "roop": {"args": [False]},
            "ControlNet": {"args": [{"enabled": False}]},
        },
    )
    info = json.loads(answer["info"])
    assert info["ignored"].keys() == {
        "restore_faces",
        "styles",
        "refiner_checkpoint",
        "override_settings.x",
        "alwayson_scripts.ADetailer",
    }
    assert info["warnings"] == ["a note"]
    assert last(app).vae == "soft"
    found = app.get("/api/pictures").json()["pictures"][0]
    assert [found["id"]] == info["pictures"]  # it is in the gallery


def test_masks_are_fitted_and_turned(app):
    half = Image.new("L", (16, 16))
    half.paste(255, (0, 0, 8, 16))
    data = io.BytesIO()
    half.save(data, "PNG")
    mask = base64.b64encode(data.getvalue()).decode()
    ask(
        app,
        "img2img",
        init_images=["data:image/png;base64," + picture()],
        mask=mask,
        steps=1,
        inpainting_mask_invert=1,
        inpainting_fill=2,
        inpaint_full_res=False,
        resize_mode=2,
    )
    task = last(app)
    assert (task.request.content, task.request.only_masked) == ("noise", False)
    assert task.request.resize == "fill"
    turned = Image.open(task.inputs["mask"]).convert("L")
    assert turned.size == (32, 32)
    assert (turned.getpixel((1, 1)), turned.getpixel((30, 30))) == (0, 255)
    with reading(app.server.database) as connection:  # they are the job's, and no uploads
        assert connection.scalar(select(func.count()).select_from(uploads)) == 0
    ask(app, "img2img", init_images=[picture(), picture(colour="blue")], steps=1, seed=4, n_iter=2)
    tasks = app.server.worker.tasks[-4:]
    assert [task.request.seed for task in tasks] == [4, 5, 6, 7]
    assert tasks[0].inputs == tasks[2].inputs != tasks[1].inputs


REFUSED = {
    "a sampler that is none": ("txt2img", {"sampler_name": "x"}),
    "a scheduler that is none": ("txt2img", {"scheduler": "x"}),
    "a script that is none": ("txt2img", {"script_name": "../x.py"}),
    "a negative seed": ("txt2img", {"seed": -2}),
    "a seed that is huge": ("txt2img", {"seed": 2**64}),
    "too many pictures": ("txt2img", {"batch_size": 8, "n_iter": 8}),
    "too many pixels": ("txt2img", {"width": 8192, "height": 8192}),
    "too many pixels in two passes": (
        "txt2img",
        {"enable_hr": True, "width": 1024, "height": 1024, "hr_scale": 8},
    ),
    "too many steps": ("txt2img", {"steps": 999}),
    "a model by its path": (
        "txt2img",
        {"override_settings": {"sd_model_checkpoint": "../../etc/passwd"}},
    ),
    "an upscaler by its path": ("txt2img", {"enable_hr": True, "hr_upscaler": "/etc/passwd"}),
    "a LoRA by its path": ("options", {"sd_model_checkpoint": "/etc/passwd"}),
    "options that are huge": ("options", {"x": "y" * 300_000}),
    "an option of a wrong type": ("options", {"CLIP_stop_at_last_layers": "many"}),
    "a format that is none": ("txt2img", {"override_settings": {"samples_format": "exe"}}),
    "no picture": ("img2img", {"prompt": "x"}),
    "an address": ("img2img", {"init_images": ["http://169.254.169.254/"]}),
    "a file's address": ("img2img", {"init_images": ["file:///etc/passwd"]}),
    "a path": ("img2img", {"init_images": ["/etc/passwd"]}),
    "a strength of nothing": ("img2img", {"init_images": ["AAAA"], "denoising_strength": 2}),
    "a unit without a model": ("txt2img", {"alwayson_scripts": {"ControlNet": {"args": [{}]}}}),
    "a unit with a path": (
        "txt2img",
        {"alwayson_scripts": {"controlnet": {"args": [{"model": "m", "image": "/etc/passwd"}]}}},
    ),
    "a unit of wrong types": (
        "txt2img",
        {"alwayson_scripts": {"controlnet": {"args": [{"model": "m", "weight": {}}]}}},
    ),
    "a preprocessor that is none": (
        "txt2img",
        {"alwayson_scripts": {"controlnet": {"args": [{"model": "m", "module": "x"}]}}},
    ),
    "scripts that are a list": ("txt2img", {"alwayson_scripts": []}),
    "an empty picture": ("png-info", {"image": ""}),
    "a picture that is none": ("interrogate", {"image": "AAAA"}),
    "a model that sees nothing": ("interrogate", {"image": "AAAA", "model": "deepdanbooru"}),
    "an upscaler that is none": ("extra-single-image", {"image": "", "upscaler_1": "x"}),
    "a broken model": ("txt2img", {"prompt": "broken"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_requests_are_refused_in_a1111_s_words(app, name):
    path, values = REFUSED[name]
    answer = app.post(f"/sdapi/v1/{path}", json=values)
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()
    assert error.keys() == {"error", "detail", "body", "errors"}
    assert error["detail"]
    assert "Traceback" not in answer.text
    assert len(answer.content) < 10_000
    assert app.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0


def test_nothing_of_a_refused_request_is_drawn(app):
    before = len(app.server.worker.tasks)
    depth = app.server.queue._check_depth
    calls = []

    def refuse_second(connection, client):
        calls.append(client)
        if len(calls) == 2:
            from fromnoise.serve.refusals import Refusal

            raise Refusal(429, "queue_full", "full", "", 1)
        return depth(connection, client)

    app.server.worker.held.clear()
    app.server.queue._check_depth = refuse_second
    try:
        answer = app.post("/sdapi/v1/txt2img", json={"prompt": "x", "n_iter": 3, "steps": 9})
    finally:
        app.server.queue._check_depth = depth
        app.server.worker.held.set()
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    limit = time.monotonic() + 10
    while app.get("/api/jobs?limit=1").json()["jobs"][0]["state"] in ("queued", "running"):
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert app.get("/api/jobs?limit=1").json()["jobs"][0]["state"] == "cancelled"
    assert len(app.server.worker.tasks) <= before + 1


def test_a_client_sees_and_stops_its_own_alone(make_server):
    worker = Recorder()
    client = make_server(worker, slots=3)  # one client alone cannot take all
    tokens = client.server.tokens
    ann, bob = (tokens.add(name, ["draw"]) for name in ("ann", "bob"))
    tokens.counted = (0.0, False)
    as_ann, as_bob = ("", ann), (bob, "")  # Basic: a token as the password, or as the user
    assert client.get("/sdapi/v1/options").status_code == 401
    assert client.get("/sdapi/v1/options", auth=("", "wrong")).status_code == 401
    assert client.post("/sdapi/v1/unload-checkpoint", auth=as_ann).status_code == 403
    worker.held.clear()
    answers = {}

    def draw(name, auth):
        values = {"prompt": name, "steps": 100, "n_iter": 2, "seed": 1}
        answers[name] = client.post("/sdapi/v1/txt2img", json=values, auth=auth)

    threads = [
        threading.Thread(target=draw, args=(n, a)) for n, a in (("ann", as_ann), ("bob", as_bob))
    ]
    try:
        for thread in threads:
            thread.start()
        for auth in (as_ann, as_bob):
            limit = time.monotonic() + 30
            while True:
                told = client.get("/sdapi/v1/progress", auth=auth).json()
                if told["state"]["job_count"] == 2 and told["textinfo"] is None:  # it is drawn
                    break
                assert time.monotonic() < limit
                time.sleep(0.1)
            assert told["progress"] > 0
        client.post("/sdapi/v1/skip", auth=as_ann)
        client.post("/sdapi/v1/interrupt", auth=as_bob)
    finally:
        worker.held.set()
    for thread in threads:
        thread.join(10)
    told = {name: json.loads(answer.json()["info"]) for name, answer in answers.items()}
    assert told["ann"]["all_seeds"] == [2]  # the first batch was skipped
    assert answers["bob"].json()["images"] == []
    assert told["bob"]["interrupted"]
    # options are each client's own
    client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "other"}, auth=as_ann)
    assert client.get("/sdapi/v1/options", auth=as_bob).json()["sd_model_checkpoint"] == "fromnoise"
    assert client.get("/sdapi/v1/options", auth=as_ann).json()["sd_model_checkpoint"] == "other"


def test_progress_has_steps_and_a_picture(app):
    worker, answers = app.server.worker, []
    worker.seconds = 0.05
    values = {"prompt": "a", "steps": 40}
    thread = threading.Thread(
        target=lambda: answers.append(app.post("/sdapi/v1/txt2img", json=values))
    )
    thread.start()
    try:
        limit = time.monotonic() + 20
        while not (told := app.get("/sdapi/v1/progress").json())["current_image"]:
            assert time.monotonic() < limit
            time.sleep(0.01)
    finally:
        worker.seconds = 0.0
        thread.join(20)
    assert 0 < told["progress"] < 1
    assert told["state"]["sampling_steps"] == 40
    assert Image.open(io.BytesIO(base64.b64decode(told["current_image"]))).format == "PNG"
    assert answers[0].status_code == 200


def test_the_bundled_model_draws_what_the_library_draws(make_server, folder):
    from fromnoise.api import load
    from fromnoise.serve.work.drawing import EngineWorker

    client = make_server(EngineWorker(Settings(folder)))
    asked = {
        "prompt": "a neon cat in space",
        "seed": 3,
        "steps": 2,
        "sampler_name": "Euler a",
        "cfg_scale": 3,
    }
    answer = client.post("/sdapi/v1/txt2img", json=asked)
    assert answer.status_code == 200, answer.text
    engine = load()
    alone = engine.generate(
        "a neon cat in space", seed=3, steps=2, sampler="euler_a", cfg=3, spacing="automatic"
    )
    drawn = Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0])))
    assert drawn.tobytes() == alone.tobytes()
    info = json.loads(answer.json()["info"])
    assert info["infotexts"] == [alone.info["parameters"]]
    assert (info["sampler_name"], info["steps"], info["cfg_scale"]) == ("Euler a", 2, 3)
    image = answer.json()["images"][0]
    seen = client.post("/sdapi/v1/interrogate", json={"image": image}).json()["caption"]
    assert seen == engine.describe(alone, top=1)[0].caption
    larger = client.post(
        "/sdapi/v1/extra-single-image", json={"image": image, "upscaler_1": "Lanczos"}
    ).json()
    twice = Image.open(io.BytesIO(base64.b64decode(larger["image"])))
    assert twice.size == (2 * alone.width, 2 * alone.height)
    assert twice.info["parameters"].startswith(alone.info["parameters"])
