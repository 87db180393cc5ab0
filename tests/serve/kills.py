"""kill −9 at random moments: clients submit jobs while the server is killed again and again. Every
job that was accepted must end exactly once, with the pictures of an undisturbed run."""

import contextlib
import http.client
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


def find_port():
    """A free port below those that the system gives to clients: one of these, asking for a server
    that is away, could get the server's own port and be connected with itself."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


@dataclass
class Trial:
    """A server that is killed and started again, and what its clients were promised."""

    folder: Path
    url: str
    seconds: str = "0.01"  # of a step; "bundled": the model itself
    port: int = field(default_factory=find_port)
    process: subprocess.Popen | None = None
    accepted: dict = field(default_factory=dict)  # key → (id, settings) as they were answered

    def start(self):
        command = [sys.executable, HERE / "serve_fake.py", self.folder, self.url, self.port]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [*map(str, command), self.seconds], stdout=log, stderr=log
            )

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def ask(self, method, path, body=None, headers=None):
        """(status, JSON). Raises OSError and HTTPException where the server is away."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(
                method, path, data, {"Content-Type": "application/json"} | (headers or {})
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def insist(self, method, path, body=None, headers=None):
        """As `ask`, again and again until the server answers."""
        limit = time.monotonic() + 600
        while time.monotonic() < limit:
            try:
                return self.ask(method, path, body, headers)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text()[-3000:])

    def submit(self, client, number, chance):
        """Submits one job with a key, as often as it takes; every second one without a seed."""
        key = f"{client}-{number}-{secrets.token_hex(4)}"
        body = {"prompt": f"a cat of client {client}", "steps": chance.randint(2, 8)}
        body |= {"count": chance.randint(1, 2)} | ({"seed": number} if number % 2 else {})
        status, job = self.insist("POST", "/api/generate", body, {"Idempotency-Key": key})
        assert status in (200, 202), job
        self.accepted[key] = job["id"], job["settings"]

    def check(self, expect):
        """Waits until all jobs have ended, and compares them with what was promised. expect: the
        settings of a job → the hashes of its pictures. Returns how often jobs were begun."""
        limit = time.monotonic() + 900
        while True:
            health = self.insist("GET", "/api/health")[1]["jobs"]
            if not health["queued"] and not health["running"]:
                break
            assert time.monotonic() < limit, health
            time.sleep(0.1)
        assert {k: n for k, n in health.items() if n} == {"done": len(self.accepted)}
        attempts, pictures = Counter(), 0
        for identifier, settings in self.accepted.values():
            job = self.insist("GET", f"/api/jobs/{identifier}")[1]
            assert job["state"] == "done", job
            assert job["settings"] == settings, "seeds have changed since the acceptance"
            assert [p["index"] for p in job["pictures"]] == [*range(settings.get("count", 1))]
            assert [p["hash"] for p in job["pictures"]] == expect(settings)
            attempts[job["attempts"]] += 1
            pictures += len(job["pictures"])
        kept = self.insist("GET", "/api/pictures?limit=200")[1]["pictures"]
        assert len({(p["job"], p["index"]) for p in kept}) == len(kept)
        assert len(kept) == min(pictures, 200)
        return attempts


def expect_fake(settings, folder):
    """The hashes of what the fake worker draws for a job, undisturbed."""
    from fake_worker import FakeWorker

    from fromnoise.pipeline.request import GenerationRequest
    from fromnoise.serve.store.files import Files
    from fromnoise.serve.work.worker import Task

    request = GenerationRequest.of(**settings)
    task = Task("generate", "fromnoise", request)
    drawn = FakeWorker().draw(task, lambda progress: None)
    return [Files(folder).add_picture(picture)[0] for picture in drawn]


def run_trial(trial, kills, clients, jobs, expect, seed=0, pause=1.5):
    """`clients` threads submit `jobs` each, and the server is killed `kills` times, at most `pause`
    seconds after it answers. Returns how often jobs were begun."""
    chance = random.Random(seed)
    trial.start()
    trial.insist("GET", "/api/health")
    errors = []

    def submit_all(client):
        try:
            mine = random.Random(client)
            for number in range(jobs):
                trial.submit(client, number, mine)
                time.sleep(mine.random() * 0.2)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=submit_all, args=(i,)) for i in range(clients)]
    [thread.start() for thread in threads]
    for _ in range(kills):
        time.sleep(chance.random() * pause)
        trial.kill()
        trial.start()
        trial.insist("GET", "/api/health")
    [thread.join() for thread in threads]
    assert not errors, errors[0]
    assert len(trial.accepted) == clients * jobs
    attempts = trial.check(expect)
    trial.stop()
    return attempts
