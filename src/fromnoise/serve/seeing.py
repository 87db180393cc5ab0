"""Metrics for Prometheus, and logs as lines of JSON with the id of the request."""

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
request_id: ContextVar[str] = ContextVar("request_id", default="")


class Metrics:
    """The figures of one server. Nothing of it leaves the machine unless somebody asks."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory and processor time of this process
        PlatformCollector(registry=registry)

        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"fromnoise_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"fromnoise_{name}", text, labels, registry=registry)

        def times(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"fromnoise_{name}", text, labels, buckets=SECONDS, registry=registry)

        self.jobs = gauge("jobs", "Jobs by state, of all servers of the database", "state")
        self.accepted = count("jobs_accepted", "Jobs taken into the queue", "dialect", "kind")
        self.ended = count("jobs_ended", "Jobs that this server ended", "state")
        self.refused = count("requests_refused", "Requests that were refused", "code")
        self.pictures = count("pictures", "Pictures that were drawn")
        self.step_seconds = times("step_seconds", "From one step of a run to the next")
        self.job_seconds = times("job_seconds", "From the acceptance of a job to its end")
        self.batch = Histogram(
            "fromnoise_batch_size",
            "Requests that shared one call of the network",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
        self.requests = count("http_requests", "Requests of HTTP", "method", "route", "status")
        self.request_seconds = times("http_seconds", "Time to a response's start", "route")
        self.streams = gauge("streams", "Open streams of events")
        self.memory = gauge("memory_bytes", "Bytes of loaded models, and on the GPU", "what")

    def render(self, states: dict[str, int], memory: dict[str, int]) -> bytes:
        """The figures in Prometheus's text format."""
        for state, number in states.items():
            self.jobs.labels(state).set(number)
        for what, size in memory.items():
            self.memory.labels(what).set(size)
        return generate_latest(self.registry)


class JsonLines(logging.Formatter):
    """A record as one line of JSON. json.dumps escapes what could break the line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identifier := request_id.get():
            line["request"] = identifier
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logs(level: str = "info") -> None:
    """Sends all logs to standard error as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # the server's own middleware tells of requests
    logging.getLogger("alembic").setLevel("WARNING")
