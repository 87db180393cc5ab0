"""A server under mixed load for a long time: does it stay whole, and as small as it was?

    nice -n 19 python benchmarks/soak.py [--minutes 30] [--clients 6] [--seed 0]

The real server with the bundled model and two small ones, in a budget that holds two of the three.
Clients draw, edit, upload, cancel, look, sort, delete and export; they send what is wrong, and they
leave in the middle of streams and of uploads. It fails for an answer of 5xx, for memory that grows
by 5 % or more after the first fifth, for threads, files or streams that are left behind, and for an
accepted job that does not end. `--switches 200` only switches between models, in this process.
"""

import argparse
import contextlib
import gc
import http.client
import io
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests/serve"))
import fakes
import psutil
from kills import find_port
from loras import list_modules, make_pairs, save, write_kohya
from PIL import Image

from fromnoise.checkpoints.formats import diffusers_folder_save

GROWTH = 1.05
SETTLE = 600.0  # seconds that the last jobs may take
SAMPLERS = ("euler", "heun", "dpmpp_2m", "euler_a", "unipc", "lms", "ddim", "dpmpp_sde")
BAD = (
    b"{",
    b"[]",
    b'{"prompt": 3}',
    b'{"prompt": "x", "steps": -1}',
    b'{"prompt": "x", "width": 100}',
    b'{"prompt": "x", "cfg": NaN}',
    b'{"prompt": "x", "model": "../../etc"}',
    b'{"prompt": "x", "vae": "/etc/passwd"}',
    b'{"prompt": "x <lora:none:1>"}',
    b'{"prompt": "x", "sampler": "none"}',
    b'{"prompt": "x", "count": 99}',
    b'{"prompt": "x", "masks": {"a": "/etc/passwd"}}',
    b"[" * 500,
)


def write_models(folder: Path) -> None:
    """Two small models in a folder of models, with LoRA and a VAE for them."""
    for i, name in enumerate(("small", "other")):
        made = fakes.model(folder / "words" / name, vision=bool(i), steps=3, cfg=2.0)
        diffusers_folder_save.save(made, folder / "models" / "diffusers" / name)
    for place in ("lora", "vae"):
        (folder / "models" / place).mkdir()
    stems = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
    for seed, name in enumerate(("paper", "ink")):
        pairs = make_pairs(made, list_modules(made), seed=seed)
        spelled = write_kohya(pairs, lambda part, module: stems[part] + module.replace(".", "_"))
        save(folder / "models" / "lora" / f"{name}.safetensors", spelled)
    own = folder / "models/diffusers/small/vae/diffusion_pytorch_model.safetensors"
    shutil.copy(own, folder / "models" / "vae" / "soft.safetensors")


def make_picture(chance: random.Random) -> bytes:
    """A picture file of one colour, now and then no picture at all."""
    if chance.random() < 0.2:
        return chance.randbytes(2000)
    data = io.BytesIO()
    colour = tuple(chance.randrange(256) for _ in range(3))
    kind = chance.choice(["PNG", "JPEG", "WEBP"])
    Image.new("RGB", (chance.randint(40, 90), chance.randint(40, 90)), colour).save(data, kind)
    return data.getvalue()


