"""The gate before the application: every request passes host, origin, token, rate and size."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection
from typing import Any

from anyio import CancelScope
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.bodies import Body, check_json, refuse_size
from fromnoise.serve.safety.clients import Clients, find_peer, refuse_stranger
from fromnoise.serve.safety.origins import (
    SECURITY,
    allow_origin,
    allow_preflight,
    check_host,
    check_origin,
)
from fromnoise.serve.safety.tokens import FRESH, Client
from fromnoise.serve.seeing import Metrics, request_id
from fromnoise.serve.settings import Settings

log = logging.getLogger("fromnoise.serve")
OPEN = ("/healthz", "/readyz")  # what needs no token
SESSION = "/api/session"  # where a page gives its token
LOOK = FRESH  # seconds between two looks whether the client of a request is still known
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
ONCE = ("host", "content-length", "content-type", "authorization", "origin", "idempotency-key")


class Gate:
    """The outermost layer of the application. What it refuses reaches no handler, and what lasts
    (a stream of events, a large file) ends soon after its token is removed or its session ends.

    body_limit: path → the most bytes of a body. render: (path, refusal) → the body of its answer,
    in the words of the path's dialect. is_link: whether a path is signed, so that it needs no
    token. pages: paths of files that everyone may read."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        clients: Clients,
        metrics: Metrics,
        body_limit: Callable[[str], int],
        render: Callable[[str, Refusal], dict[str, Any]],
        is_link: Callable[[str], bool],
        pages: Collection[str] = (),
    ):
        self.app, self.settings, self.clients, self.metrics = app, settings, clients, metrics
        self.body_limit, self.render, self.is_link = body_limit, render, is_link
        self.open = {*OPEN, *pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None  # no websockets here: the server closes them
        headers, begun = Headers(scope=scope), time.perf_counter()
        state: dict[str, Any] = {"status": 0, "kind": "", "whole": False}  # of the answer
        given = headers.get("x-request-id", "")
        identifier = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        token = request_id.set(identifier)
        scope.setdefault("state", {})["request_id"] = identifier

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                state["status"] = message["status"]
                state["kind"] = Headers(raw=message["headers"]).get("content-type", "")
                self._add_headers(message, identifier, headers.get("origin", ""))
                seconds = time.perf_counter() - begun
                self._tell(scope, message["status"], seconds)
            await send(message)
            is_body = message["type"] == "http.response.body"
            state["whole"] = is_body and not message.get("more_body", False)

        try:
            await self._pass(scope, headers, receive, send_on)
        except Refusal as refusal:
            if not state["status"]:
                await self._refuse(scope, refusal, receive, send_on)
            elif state["whole"]:
                pass
            elif state["kind"].startswith("text/event-stream"):  # which may end at any event
                await send({"type": "http.response.body", "body": b""})
            else:  # the connection is broken off: nobody takes a part for the whole
                log.warning("an answer was broken off: %s", refusal.message)
        except ConnectionError:  # the client is gone
            pass
        finally:
            request_id.reset(token)

    async def _pass(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Checks a request and hands it on. Raises Refusal."""
        size = sum(len(name) + len(value) for name, value in headers.raw)
        if size + len(scope.get("raw_path") or b"") > self.settings.limits.header_bytes:
            raise Refusal(431, "large_headers", "the headers are too large", "send less")
        for name in ONCE:
            if len(headers.getlist(name)) > 1:
                raise Refusal(400, "bad_header", f"the header {name} comes twice", "send it once")
        host, origin = headers.get("host", ""), headers.get("origin")
        check_host(host, self.settings)
        if origin is not None:
            check_origin(origin, host, scope["scheme"], self.settings)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            answer = Response(status_code=204, headers=allow_preflight())
            return await answer(scope, receive, send)
        app = self.app
        if scope["path"] not in self.open:
            if self.is_link(scope["path"]):
                client = Client(f"link {find_peer(scope)}", frozenset())
            elif scope["path"] == SESSION:
                client = Client(f"visitor {find_peer(scope)}", frozenset())
            else:
                client, app = await self.clients.identify(HTTPConnection(scope)), self._attend
            scope["state"]["client"] = client
            limit = client.per_minute or self.settings.limits.requests_per_minute
            if wait := self.clients.rates.take(client.name, limit):
                raise Refusal(
                    429,
                    "too_many_requests",
                    f"more than {limit} requests in a minute",
                    "wait a little",
                    wait,
                )
        body = Body(receive, self.body_limit(scope["path"]), self.settings.limits)
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise Refusal(400, "bad_header", "content-length is no number", "send its bytes")
        if len(length) > 15 or int(length) > body.most:
            raise refuse_size(body.most)
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            return await app(scope, body.receive, send)
        if headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "packed_body", "packed bodies are not read", "send it unpacked")
        data = await body.read()
        if data:
            await run_in_threadpool(check_json, data, self.settings.limits)
        whole: list[Message] = [{"type": "http.request", "body": data, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await app(scope, replay, send)

    async def _attend(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for as long as its client is known. Raises Refusal after that."""
        with CancelScope() as running:
            watching = asyncio.ensure_future(self._watch(scope, running))
            try:
                await self.app(scope, receive, send)
            finally:
                watching.cancel()
        if running.cancelled_caught:
            raise refuse_stranger()

    async def _watch(self, scope: Scope, running: CancelScope) -> None:
        """Cancels what runs when its client is no longer known, or cannot be looked up."""
        request, client, known = HTTPConnection(scope), scope["state"]["client"], True
        try:
            while known:
                await asyncio.sleep(LOOK)
                known = await self.clients.find(request) == client
        except Exception:
            log.exception("cannot look up the client of a request that lasts")
        running.cancel()

    async def _refuse(self, scope: Scope, refusal: Refusal, receive: Receive, send: Send) -> None:
        self.metrics.refused.labels(refusal.code).inc()
        headers = extra_headers(refusal)
        headers["connection"] = "close"  # what is left of the body is not read
        body = self.render(scope["path"], refusal)
        await JSONResponse(body, refusal.status, headers)(scope, receive, send)

    def _add_headers(self, message: Message, identifier: str, origin: str) -> None:
        names = {name for name, _ in message["headers"]}
        more = SECURITY | {"x-request-id": identifier, "cache-control": "no-store"}
        more |= allow_origin(origin, self.settings)
        message["headers"] = [
            *message["headers"],
            *((k.encode(), v.encode()) for k, v in more.items() if k.encode() not in names),
        ]

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")  # a pattern: few different ones
        client = scope["state"].get("client")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        fields = {
            "method": scope["method"],
            "path": scope["path"][:200],
            "status": status,
            "seconds": round(seconds, 4),
            "client": client.name if client else "",
        }
        log.info("request", extra={"fields": fields})


def extra_headers(refusal: Refusal) -> dict[str, str]:
    """The headers of a refusal's answer beside the usual ones."""
    headers = {}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(max(1, round(refusal.retry_after)))
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers
