"""The same application on Ray Serve: replicas on many machines with one queue in PostgreSQL.

A replica is a whole server of its own. Ray starts it, starts another one where it dies, and spreads
requests over all of them. Its jobs then go to the others, as those of any server that dies."""

import asyncio
import logging
import math
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from fromnoise.errors import BadInput, NotFound
from fromnoise.serve.app import make_app
from fromnoise.serve.database.opening import open_database
from fromnoise.serve.running import refuse_open_door
from fromnoise.serve.safety.tokens import Tokens
from fromnoise.serve.seeing import set_up_logs
from fromnoise.serve.server import Server
from fromnoise.serve.settings import Settings
from fromnoise.serve.work.runner import catch_warnings
from fromnoise.serve.work.worker import Worker

NAME = "fromnoise"
OBJECTS = 100 << 20  # bytes that Ray keeps for passing objects on: pictures do not go that way
CALM = 60.0  # seconds of less work until a replica ends
log = logging.getLogger("fromnoise.serve")


class Replica:
    """One server, as Ray runs it."""

    def __init__(self, settings: Settings, make_worker: Callable[[Settings], Worker], level: str):
        set_up_logs(level)
        catch_warnings().__enter__()  # for as long as the process lives
        self.server = Server(settings, make_worker(settings))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(self.server)

    def check_health(self) -> None:
        """Ray replaces a replica where this raises."""
        if not all(thread.is_alive() for thread in self.server.runner.threads):
            raise RuntimeError("this replica does not draw")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """How many replicas the jobs of the queue would keep busy."""
        states = await asyncio.to_thread(self.server.queue.count_states)
        jobs = states["queued"] + states["running"]
        return {"wanted": math.ceil(jobs / self.server.settings.slots)}


def count_replicas(context: Any) -> tuple[int, dict[str, Any]]:
    """Ray's question how many replicas there are to be: as many as the queue keeps busy. Every
    replica sees the same queue; the largest answer is the newest one where they differ."""
    told = (context.aggregated_metrics or {}).get("wanted", {})
    wanted = math.ceil(max(told.values(), default=context.target_num_replicas))
    low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return min(max(wanted, low), high), {}


def read_replicas(text: str) -> tuple[int, int]:
    """ "2" or "1-8" → the least and the most replicas. Raises BadInput."""
    low, dash, high = text.partition("-")
    try:
        found = int(low), int(high) if dash else int(low)
    except ValueError:
        found = 0, 0
    if not 1 <= found[0] <= found[1] <= 1000:
        raise BadInput(f"--replicas {text[:20]!r} is no number", "give one, as 2, or two, as 1-8")
    return found


def run_cluster(
    settings: Settings,
    make_worker: Callable[[Settings], Worker],
    tell: Callable[[str], Any],
    level: str,
    replicas: str = "",
) -> None:
    """Serves on Ray until a signal: on the cluster that RAY_ADDRESS names, else on one that is
    started here for it. replicas: see `read_replicas`; "": one for each GPU, or one. Raises
    BadInput where it cannot start, and NotFound where Ray is not installed."""
    refuse_settings(settings)
    set_up_logs(level)
    database = open_database(settings.url)
    refuse_open_door(settings, Tokens(database))
    database.dispose()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
    try:
        import ray
        from ray import serve
        from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, HTTPOptions
    except ImportError as error:
        raise NotFound(
            f"--cluster needs packages that are not installed ({error.name})",
            "install them: pip install 'fromnoise[serve,cluster]'",
        ) from error
    own: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        # on this machine alone: whoever reaches Ray's ports can run programs
        own = {"include_dashboard": False, "object_store_memory": OBJECTS}
        own |= {"_node_ip_address": "127.0.0.1"}
        # a machine that also draws may be slow to start Ray's HTTP, and would be given up
        for check in ("READY", "HEALTH"):
            os.environ.setdefault(f"RAY_SERVE_PROXY_{check}_CHECK_TIMEOUT_S", "60")
    ray.init(logging_level=logging.WARNING, **own)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        low, high = read_replicas(replicas or str(max(gpus, 1) if on_gpu(settings) else 1))
        more: dict[str, Any] = {"num_replicas": low}
        if low < high:
            scaling = AutoscalingConfig(
                min_replicas=low,
                max_replicas=high,
                look_back_period_s=5.0,
                upscale_delay_s=5.0,
                downscale_delay_s=CALM,
                policy=AutoscalingPolicy(policy_function=f"{__name__}:count_replicas"),
            )
            more = {"autoscaling_config": scaling}
        deployment: Any = serve.deployment(
            serve.ingress(None)(Replica),
            name=NAME,
            ray_actor_options={"num_gpus": 1} if on_gpu(settings) else {"num_cpus": 1},
            max_ongoing_requests=settings.limits.connections,
            graceful_shutdown_timeout_s=settings.drain_seconds + 15,
            health_check_period_s=5.0,
            **more,
        )
        serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))
        end = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: end.set())
        serve.run(deployment.bind(settings, make_worker, level), name=NAME, route_prefix="/")
        tell(f"http://{settings.host}:{settings.port}")
        end.wait()
        serve.delete(NAME)
        if own:
            serve.shutdown()
    finally:
        ray.shutdown()


def on_gpu(settings: Settings) -> bool:
    """Whether replicas draw on a GPU each."""
    return settings.device.startswith("cuda")


def refuse_settings(settings: Settings) -> None:
    """Raises BadInput for what replicas cannot share."""
    if settings.url.startswith("sqlite"):
        raise BadInput(
            "replicas on several machines cannot share an SQLite file",
            "give --database postgresql://user@host/name",
        )
    if settings.device not in ("cpu", "cuda"):
        raise BadInput(
            f"replicas cannot choose {settings.device}", "give --device cuda: each gets a GPU"
        )
    if not settings.port:
        raise BadInput("replicas cannot look for a free port", "give --port")
