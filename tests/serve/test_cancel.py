"""A job that is cancelled, or too late: the network is not called again, and its slot is free."""

import threading
import time
from pathlib import Path

import fakes
import pytest
from PIL import Image

from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.serve.settings import Settings
from fromnoise.serve.work.drawing import EngineWorker

STEPS = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cancel")
    diffusers_folder_save.save(fakes.model(folder / "w", vision=False), folder / "tiny")
    return str(folder / "tiny")


class Gate:
    """Counts the rows of each call of the network, and holds the k-th one until `open` is set."""

    def __init__(self, worker, hold):
        self.calls, self.hold = [], hold
        self.reached, self.open = threading.Event(), threading.Event()
        [entry] = worker.engines.shelf.list_entries().values()
        entry.value.model.unet.register_forward_pre_hook(self.count)

    def count(self, network, arguments):
        self.calls.append(len(arguments[0]))
        if len(self.calls) == self.hold:
            self.reached.set()
            assert self.open.wait(60)


def ask(client, **values):
    values = {"prompt": "a cat", "seed": 1, "steps": STEPS, "cfg": 1.0, "sampler": "heun"} | values
    answer = client.post("/api/generate", json=values)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def wait(client, job):
    limit = time.monotonic() + 120
    while (found := client.get(f"/api/jobs/{job}").json())["finished"] is None:
        assert time.monotonic() < limit, found
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("slots", [1, 4])
def test_no_call_comes_after_the_one_that_runs_and_the_next_job_begins(
    make_server, folder, model, slots
):
    """Heun calls twice a step: the second call of the step is not made either."""
    worker = EngineWorker(Settings(folder, model=model, slots=slots))
    worker.load(Path(model).name)  # which is what clients call it
    client = make_server(worker, model=model, slots=slots, folder=folder / "data")
    gate = Gate(worker, hold=3)
    first = ask(client)
    assert gate.reached.wait(60)
    client.delete(f"/api/jobs/{first}")
    second = ask(client, steps=2, sampler="euler")
    gate.open.set()
    assert wait(client, first)["state"] == "cancelled"
    found = wait(client, second)
    assert (found["state"], found["attempts"]) == ("done", 1)
    assert len(gate.calls) == 3 + 2
    late = ask(client, deadline_seconds=0.3, steps=150)
    assert wait(client, late)["state"] == "expired"
    assert len(gate.calls) < 3 + 2 + 2 * 150
    before = len(gate.calls)
    assert wait(client, ask(client, steps=2, sampler="euler"))["state"] == "done"
    assert len(gate.calls) == before + 2


def test_one_of_many_that_share_calls_leaves_and_the_others_go_on(make_server, folder, model):
    worker = EngineWorker(Settings(folder, model=model, slots=4))
    worker.load(Path(model).name)  # which is what clients call it
    client = make_server(worker, model=model, slots=4, folder=folder / "data")
    alone = [wait(client, ask(client, steps=8, seed=seed)) for seed in (2, 3)]
    gate = Gate(worker, hold=12)
    jobs = [ask(client, seed=1), *(ask(client, steps=8, seed=seed) for seed in (2, 3))]
    assert gate.reached.wait(60)
    client.delete(f"/api/jobs/{jobs[0]}")
    gate.open.set()
    assert wait(client, jobs[0])["state"] == "cancelled"
    for job, before in zip(jobs[1:], alone, strict=True):
        found = wait(client, job)
        assert found["state"] == "done"
        assert found["pictures"][0]["hash"] == before["pictures"][0]["hash"]
        path = client.server.files.path("pictures", found["pictures"][0]["hash"])
        with Image.open(path) as picture:
            assert picture.size == (32, 32)
    assert not worker.batcher.active
