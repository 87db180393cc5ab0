"""Two replicas on Ray with the fake worker: python serve_fake_cluster.py FOLDER URL PORT."""

import sys
from pathlib import Path

from fake_worker import make_slow_worker

from fromnoise.serve.cluster import run_cluster
from fromnoise.serve.settings import Limits, Settings

if __name__ == "__main__":
    folder, url, port = sys.argv[1:4]
    settings = Settings(
        Path(folder),
        url,
        port=int(port),
        slots=2,
        lease_seconds=2.0,
        drain_seconds=5.0,
        limits=Limits(depth=1000, depth_per_client=1000, requests_per_minute=1_000_000),
    )
    run_cluster(settings, make_slow_worker, lambda a: print(a, flush=True), "warning", "2")
