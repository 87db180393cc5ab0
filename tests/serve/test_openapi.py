"""The OpenAPI document: complete, and true of every answer (schemathesis tries what it allows)."""

import pytest
import schemathesis
from fake_worker import FakeWorker
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from fromnoise.pipeline.editing.request import EditRequest
from fromnoise.serve.app import make_app
from fromnoise.serve.server import Server
from fromnoise.serve.settings import Limits, Settings


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    limits = Limits(
        requests_per_minute=10**9, depth=10**6, depth_per_client=10**6, steps=8, count=2
    )
    folder = tmp_path_factory.mktemp("serve")
    names = ("testserver",)  # as schemathesis calls it
    server = Server(Settings(folder, names=names, limits=limits, drain_seconds=5.0), FakeWorker())
    server.start()  # two dialects answer when their pictures are drawn
    yield make_app(server)
    server.stop()


def test_answers_are_those_of_the_document(app):
    """No status of 5xx, and every answer has a status, a type and a shape that the document names.
    The files of uploads are left out: each starts a process. So is the stream of all jobs, which
    ends with the server. That a request may be refused which the document allows is right: models
    and limits are the server's own."""
    document = schemathesis.openapi.from_asgi("/openapi.json", app)
    document, tried = document.exclude(path="/api/uploads", method="POST"), 0
    for result in document.exclude(path="/api/events").get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=5,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[*HealthCheck],
            derandomize=True,
            database=None,
        )
        @given(case=operation.as_strategy())
        def check(case):
            case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=60)

        check()
        tried += 1
    assert tried > 60


def test_the_document_has_every_setting(app):
    document = app.openapi()
    body = document["components"]["schemas"]["EditBody"]
    missing = EditRequest.model_fields.keys() - body["properties"].keys()
    assert missing == {"max_cost"}
    for name, rules in body["properties"].items():
        if name in EditRequest.model_fields:
            assert rules.get("description"), f"{name} says nothing"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (path, method)
            if path.startswith("/api"):
                assert {"401", "422", "429"} <= operation["responses"].keys()