class Load:
    """What clients do to a server, and what came back."""

    def __init__(self, port: int):
        self.port, self.stop = port, threading.Event()
        self.lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self.faults: list[str] = []
        self.accepted: list[str] = []

    def ask(self, method: str, path: str, body=None, headers=None, leave: int | None = None):
        """(status, bytes). leave: how many bytes of the answer are read before the client goes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        try:
            connection.request(
                method, path, data, {"Content-Type": "application/json"} | (headers or {})
            )
            answer = connection.getresponse()
            with self.lock:
                self.statuses[f"{method} {path.split('?')[0].split('/')[2]} {answer.status}"] += 1
                if answer.status >= 500:
                    self.faults.append(f"{method} {path}: {answer.status} {answer.read()[:300]!r}")
            return answer.status, answer.read() if leave is None else answer.read1(leave)
        finally:
            connection.close()

    def draw(self, chance: random.Random, kind: str = "generate", **more) -> str | None:
        """The id of an accepted job."""
        values = {
            "prompt": chance.choice(["a neon cat", "a red star AND a forest", "a [cat:dog:0.5]"]),
            "sampler": chance.choice(SAMPLERS),
            "steps": chance.randint(1, 5),
            "cfg": chance.choice([1.0, 3.0, 7.0]),
        } | more
        values |= {} if kind == "edit" else {"width": 64, "height": 64}
        if chance.random() < 0.3:
            values["model"] = chance.choice(["diffusers/small", "diffusers/other", "fromnoise"])
            if values["model"] != "fromnoise" and chance.random() < 0.5:
                lora = {"name": chance.choice(["paper", "ink"]), "weight": chance.choice([0.5, 1])}
                values["addons"] = {"loras": [lora]}
            elif values["model"] == "diffusers/small":
                values["vae"] = "soft"
        if chance.random() < 0.1:
            values["deadline_seconds"] = chance.choice([0.01, 5.0])
        return self.post(kind, values)

    def post(self, kind: str, values: dict | bytes) -> str | None:
        """The id of the job if it is accepted."""
        status, data = self.ask("POST", f"/api/{kind}", values)
        if status not in (200, 202):
            return None
        identifier = json.loads(data)["id"]
        with self.lock:
            self.accepted.append(identifier)
        return identifier

    def act(self, chance: random.Random) -> None:
        """One thing that a client does."""
        job = None
        match chance.randrange(14):
            case 0 | 1 | 2:
                job = self.draw(chance)
            case 3:
                if job := self.draw(chance, steps=12):
                    self.ask("DELETE", f"/api/jobs/{job}")
            case 4:
                if job := self.draw(chance):  # the whole stream
                    self.ask("GET", f"/api/jobs/{job}/events")
            case 5:
                if job := self.draw(chance, steps=10):  # the client goes in the middle
                    self.ask("GET", f"/api/jobs/{job}/events", leave=chance.choice([1, 200]))
            case 6:
                self.edit(chance)
            case 7:
                self.post("generate", chance.choice(BAD))  # a width is checked when the model loads
            case 8:
                self.upload_half(chance)
            case 9:
                path = "/api/pictures?limit=20&search=" + chance.choice(["cat", "steps:3", "none"])
                for picture in json.loads(self.ask("GET", path)[1])["pictures"][:2]:
                    self.ask("GET", picture["thumbnail"])
                    self.ask("GET", picture["file"])
            case 10:
                found = json.loads(self.ask("GET", "/api/pictures?limit=5")[1])["pictures"]
                for picture in found[2:3]:
                    path = f"/api/pictures/{picture['id']}"
                    self.ask("PATCH", path, {"favourite": True})
                    self.ask("DELETE", path)
            case 11:
                self.ask("GET", "/api/export?search=steps:2", leave=chance.choice([10, 10_000]))
            case 12:
                for path in ("models", "samplers", "health", "jobs?limit=5", "addons"):
                    self.ask("GET", f"/api/{path}")
            case 13:
                job = self.draw(chance, "hires", hires_scale=1.5, hires_steps=2, steps=2)
        if job and chance.random() < 0.5:
            self.ask("GET", f"/api/jobs/{job}")

    def edit(self, chance: random.Random) -> None:
        """Uploads a picture and changes it."""
        body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        body += make_picture(chance) + b"\r\n--x--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        status, data = self.ask("POST", "/api/uploads", body, kind)
        if status == 201:
            upload = json.loads(data)["id"]
            self.draw(chance, "edit", image=upload, strength=0.5, steps=3)
            if chance.random() < 0.5:
                self.ask("DELETE", f"/api/uploads/{upload}")

    def upload_half(self, chance: random.Random) -> None:
        """Begins an upload and goes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as one:
            head = f"POST /api/uploads HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 90000\r\n\r\n"
            one.sendall(head.encode() + chance.randbytes(chance.choice([0, 100, 40_000])))

    def run(self, seed: int) -> None:
        """Acts until the end."""
        chance = random.Random(seed)
        while not self.stop.is_set():
            try:
                self.act(chance)
            except Exception as error:
                with self.lock:
                    self.faults.append(repr(error))
            self.stop.wait(chance.random() * 0.5)


def look(process: psutil.Process) -> tuple[float, int, int]:
    """(MB of memory, threads, open files)."""
    return process.memory_info().rss / 1e6, process.num_threads(), process.num_fds()


def soak(minutes: float, clients: int, seed: int, folder: Path) -> None:
    """Runs it and prints the figures. Ends with a fault where a bar is not met."""
    write_models(folder)
    port, log = find_port(), folder / "log"
    command = "from fromnoise.cli.main import main; main()"
    options = ["serve", "--port", str(port), "--data", str(folder / "data"), "--slots", "4"]
    options += ["--model-memory", "0.08", "--log", "warning"]
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-c", command, *options],
            env=os.environ | {"FROMNOISE_MODELS": str(folder / "models"), "HOME": str(folder)},
            stdout=file,
            stderr=file,
        )
    load, process, begun = Load(port), psutil.Process(server.pid), time.monotonic()
    try:
        while True:
            with contextlib.suppress(OSError):
                if load.ask("GET", "/api/health")[0] == 200:
                    break
            if server.poll() is not None or time.monotonic() > begun + SETTLE:
                raise SystemExit(log.read_text()[-2000:])
            time.sleep(0.5)
        threads = [
            threading.Thread(target=load.run, args=(seed * 1000 + i,), daemon=True)
            for i in range(clients)
        ]
        seen, begun = [], time.monotonic()
        for thread in threads:
            thread.start()
        while (now := time.monotonic() - begun) < 60 * minutes and server.poll() is None:
            seen.append((now, *look(process)))
            if len(seen) % 12 == 0:
                size, count, files = seen[-1][1:]
                print(
                    f"{now / 60:5.1f} min: {size:.0f} MB, {count} threads, {files} files, "
                    f"{len(load.accepted)} jobs, {sum(load.statuses.values())} answers, "
                    f"{len(load.faults)} faults",
                    flush=True,
                )
            time.sleep(5)
        load.stop.set()
        for thread in threads:
            thread.join(SETTLE)
        report(load, process, seen, minutes)
    except BaseException:
        print(log.read_text()[-3000:])
        raise
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            print(f"it ended with {server.wait(60)}")
        except subprocess.TimeoutExpired:
            server.kill()
            print("it did not end")
    print(f"lines of its log: {Counter(map(shorten, log.read_text().splitlines()))}")


