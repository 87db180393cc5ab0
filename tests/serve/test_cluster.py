"""Replicas on Ray: one that is killed in the middle of its pictures costs a retry, nothing else."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import kills
import psycopg
import pytest

from fromnoise.errors import BadInput
from fromnoise.serve.cluster import count_replicas, read_replicas, run_cluster
from fromnoise.serve.settings import Settings

HERE = Path(__file__).parent
SECONDS = 240  # until the test gives up; it takes about 20 on an idle machine


@pytest.fixture
def ray_folder():
    """Ray's own files: sockets, whose paths must be short."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'fromnoise[cluster]'")
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(postgresql, folder, ray_folder):
    """(a Trial of kills.py whose server is two replicas, a connection to its database)."""
    with psycopg.connect(postgresql.format("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE ray")
    trial = kills.Trial(folder, postgresql.format("ray"))
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, HERE / "serve_fake_cluster.py", folder, trial.url, trial.port]
    with (folder / "log").open("w") as log:
        trial.process = subprocess.Popen(
            [*map(str, command)],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": paths, "RAY_TMPDIR": ray_folder},
            start_new_session=True,
        )
    try:
        with psycopg.connect(trial.url, autocommit=True) as connection:
            yield trial, connection
        trial.process.send_signal(signal.SIGTERM)
        assert trial.process.wait(60) == 0
    except BaseException:
        print((folder / "log").read_text()[-5000:])
        raise
    finally:
        if trial.process.poll() is None:
            os.killpg(trial.process.pid, signal.SIGKILL)


def test_a_killed_replica_costs_a_retry_and_nothing_else(cluster, tmp_path):
    trial, connection = cluster
    limit = time.monotonic() + SECONDS
    trial.insist("GET", "/api/health")
    chance = kills.random.Random(1)
    for i in range(30):
        trial.submit(i % 3, i, chance)
    owners = set()
    while len(owners) < 2:
        rows = connection.execute("SELECT DISTINCT owner FROM jobs WHERE owner IS NOT NULL")
        owners |= {row[0] for row in rows}
        assert time.monotonic() < limit, owners
    query = "SELECT owner FROM jobs WHERE state = 'running' AND owner IS NOT NULL LIMIT 1"
    while (row := connection.execute(query).fetchone()) is None:
        assert time.monotonic() < limit
    os.kill(int(row[0].split("-")[-2]), signal.SIGKILL)
    attempts = trial.check(lambda settings: kills.expect_fake(settings, tmp_path))
    assert sum(attempts.values()) == 30
    assert 1 <= sum(attempts.values()) - attempts[1] <= 2, attempts  # what it was drawing
    assert Counter(attempts).keys() <= {1, 2}


def test_what_replicas_cannot_share_is_refused(tmp_path):
    url = "postgresql://x@127.0.0.1/x"
    for settings, word in (
        (Settings(tmp_path), "postgresql://"),
        (Settings(tmp_path, url, port=0), "--port"),
        (Settings(tmp_path, url, device="cuda:1"), "--device cuda"),
    ):
        with pytest.raises(BadInput) as error:
            run_cluster(settings, None, print, "info")  # type: ignore[arg-type]
        assert word in error.value.remedy


def test_replicas_follow_the_queue():
    assert read_replicas("3") == (3, 3)
    assert read_replicas("1-8") == (1, 8)
    for bad in ("", "0", "x", "3-2", "1-", "-1", "5000"):
        with pytest.raises(BadInput):
            read_replicas(bad)

    def ask(told, target=2):
        context = SimpleNamespace(
            aggregated_metrics=told,
            target_num_replicas=target,
            capacity_adjusted_min_replicas=1,
            capacity_adjusted_max_replicas=4,
        )
        return count_replicas(context)[0]

    assert ask({"wanted": {"a": 3.0, "b": 2.2}}) == 3
    assert ask({"wanted": {"a": 0.0}}) == 1
    assert ask({"wanted": {"a": 99.0}}) == 4
    assert ask({}) == ask(None) == 2  # nothing is known yet
