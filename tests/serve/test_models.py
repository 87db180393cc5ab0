"""Models that stay loaded within a budget: shared while they load, let go when they are idle; LoRA
and VAEs of one request; files that are broken."""

import gc
import shutil
import threading
import time
import weakref
from pathlib import Path

import fakes
import loras
import psutil
import pytest
from safetensors.torch import load_file, save_file

from fromnoise.api import load
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.checkpoints.formats.vae import replace_vae
from fromnoise.errors import BadInput
from fromnoise.pipeline.addon_fields.addons import Addons
from fromnoise.serve.settings import Settings
from fromnoise.serve.work import addon_names
from fromnoise.serve.work.drawing import EngineWorker
from fromnoise.serve.work.engines import count_bytes, estimate, list_networks
from fromnoise.serve.work.shelf import Shelf, Wanted
from fromnoise.serve.work.worker import Stopped, build_task

SWITCHES = 45
KINDS = ("one", "two", "seeing")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three small models in folders of diffusers, and VAEs and LoRA, some of them broken."""
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        made = fakes.model(folder / kind, vision=kind == "seeing", steps=2, cfg=3.0)
        diffusers_folder_save.save(made, folder / "models" / "diffusers" / kind)
    vaes = folder / "models" / "vae"
    vaes.mkdir()
    own = load_file(folder / "models/diffusers/one/vae/diffusion_pytorch_model.safetensors")
    changed = {key: value.float() * 1.1 for key, value in own.items()}
    save_file(changed, vaes / "soft.safetensors")
    (vaes / "cut.safetensors").write_bytes((vaes / "soft.safetensors").read_bytes()[:900])
    loras = folder / "models" / "lora"
    loras.mkdir()
    (loras / "broken.safetensors").write_bytes(b"no tensors are in here")
    broken = folder / "models" / "diffusers" / "torn"
    shutil.copytree(folder / "models/diffusers/one", broken)
    (broken / "unet" / "config.json").write_text("{")
    return folder / "models"


@pytest.fixture(autouse=True)
def library(written, monkeypatch, tmp_path):
    monkeypatch.setenv("FROMNOISE_MODELS", str(written))
    monkeypatch.setenv("HOME", str(tmp_path))
    return written


def make_worker(folder, name="one", budget=1 << 30, **settings):
    return EngineWorker(Settings(folder, model=f"diffusers/{name}", model_bytes=budget, **settings))


def make_task(name, **values):
    values = {"prompt": "a cat", "seed": 1, "steps": 2} | values
    return build_task("generate", f"diffusers/{name}", values, Path, 1e9)


def draw(worker, name, **values):
    return worker.draw(make_task(name, **values), lambda progress: None)[0]


def measure(worker, name):
    engine = worker.engines.take(f"diffusers/{name}")
    worker.engines.release(engine)
    return worker.memory()["models"]


def test_switches_leave_nothing_behind(folder):
    """A short form of `benchmarks/soak.py --switches 200`."""
    sizes = {name: measure(make_worker(folder), name) for name in KINDS}
    budget = sizes["one"] + sizes["two"]
    assert budget < sum(sizes.values())
    worker, seen, process = make_worker(folder, budget=budget), [], psutil.Process()
    resident = []
    for i in range(SWITCHES):
        engine = worker.engines.take(f"diffusers/{KINDS[i % 3]}")
        seen.append(weakref.ref(engine.model.unet))
        worker.engines.release(engine)
        del engine
        assert worker.memory()["models"] <= budget
        if i % 9 == 8:
            resident.append(process.memory_info().rss)
    gc.collect()
    alive = {ref() for ref in seen} - {None}
    assert len(alive) == len(worker.engines.shelf.list_entries()) < 3
    assert len({id(ref) for ref in seen}) == SWITCHES  # each switch did load
    assert resident[-1] < 1.05 * resident[1], resident


def test_the_one_that_was_used_the_longest_ago_goes(folder):
    worker = make_worker(folder)
    for name in ("one", "two", "one"):
        draw(worker, name)
    worker.engines.shelf.budget = worker.memory()["models"] + 1
    draw(worker, "seeing")
    loaded = {model.name: model.loaded for model in worker.models()}
    assert not loaded["diffusers/two"]
    assert loaded["diffusers/seeing"]
    listed = next(m for m in worker.models() if m.name == "diffusers/seeing")
    assert 0 < listed.memory <= worker.memory()["models"] <= worker.memory()["budget"]
    assert worker.unload("diffusers/seeing")
    assert not worker.unload("diffusers/seeing")


def test_headers_tell_the_memory_that_a_model_takes(library, folder):
    """A model is measured before it is loaded, so that room is made first."""
    for name in KINDS:
        for dtype in ("fp32", "bf16"):
            worker = make_worker(folder, name, dtype=dtype)
            engine = worker.engines.take(f"diffusers/{name}")
            assert worker.memory()["models"] == count_bytes(list_networks(engine.model))
            told = estimate(library / "diffusers" / name, dtype)
            assert told == pytest.approx(worker.memory()["models"], rel=0.02), (name, dtype)


def test_a_model_beyond_the_budget_is_refused_and_the_servers_own_is_not(folder, caplog):
    caplog.set_level("WARNING")  # a server of another test may have set its own
    worker = make_worker(folder, budget=1000)
    draw(worker, "one")
    assert "no model stays beside" in caplog.text
    with pytest.raises(BadInput, match="GB of memory"):
        draw(worker, "two")
    assert not worker.engines.shelf.waiting
    assert worker.memory()["models"] > 1000  # and its own one stayed
    draw(worker, "one")


def test_a_broken_model_is_an_error_of_its_request_alone(make_server, folder):
    worker = make_worker(folder, slots=2)
    client = make_server(worker, slots=2, model="diffusers/one")
    limit = time.monotonic() + 60
    ask = {"prompt": "a cat", "steps": 1, "seed": 1}

    def finish(**values):
        answer = client.post("/api/generate", json=ask | values)
        assert answer.status_code == 202, answer.text
        while (job := client.get(f"/api/jobs/{answer.json()['id']}").json())["finished"] is None:
            assert time.monotonic() < limit
            time.sleep(0.02)
        return job

    good = finish()
    assert good["state"] == "done"
    for values, word in (
        ({"model": "diffusers/torn"}, "config.json"),
        ({"vae": "cut"}, "cut.safetensors"),
        ({"addons": {"loras": [{"name": "broken"}]}}, "broken.safetensors"),
        ({"prompt": "a cat <lora:broken:1>"}, "broken.safetensors"),
    ):
        job = finish(**values)
        assert job["state"] == "failed"
        assert job["attempts"] == 1
        assert word in job["error"]["message"]
        assert job["error"]["remedy"]
    for values, word in (
        ({"model": "diffusers/none"}, "no model"),
        ({"model": "../torn"}, "no model"),
        ({"vae": "none"}, "no vae"),
        ({"vae": "/etc/passwd"}, "no vae"),
        ({"addons": {"loras": [{"name": "none"}]}}, "no lora"),
        ({"addons": {"embeddings": [{"name": "none"}]}}, "no embedding"),
        ({"addons": {"controls": [{"name": "none"}]}}, "no controlnet"),
        ({"prompt": "a cat <lora:none:1>"}, "no lora"),
    ):
        answer = client.post("/api/generate", json=ask | values)
        assert answer.status_code == 404, values
        assert word in answer.json()["error"]["message"]
    assert finish()["pictures"][0]["hash"] == good["pictures"][0]["hash"]
    assert client.get("/readyz").status_code == 200
    soft = finish(vae="soft")
    assert soft["settings"]["vae"] == "soft"
    assert "VAE: soft.safetensors" in soft["pictures"][0]["infotext"]
    assert soft["pictures"][0]["hash"] != good["pictures"][0]["hash"]
    names = {(addon["kind"], addon["name"]) for addon in client.get("/api/addons").json()}
    assert {("vae", "vae/soft.safetensors"), ("lora", "lora/broken.safetensors")} <= names
    assert client.post("/api/models/load", json={"name": "diffusers/two"}).json()[0]["memory"]
    assert all(m["users"] == 0 for m in client.get("/api/models").json())
    assert client.post("/api/models/unload", json={"name": "diffusers/two"}).status_code == 200
    assert client.post("/api/models/unload", json={"name": "none"}).status_code == 404
    assert 'fromnoise_memory_bytes{what="budget"}' in client.get("/metrics").text


def test_a_vae_of_a_request_draws_as_it_does_alone(library, folder):
    worker = make_worker(folder)
    plain = draw(worker, "one")
    drawn = draw(worker, "one", vae="soft")
    engine = load(library / "diffusers/one")
    replace_vae(engine.model, library / "vae/soft.safetensors")
    alone = engine.generate("a cat", seed=1, steps=2)
    assert drawn.tobytes() == alone.tobytes()
    assert drawn.tobytes() != plain.tobytes()
    assert draw(worker, "one").tobytes() == plain.tobytes()
    # the VAE is counted, kept, and goes alone
    entries = worker.engines.shelf.list_entries()
    assert [*entries] == [("diffusers/one", "soft"), ("diffusers/one",)]
    assert worker.memory()["models"] == sum(entry.bytes for entry in entries.values())
    assert worker.unload("diffusers/one")
    assert worker.memory()["models"] == 0


def test_preload(make_server, folder):
    worker = make_worker(folder)
    make_server(worker, model="diffusers/one", preload=("diffusers/none", "diffusers/seeing"))
    limit = time.monotonic() + 60
    while {m.name for m in worker.models() if m.loaded} != {"diffusers/one", "diffusers/seeing"}:
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_every_kind_of_addon_is_looked_for():
    assert {*addon_names.KINDS} == {*Addons.list_kinds()}


# --- the shelf itself


def want(name, size, load=None, always=False):
    return Wanted((name,), size, load or (lambda *before: (name, size)), always)


def test_what_loads_is_not_loaded_twice():
    shelf, begun, go, loads = Shelf(100), threading.Event(), threading.Event(), []

    def load(*before):
        loads.append(1)
        begun.set()
        assert go.wait(10)
        return "a", 10

    taken = []
    threads = [
        threading.Thread(target=lambda: taken.extend(shelf.take(want("a", 10, load))))
        for _ in range(4)
    ]
    [thread.start() for thread in threads]
    assert begun.wait(10)
    go.set()
    [thread.join(10) for thread in threads]
    assert (len(loads), len(taken), len({*map(id, taken)})) == (1, 4, 1)
    assert taken[0].users == 4


def test_a_newcomer_waits_while_all_are_in_use_and_is_not_overtaken():
    shelf, order = Shelf(100), []
    shelf.take(want("a", 80))

    def work(name):
        shelf.take(want(name, 80))
        order.append(name)
        shelf.release([(name,)])

    threads = [threading.Thread(target=work, args=("b",))]
    threads[0].start()
    limit = time.monotonic() + 10
    while not shelf.waiting:
        assert time.monotonic() < limit
        time.sleep(0.001)
    threads.append(threading.Thread(target=work, args=("a",)))  # it is loaded, and still waits
    threads[1].start()
    time.sleep(0.05)
    assert order == []
    shelf.release([("a",)])
    [thread.join(10) for thread in threads]
    assert order == ["b", "a"]
    assert shelf.bytes == 80
    shelf.take(want("a", 80))
    with pytest.raises(Stopped):
        shelf.take(want("b", 80), stopped=lambda: True)
    shelf.release([("a",)])
    assert not shelf.waiting


def test_a_load_that_fails_leaves_nothing():
    shelf = Shelf(100)

    def fail(*before):
        raise MemoryError

    with pytest.raises(MemoryError):
        shelf.take(want("a", 10), want("b", 10, fail))
    assert shelf.bytes == 0
    with pytest.raises(BadInput, match="larger --model-memory"):
        shelf.take(want("c", 0, lambda *before: ("c", 101)))  # larger than was thought
    assert shelf.bytes == 0
    with pytest.raises(BadInput):  # and now that is known before
        shelf.take(want("c", 0, fail))
    shelf.take(want("d", 200, always=True))
    shelf.release([("d",)])
    [small] = shelf.take(want("a", 10))
    assert [*shelf.list_entries()] == [("a",)]
    assert small.users == 1
    assert not shelf.drop(("a",))  # it is in use


KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_"}


@pytest.fixture
def tagged(library):
    """Three LoRA that fit the small models."""
    model = load(library / "diffusers/one").model
    for i in range(3):
        pairs = loras.make_pairs(model, loras.list_modules(model)[::5], seed=i)
        named = loras.write_kohya(pairs, lambda part, name: KOHYA[part] + name.replace(".", "_"))
        loras.save(library / "lora" / f"l{i}.safetensors", named)
    yield [f"a cat <lora:l{i}:0.5>" for i in range(3)]
    for i in range(3):
        (library / "lora" / f"l{i}.safetensors").unlink()


def test_copies_with_lora_are_in_the_budget_and_go_before_models(make_server, folder, tagged):
    worker = make_worker(folder)
    first = draw(worker, "one", prompt=tagged[0]).tobytes()
    copy = worker.memory()["copies"]
    assert copy > 0
    draw(worker, "two")
    models = worker.memory()["models"]
    shelf = worker.engines.shelf
    shelf.budget = models + copy + copy // 2
    # room for one copy: a second one takes the place of the first, and no model goes
    draw(worker, "one", prompt=tagged[1])
    assert worker.memory() == {"models": models, "copies": copy, "budget": shelf.budget}
    # one of another model takes the place of it too
    draw(worker, "two", prompt=tagged[0])
    rows = {model.name: model for model in worker.models()}
    assert rows["diffusers/one"].copies == 0
    assert rows["diffusers/two"].copies == copy
    assert worker.memory()["models"] == models
    # a model that is wanted comes before copies, as long as these suffice
    shelf.budget = models + copy
    draw(worker, "one", prompt=tagged[2])
    seeing = measure(make_worker(folder, "seeing"), "seeing")
    shelf.budget = models + seeing
    draw(worker, "seeing")
    assert worker.memory()["copies"] == 0
    assert {m.name for m in worker.models() if m.loaded} >= {f"diffusers/{kind}" for kind in KINDS}
    # where the copies do not suffice, an idle model goes as well
    shelf.budget = seeing + models // 2 + copy
    draw(worker, "seeing")
    draw(worker, "one", prompt=tagged[0])
    assert worker.memory()["models"] + worker.memory()["copies"] <= shelf.budget
    assert not {m.name: m.loaded for m in worker.models()}["diffusers/two"]
    assert draw(worker, "one", prompt=tagged[0]).tobytes() == first  # the bits are the same
    client = make_server(worker, model="diffusers/one")
    shown = {model["name"]: model["copies"] for model in client.get("/api/models").json()}
    assert shown["diffusers/one"] == copy
    assert client.get("/api/health").json()["memory"]["copies"] == copy
    assert client.get("/sdapi/v1/memory").json()["ram"]["copies"] == copy
    assert f'fromnoise_memory_bytes{{what="copies"}} {float(copy)}' in client.get("/metrics").text


def test_a_copy_in_use_counts_until_its_end(folder, tagged, caplog):
    """It may pass the budget by that: the log says so, and nothing stays of it."""
    caplog.set_level("WARNING")
    worker = make_worker(folder)
    models = measure(worker, "one")
    worker.engines.shelf.budget = models + 1000
    counted = []
    task = make_task("one", prompt=tagged[0])
    worker.draw(task, lambda progress: counted.append(worker.memory()["copies"]))
    assert min(counted) > 1000
    assert "a copy with LoRA passes the budget" in caplog.text
    gc.collect()
    assert worker.memory()["copies"] == 0
    assert worker.memory()["models"] == models
