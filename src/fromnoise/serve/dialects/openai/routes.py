"""The OpenAI Images dialect, /v1: an application's existing client draws here."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from fromnoise.serve.dialects.identity import Drawer, describe_refusals
from fromnoise.serve.dialects.openai import asking, shapes, telling
from fromnoise.serve.dialects.openai.asking import Asked
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server

render = shapes.render
ERRORS = describe_refusals(
    shapes.ErrorOut,
    {
        403: "The token may not do that, the page is of another origin, or a link works no more.",
        409: "The key was used for something else, or the job was cancelled.",
        415: "The body is packed.",
        500: "The program met a fault of its own.",
    },
)
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": shapes.ImagesOut,
        "description": "The pictures; with `stream`, server-sent events.",
        "content": {"text/event-stream": {}},
    }
}
Key = Annotated[
    str | None, Header(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")
]  # shown by its name
SEVERAL = {"image": "image", "image[]": "image", "mask": "mask", "mask[]": "mask"}
FILE = {"type": "string", "format": "binary"}


def make_router(server: Server) -> APIRouter:
    """The routes of OpenAI's dialect."""
    router = APIRouter(prefix="/v1", responses=ERRORS)
    add_images(router, server)
    add_forms(router, server)
    add_models(router, server)
    return router


def add_images(router: APIRouter, server: Server) -> None:
    """The routes that draw from words, and that give pictures by their links."""

    async def create_image(
        request: Request, asked: BaseModel, client: Drawer, idempotency_key: Key = None
    ) -> Response:
        """Draws pictures, and answers when they are drawn. A client that goes away before that
        cancels its job, unless it sent an Idempotency-Key: with the same key it can ask again for
        the same pictures."""
        begun = time.perf_counter()
        wanted = asking.read_fields("generate", asked)  # type: ignore[arg-type]
        chosen: bool | None = asked.expand  # type: ignore[attr-defined]
        job = await run_in_threadpool(submit, wanted, client, chosen, idempotency_key)
        return await answer(server, request, client, wanted, job, idempotency_key, begun)

    def submit(asked: Asked, client: Client, expand: bool | None, key: str | None) -> Job:
        wish = None
        if expand or (expand is None and server.settings.expand != "off"):
            wish = [dict(asked.values), asked.model]
            asking.expand(server, asked)
        return asking.submit(server, client, asked, key, wish)

    create_image.__annotations__["asked"] = shapes.generation_body()
    router.post("/images/generations", responses=STREAMED, tags=["openai"])(create_image)

    @router.get(
        "/images/files/{name}",
        tags=["openai"],
        response_class=Response,
        responses={
            200: {"content": {f"image/{kind}": {} for kind in ("png", "jpeg", "webp")}},
        },
    )
    def get_linked(name: str) -> Response:
        """A picture by its link, which needs no token and works for an hour."""
        link = server.links.read(name)
        picture = server.gallery.get(link.picture, None)
        data = telling.read_file(server, picture, link.format, link.quality)
        # the link is the permission, so a page of any origin may show the picture
        headers = {"cross-origin-resource-policy": "cross-origin"}
        return Response(data, media_type=f"image/{link.format}", headers=headers)


def add_forms(router: APIRouter, server: Server) -> None:
    """The routes that draw from pictures."""
    limits = server.settings.limits

    @router.post(
        "/images/edits",
        responses=STREAMED,
        tags=["openai"],
        openapi_extra=describe_form(shapes.edit_body(), ("image", "mask"), ("image",)),
    )
    async def edit_image(request: Request, client: Drawer, idempotency_key: Key = None) -> Response:
        """Draws over a picture: where the mask (or, without one, the picture) is fully transparent,
        or everywhere. Further pictures, as image[], are for IP-Adapters. Answers as
        /v1/images/generations does."""
        begun = time.perf_counter()
        body, files = await asking.read_form(request, shapes.edit_body(), SEVERAL, limits)
        asked = asking.read_edit(body)
        job = await run_in_threadpool(submit_edit, asked, client, files, True, idempotency_key)
        return await answer(server, request, client, asked, job, idempotency_key, begun)

    @router.post(
        "/images/variations",
        responses={200: {"model": shapes.ImagesOut}},
        tags=["openai"],
        openapi_extra=describe_form(shapes.variation_body(), ("image",), ("image",)),
    )
    async def vary_image(request: Request, client: Drawer, idempotency_key: Key = None) -> Response:
        """Draws a picture anew, with its own prompt where its file says one. Answers as
        /v1/images/generations does."""
        begun = time.perf_counter()
        named = {"image": "image"}
        body, files = await asking.read_form(request, shapes.variation_body(), named, limits)
        asked = asking.read_fields("edit", body)
        job = await run_in_threadpool(submit_edit, asked, client, files, False, idempotency_key)
        return await answer(server, request, client, asked, job, idempotency_key, begun)

    def submit_edit(
        asked: Asked,
        client: Client,
        files: dict[str, list[bytes]],
        drawn_over: bool,
        key: str | None,
    ) -> Job:
        uploads = asking.read_pictures(server, client, asked, files, drawn_over)
        try:
            asked.shown = uploads[0].width, uploads[0].height
            if not drawn_over:
                asking.describe_variation(asked, uploads[0])
            return asking.submit(server, client, asked, key)
        finally:
            asking.forget(server, uploads)


def add_models(router: APIRouter, server: Server) -> None:
    """The routes that say which models there are."""
    begun = int(time.time())

    def show_models() -> list[shapes.ModelOut]:
        return [
            shapes.ModelOut(id=model.name, created=begun, owned_by=model.program)
            for model in server.worker.models()
        ]

    @router.get("/models", tags=["openai"])
    def list_models(client: Drawer) -> shapes.ModelsOut:
        """The models that requests may name; the first one is drawn with where none is named."""
        return shapes.ModelsOut(data=show_models())

    @router.get("/models/{name:path}", tags=["openai"])
    def get_model(name: str, client: Drawer) -> shapes.ModelOut:
        """One of them."""
        for model in show_models():
            if model.id == name:
                return model
        raise asking.refuse_model(name)


async def answer(
    server: Server,
    request: Request,
    client: Client,
    asked: Asked,
    job: Job,
    key: str | None,
    begun: float,
) -> Response:
    """The answer to a request: its pictures, or a stream that ends with them."""
    if asked.partial_images is not None:
        server.check_streams(client)
        events = telling.tell_events(server, job, client, asked, key is not None)
        return EventSourceResponse(events, ping=15, send_timeout=30)
    job = await telling.wait(server, request, client, job, key is not None)
    base = server.settings.public_url.rstrip("/")
    base = base or f"{request.url.scheme}://{request.headers['host']}"
    told = await run_in_threadpool(telling.tell_images, server, job, asked, base)
    spent = f"{(time.perf_counter() - begun) * 1000:.0f}"
    return JSONResponse(told.model_dump(exclude_none=True), headers={"openai-processing-ms": spent})


def describe_form(
    body: type[BaseModel], files: tuple[str, ...], needed: tuple[str, ...]
) -> dict[str, Any]:
    """What OpenAPI shows of a form: the fields of `body`, and files."""
    schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
    for name in files:
        schema["properties"][name] = FILE
    schema["required"] = [*schema.get("required", ()), *needed]
    schema.pop("$defs", None)
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


__all__ = ["make_router", "render"]
