"""A server on the fake worker as a process of its own: python serve_fake.py FOLDER URL PORT
SECONDS. With SECONDS of "bundled" it draws with the bundled model."""

import sys
from pathlib import Path

from fake_worker import FakeWorker

from fromnoise.serve.running import run
from fromnoise.serve.settings import Limits, Settings

if __name__ == "__main__":
    folder, url, port, seconds = sys.argv[1:5]
    settings = Settings(
        Path(folder),
        url,
        port=int(port),
        slots=2,
        lease_seconds=1.5,
        drain_seconds=5.0,
        limits=Limits(
            depth=10_000,
            depth_per_client=10_000,
            requests_per_minute=1_000_000,
            attempts=1000,  # it is killed more often than the server's own limit allows for
        ),
    )
    if seconds == "bundled":
        from fromnoise.serve.work.drawing import EngineWorker

        worker = EngineWorker(settings)
    else:
        worker = FakeWorker(float(seconds))
    run(settings, worker, lambda address: print(address, flush=True), "warning")
