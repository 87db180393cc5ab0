"""What the tests of the server share: both databases, a fake worker, a client without a network."""

import itertools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from clusters import open_cluster

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a throw-away cluster, with {} for a database's name."""
    with open_cluster() as pattern:
        if pattern is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        yield pattern


@pytest.fixture
def folder(tmp_path):
    """An empty folder, in memory where that can be: no data of a test has to survive a power cut,
    and the server waits for the disk after each write."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="fromnoise-", dir=memory))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, folder):
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'queue.sqlite'}"
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
def make_server(folder):
    """`make_server(worker, **settings)` → a client of a started server, without a network; it has
    the server as `client.server`."""
    from fake_worker import FakeWorker
    from fastapi.testclient import TestClient

    from fromnoise.serve.app import make_app
    from fromnoise.serve.server import Server
    from fromnoise.serve.settings import Settings

    opened = []

    def make(worker=None, **settings):
        settings = {"folder": folder / "data", "drain_seconds": 5.0} | settings
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


@pytest.fixture
def client_of_each(make_server, url):
    """A client of a server on each of the databases."""
    return make_server(database=url)


@pytest.fixture
def still_clock(monkeypatch):
    """No bucket of rates fills up again, however long the requests take."""
    monkeypatch.setattr("fromnoise.serve.safety.clients.time", SimpleNamespace(monotonic=lambda: 9))
