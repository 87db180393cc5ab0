"""Time to first preview: from the moment a client sends POST /api/generate until it has the first
step with a preview, on a warm server with the bundled model.

python benchmarks/first_preview.py [--rounds 20] [--slots 8]: p50 and p95 of the wall
time, in parts, and the processor time that the server took until then, since what else the machine
does counts less there. Each job is cancelled after its first step."""

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
START = """
import sys
from pathlib import Path
from fromnoise.serve.running import run
from fromnoise.serve.settings import Settings
from fromnoise.serve.work.drawing import EngineWorker
settings = Settings(Path(sys.argv[1]), port=0, slots=int(sys.argv[2]))
run(settings, EngineWorker(settings), lambda address: print(address, flush=True), "warning")
"""


def read_cpu(process: int) -> float:
    """Seconds of the processor that a process took."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def ask(port: int, method: str, path: str, body: object = None) -> dict:
    """The JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def measure_one(port: int, seed: int, process: int) -> dict[str, float]:
    """Milliseconds until the job is accepted, begun, and seen for the first time, and of the
    processor until then."""
    cpu = read_cpu(process)
    begun = time.perf_counter()
    job = ask(port, "POST", "/api/generate", {"prompt": "a neon cat in space", "seed": seed})
    times = {"accepted": time.perf_counter() - begun}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", job["events"])
    stream, name = connection.getresponse(), ""
    while line := stream.readline().decode().strip("\n\r"):
        while line:
            if line.startswith("event: "):
                name = line[7:]
                times.setdefault(name, time.perf_counter() - begun)
            elif line.startswith("data: ") and name == "step":
                assert json.loads(line[6:])["preview"].startswith("data:image/webp")
                times["step"] = time.perf_counter() - begun
                times["cpu"] = read_cpu(process) - cpu
                connection.close()
                ask(port, "DELETE", f"/api/jobs/{job['id']}")
                return {part: seconds * 1000 for part, seconds in times.items()}
            line = stream.readline().decode().strip("\n\r")
    raise AssertionError("the stream ended before the first step")


def wait_for_end(port: int) -> None:
    """Waits until nothing is drawn."""
    while any(ask(port, "GET", "/api/health")["jobs"][state] for state in ("queued", "running")):
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--slots", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", START, folder, str(options.slots)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        try:
            while not ask(port, "GET", "/api/health")["ready"]:
                time.sleep(0.1)
            for seed in range(3):  # the first ones are not warm
                measure_one(port, seed, process.pid)
            rows = []
            for seed in range(options.rounds):
                wait_for_end(port)
                rows.append(measure_one(port, seed, process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    for part in ("accepted", "started", "step"):
        times = sorted(row[part] for row in rows if part in row)
        if times:
            p95 = times[min(round(0.95 * len(times)), len(times) - 1)]
            middle = statistics.median(times)
            what = {"step": "first preview (bar: 300)"}.get(part, part)
            print(f"{what}: p50 {middle:.0f} ms, p95 {p95:.0f} ms, least {times[0]:.0f} ms")
    cpu = statistics.mean(row["cpu"] for row in rows)
    print(f"processor time of the server until then: {cpu:.0f} ms on average of {len(rows)}")


if __name__ == "__main__":
    main()
