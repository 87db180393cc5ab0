"""Running the application: uvicorn with limits, until SIGTERM or Ctrl-C."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import uvicorn
from sse_starlette.sse import AppStatus
from uvicorn.protocols.http.h11_impl import H11Protocol

from fromnoise.errors import BadInput
from fromnoise.serve.app import make_app
from fromnoise.serve.safety.tokens import Tokens
from fromnoise.serve.seeing import set_up_logs
from fromnoise.serve.server import Server
from fromnoise.serve.settings import Limits, Settings
from fromnoise.serve.work.runner import catch_warnings
from fromnoise.serve.work.worker import Worker

GRACE = 5  # seconds more than the jobs get, for answers that are still being sent


def make_protocol(limits: Limits) -> type[H11Protocol]:
    """uvicorn's HTTP with a limit on the time that a request's headers may take: a client that
    sends them one by one would hold a connection for ever."""

    class Protocol(H11Protocol):
        timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.timer = self.loop.call_later(limits.header_seconds, self.close_slow)

        def close_slow(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                answer = b'{"error":{"code":"too_slow","message":"the headers took too long"'
                answer += b',"remedy":"send them at once"}}'
                head = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n"
                head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
                self.transport.write(head % len(answer) + answer)
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            if self.timer is not None:
                self.timer.cancel()
            super().connection_lost(exc)

    return Protocol


class Uvicorn(uvicorn.Server):
    """Says when it listens, and tells the server at once when it is to end: streams of events end
    then, and no job is begun."""

    def __init__(self, config: uvicorn.Config, server: Server, tell: Callable[[str], Any]):
        super().__init__(config)
        # else streams are cut off at the signal, and the ends of their jobs are not told
        AppStatus.disable_automatic_graceful_drain()
        self.server, self.tell = server, tell

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = self.config.host
            self.tell(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: Any = None) -> None:
        self.server.runner.ending.set()
        draining = asyncio.get_running_loop().run_in_executor(
            None, self.server.runner.drain, self.server.settings.drain_seconds
        )
        for listener in self.servers:
            listener.close()  # no new connection while the running jobs end
        await draining
        self.server.hub.wake()
        await super().shutdown(sockets)


def run(settings: Settings, worker: Worker, tell: Callable[[str], Any], level: str) -> None:
    """Serves until a signal. tell: is called with the address when the server listens. Raises
    BadInput where it cannot start."""
    set_up_logs(level)
    server = Server(settings, worker)
    refuse_open_door(settings, server.tokens)
    limits = settings.limits
    config = uvicorn.Config(
        make_app(server),
        host=settings.host,
        port=settings.port,
        http=make_protocol(limits),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=limits.header_bytes,
        timeout_graceful_shutdown=GRACE,
    )
    gc.collect()
    gc.freeze()  # what was imported stays: to look through it for rubbish takes 0.1 s each time
    with catch_warnings():
        Uvicorn(config, server, tell).run()


def refuse_open_door(settings: Settings, tokens: Tokens) -> None:
    """Raises BadInput for a server that everyone on the network could use."""
    if not settings.is_local and not tokens.any():
        raise BadInput(
            f"the server would listen on {settings.host}, and anyone there could use it",
            "make a token first: fromnoise serve token add NAME; or leave out --host",
        )
