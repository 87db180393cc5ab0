"""What the tests of the server share: both databases, a fake worker, a client without a network."""

import itertools
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
NUMBERS = itertools.count()


def find_postgresql() -> Path | None:
    """The folder of PostgreSQL's programs; Debian keeps them out of the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), Path()).parent


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a throw-away cluster, without a database's name. It runs as a user without
    rights, because PostgreSQL refuses root."""
    programs = find_postgresql()
    if not (programs / "initdb").exists():
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    who = {}
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path must be short
    if who:
        os.chown(folder, who["user"], who["group"])

    def run(program, *args):
        command = [str(programs / program), *map(str, args)]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **who)

    try:
        data = folder / "data"
        run(
            "initdb",
            "-D",
            data,
            "-U",
            "fromnoise",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )
        # of the tests no data has to survive a power cut
        options = f"-c listen_addresses='' -k {folder} -c fsync=off -c max_connections=200"
        run("pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start")
        try:
            yield f"postgresql://fromnoise@/{{}}?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'queue.sqlite'}"
    import psycopg

    pattern = request.getfixturevalue("postgresql")
    name = f"test{next(NUMBERS)}"
    with psycopg.connect(pattern.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return pattern.format(name)


@pytest.fixture
def database(url):
    """An open database."""
    from fromnoise.serve.database.opening import open_database

    engine = open_database(url)
    yield engine
    engine.dispose()


@pytest.fixture
def make_server(tmp_path):
    """`make_server(worker, **settings)` → a client of a started server, without a network; it has
    the server as `client.server`."""
    from fake_worker import FakeWorker
    from fastapi.testclient import TestClient

    from fromnoise.serve.app import make_app
    from fromnoise.serve.server import Server
    from fromnoise.serve.settings import Settings

    opened = []

    def make(worker=None, **settings):
        settings = {"folder": tmp_path / "data", "drain_seconds": 5.0} | settings
        server = Server(Settings(**settings), worker or FakeWorker())
        client = TestClient(
            make_app(server), "http://127.0.0.1:8188", raise_server_exceptions=False
        )
        client.server = server
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_server):
    return make_server()
