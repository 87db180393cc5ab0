"""The requests that are being drawn, each client's own: for progress, interrupt and skip."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image
from starlette.concurrency import run_in_threadpool

from fromnoise.serve.dialects.a1111.shapes import ProgressOut
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server


@dataclass(eq=False)
class Order:
    """One request of HTTP and its jobs."""

    name: str
    total: int  # jobs
    jobs: list[Job] = field(default_factory=list)
    begun: float = field(default_factory=time.time)
    interrupted: bool = False
    skipped: bool = False


class Orders:
    """Client → its requests that are not answered yet."""

    def __init__(self, server: Server):
        self.server, self.lock = server, threading.Lock()
        self.open: dict[str, list[Order]] = {}

    def of(self, client: Client) -> list[Order]:
        """The requests of a client, oldest first."""
        with self.lock:
            return [*self.open.get(client.name, ())]

    @contextmanager
    def begin(self, client: Client, name: str, total: int) -> Iterator[Order]:
        """An order, known until it is answered."""
        order = Order(name, total)
        with self.lock:
            self.open.setdefault(client.name, []).append(order)
        try:
            yield order
        finally:
            with self.lock:
                self.open[client.name].remove(order)
                if not self.open[client.name]:
                    del self.open[client.name]

    def submit(
        self, client: Client, order: Order, kind: str, values: list[dict[str, Any]], model: Any
    ) -> None:
        """Makes jobs of an order: all of them, or none. Raises as `Server.submit`."""
        for one in values:
            try:
                order.jobs.append(self.server.submit(client, "a1111", kind, one, model)[0])
            except Exception:
                for job in order.jobs:
                    self.server.cancel(client, job.id)
                raise
            if order.interrupted:
                self.server.cancel(client, order.jobs[-1].id)
                return

    async def carry_out(
        self, client: Client, name: str, total: int, submit: Callable[[Order], None]
    ) -> tuple[Order, list[Job]]:
        """(the order, its jobs when all have ended). A client that goes away changes nothing: the
        jobs are drawn. Raises as `Server.submit` and `Server.wait`."""
        with self.begin(client, name, total) as order:
            await run_in_threadpool(submit, order)
            return order, [await self.server.wait(job) for job in order.jobs]

    def interrupt(self, client: Client) -> None:
        """Ends all requests of a client."""
        for order in self.of(client):
            order.interrupted = True
            for job in [*order.jobs]:
                self.server.cancel(client, job.id)

    def skip(self, client: Client) -> None:
        """Ends what is drawn now of each request; its next batch goes on."""
        for order in self.of(client):
            now = next((job for job in self._refresh(order) if not job.has_ended), None)
            if now is not None:
                order.skipped = True
                self.server.cancel(client, now.id)

    def _refresh(self, order: Order) -> list[Job]:
        return [self.server.queue.get(job.id) for job in [*order.jobs]]

    def tell(self, client: Client, without_picture: bool) -> ProgressOut:
        """How far a client's requests are: the oldest one's state, all ones' jobs."""
        orders = self.of(client)
        state = {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": "",
            "job_count": 0,
            "job_timestamp": "0",
            "job_no": 0,
            "sampling_step": 0,
            "sampling_steps": 0,
        }
        if not orders:
            return ProgressOut(progress=0, eta_relative=0, state=state)
        jobs = [job for order in orders for job in self._refresh(order)]
        total, done = sum(order.total for order in orders), sum(job.has_ended for job in jobs)
        running = next((job for job in jobs if job.state == "running"), None)
        step, steps = self._find_step(running) if running else (0, 0)
        part = step / steps if steps else 0
        # above 0 as soon as there is a request: clients wait for 0
        progress = min(0.01 + (done + part) / total, 1.0)
        spent = time.time() - min(order.begun for order in orders)
        first = orders[0]
        state |= {
            "skipped": first.skipped,
            "interrupted": first.interrupted,
            "job": first.name,
            "job_count": total,
            "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.gmtime(first.begun)),
            "job_no": done,
            "sampling_step": step,
            "sampling_steps": steps,
        }
        return ProgressOut(
            progress=progress,
            eta_relative=max(spent / progress - spent, 0.0),
            state=state,
            current_image=None if without_picture or not running else self._find_preview(running),
            textinfo=None if running else "Waiting...",
        )

    def _find_step(self, job: Job) -> tuple[int, int]:
        for event in reversed(self.server.hub.after(job.id, "")):
            if event.name == "step":
                return event.data["step"], event.data["total"]
        return job.step, job.total

    def _find_preview(self, job: Job) -> str | None:
        data = self.server.hub.preview(job.id)
        if not data:
            return None
        png = BytesIO()
        with Image.open(BytesIO(data), formats=["WEBP"]) as picture:
            picture.save(png, "PNG")
        return base64.b64encode(png.getvalue()).decode()
