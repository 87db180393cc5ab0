"""The application: every dialect behind one gate, and the paths for whoever looks after it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from fromnoise import __version__
from fromnoise.errors import BadInput, FromnoiseError, NotFound, UnknownName, escape
from fromnoise.serve.dialects import DIALECTS, find_dialect
from fromnoise.serve.dialects.identity import need
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.folders import hide_folders
from fromnoise.serve.safety.gate import Gate, extra_headers
from fromnoise.serve.server import Server

log = logging.getLogger("fromnoise.serve")
MULTIPART = 256 << 10  # bytes around the files of a form
CODES = {404: "not_found", 405: "wrong_method", 400: "bad_request", 413: "too_large"}


def make_app(server: Server) -> FastAPI:
    """The application of a server. It starts and stops the server with its lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # the model loads while /healthz answers already
        starting = asyncio.get_running_loop().run_in_executor(None, start, server)
        yield
        await starting
        await asyncio.to_thread(server.stop)

    app = FastAPI(
        title="fromnoise",
        version=__version__,
        description="Text to image. Jobs are kept until they are drawn.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts of other servers
        redoc_url=None,
    )
    for dialect in DIALECTS.values():
        app.include_router(import_module(dialect.module).make_router(server))
    add_probes(app, server)
    pages = set[str]()
    if server.settings.page:
        from fromnoise.serve.page import add_page

        pages = add_page(app)
    for kind in (FromnoiseError, RequestValidationError, ValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, partial(answer_error, server.settings.folders))
    app.add_middleware(
        Gate,
        settings=server.settings,
        clients=server.clients,
        metrics=server.metrics,
        body_limit=make_body_limit(server),
        render=render,
        pages=pages,
        is_link=is_link,
    )
    return app


def is_link(path: str) -> bool:
    """Whether a path is signed, and so needs no token."""
    links = find_dialect(path).links
    return bool(links) and path.startswith(links)


def start(server: Server) -> None:
    """Starts the server; a fault is told at once, and /readyz says then that it takes no jobs."""
    try:
        server.start()
    except Exception:
        log.exception("the server cannot start to draw")


def add_probes(app: FastAPI, server: Server) -> None:
    """The paths for supervisors and for Prometheus."""

    @app.get("/healthz", tags=["operation"], response_class=PlainTextResponse)
    def healthz() -> str:
        """Whether the process lives."""
        return "ok\n"

    @app.get(
        "/readyz",
        tags=["operation"],
        response_class=PlainTextResponse,
        responses={503: {"content": {"text/plain": {}}, "description": "It takes no jobs."}},
    )
    def readyz() -> PlainTextResponse:
        """Whether the server takes jobs."""
        reason = server.check_ready()
        return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        """Figures in Prometheus's format."""
        need("admin")(request)
        data = server.metrics.render(server.queue.count_states(), server.worker.memory())
        return Response(data, media_type="text/plain; version=0.0.4; charset=utf-8")


def make_body_limit(server: Server) -> Callable[[str], int]:
    """path → the most bytes of a body."""

    def limit(path: str) -> int:
        dialect = find_dialect(path)
        if files := dialect.files.get(path):
            return files * server.settings.limits.upload_bytes + MULTIPART
        return dialect.body_bytes

    return limit


def render(path: str, refusal: Refusal) -> dict[str, Any]:
    """The body of an error's answer, in the words of the path's dialect."""
    return import_module(find_dialect(path).module).render(refusal)


def answer_error(folders: Sequence[Path], request: Request, error: Exception) -> Response:
    """The answer to any error: its status, what is wrong, what to do. folders: see make_refusal."""
    refusal = make_refusal(error, folders)
    if refusal.status == 422:
        refusal.status = find_dialect(request.url.path).bad_input
    if refusal.status >= 500 and not isinstance(error, Refusal):
        log.error("a request met a fault", exc_info=error)
    body = render(request.url.path, refusal)
    headers = extra_headers(refusal)
    if isinstance(error, HTTPException) and error.headers:
        headers |= {name.lower(): value for name, value in error.headers.items()}
    if refusal.status == 405 and (methods := list_methods(request)):  # of one path's many routes
        headers["allow"] = ", ".join(methods)
    return JSONResponse(body, refusal.status, headers)


def list_methods(request: Request) -> list[str]:
    """The methods that the path of a request takes, as the document has them."""
    paths = request.app.openapi()["paths"].items()
    matching = (one for path, one in paths if compile_path(path)[0].match(request.url.path))
    return sorted({method.upper() for operations in matching for method in operations})


def make_refusal(error: Exception, folders: Sequence[Path]) -> Refusal:
    """Any error as a refusal with a status, which names no folder of this machine. folders: of the
    server itself."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RequestValidationError | ValidationError):
        faults = error.errors()[:9]
        text = f"cannot use {', '.join(map(describe_fault, faults))}"
        rules = "; ".join(map(describe_rule, faults))
        return Refusal(422, "bad_input", text, rules, field=name_field(faults[0]))
    if isinstance(error, FromnoiseError):
        message, remedy = (hide_folders(part, *folders) for part in (error.message, error.remedy))
        if isinstance(error, NotFound):
            return Refusal(404, "not_found", message, remedy)
        known = isinstance(error, BadInput | UnknownName)
        # else a model that cannot be read, as a rule
        code = "bad_input" if known else type(error).__name__.lower()
        return Refusal(422, code, message, remedy, field=getattr(error, "field", None))
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, "refused")
        return Refusal(error.status_code, code, str(error.detail), "see /openapi.json")
    return Refusal(500, "fault", "the server met a fault of its own", "look at its log")


def describe_fault(fault: Any) -> str:
    """A field that cannot be used, and its value."""
    where = name_field(fault) or "the body"
    return f"{escape(where)} = {escape(repr(fault.get('input'))[:100])}"


def describe_rule(fault: Any) -> str:
    """What a field must be."""
    rule = escape(fault["msg"])
    return f"{escape(name_field(fault) or 'the body')}: {rule[:1].lower()}{rule[1:]}"


def name_field(fault: Any) -> str:
    """The field that a fault is about; "" for the body."""
    return ".".join(str(part) for part in fault["loc"] if part != "body")[:200]