def shorten(line: str) -> str:
    """A line of the log without what differs from line to line."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return json.loads(line)["message"][:60]
    return line[:60]


def report(load: Load, process: psutil.Process, seen: list, minutes: float) -> None:
    """Waits for the last jobs, prints what was found and ends with a fault where a bar is not
    met."""
    limit, faults = time.monotonic() + SETTLE, load.faults[:]
    while True:
        health = json.loads(load.ask("GET", "/api/health")[1])
        if not health["jobs"]["queued"] and not health["jobs"]["running"]:
            break
        if time.monotonic() > limit:
            faults.append(f"jobs that do not end: {health['jobs']}")
            break
        time.sleep(1)
    states = Counter(read_state(load, identifier) for identifier in load.accepted)
    time.sleep(20)  # so that connections, and streams that were left, are noticed
    metrics = fetch_metrics(load.port)
    streams = float(metrics.split("\nfromnoise_streams ")[1].split()[0])
    size, threads, files = look(process)
    warm = [s for s in seen if s[0] > 12 * minutes]  # seconds: after the first fifth
    fifth = max(len(warm) // 5, 1)
    first, last = (statistics.median(s[1] for s in part) for part in (warm[:fifth], warm[-fifth:]))
    first_files = statistics.median(s[3] for s in warm[:fifth])
    first_threads = max(s[2] for s in warm[:fifth])
    print(f"answers: {dict(sorted(load.statuses.items()))}")
    print(f"{len(load.accepted)} accepted jobs: {dict(states)}")
    if dict(states) != (kept := {k: n for k, n in health["jobs"].items() if n}):
        faults.append(f"the queue has {kept}")
    print(
        f"memory: {first:.0f} MB after the first fifth, {last:.0f} MB at the end: "
        f"{last / first - 1:+.1%} (bar: below +5 %); idle then {size:.0f} MB"
    )
    print(f"threads: at most {first_threads} after the first fifth, {threads} at the end, idle")
    print(f"files: {first_files:.0f} after the first fifth, {files} at the end, idle")
    print(f"open streams at the end: {streams:.0f}; models {health['memory']}")
    ended = sum(states[state] for state in ("done", "failed", "cancelled", "expired"))
    for wrong, text in (
        (faults, f"faults: {faults[:5]}"),
        (ended != len(load.accepted), "an accepted job has not ended"),
        (last > GROWTH * first, "memory grows"),
        (streams, "streams are left"),
        (threads > first_threads + 2, "threads are left"),
        (files > first_files + 20, "files are left"),
    ):
        if wrong:
            raise SystemExit(text)


def read_state(load: Load, identifier: str) -> str:
    """A job's state; where there were too many requests of late, it waits."""
    while (answer := load.ask("GET", f"/api/jobs/{identifier}"))[0] == 429:
        time.sleep(2)
    return json.loads(answer[1])["state"]


def fetch_metrics(port: int) -> str:
    """The figures for Prometheus."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def switch(count: int, folder: Path) -> None:
    """Switches between three models of which two fit, and prints what memory does."""
    write_models(folder)
    os.environ |= {"FROMNOISE_MODELS": str(folder / "models"), "HOME": str(folder)}
    from fromnoise.serve.work.engines import Engines

    names, seen = ("fromnoise", "diffusers/small", "diffusers/other"), []
    engines, alive = Engines("fromnoise", "cpu", "fp32", 1 << 30), []
    for name in names:
        engine = engines.take(name)
        engines.release(engine)
    engines.shelf.budget = engines.shelf.bytes - 1
    for name in names:
        engines.drop(name)
    del engine
    for i in range(count):
        engine = engines.take(names[i % 3])
        alive.append(weakref.ref(engine.model.unet))
        engines.release(engine)
        del engine
        seen.append(psutil.Process().memory_info().rss / 1e6)
    gc.collect()
    left = len({ref() for ref in alive} - {None})
    warm = count // 5
    print(
        f"{count} switches, {len({*map(id, alive)})} loads: {left} models are left; "
        f"{seen[warm]:.0f} MB after {warm}, {seen[-1]:.0f} MB at the end: "
        f"{seen[-1] / seen[warm] - 1:+.1%} (bar: below +5 %)"
    )
    if left > 2 or seen[-1] > GROWTH * seen[warm]:
        raise SystemExit("memory grows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--switches", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.switches:
            switch(options.switches, Path(name))
        else:
            soak(options.minutes, options.clients, options.seed, Path(name))


if __name__ == "__main__":
    main()
