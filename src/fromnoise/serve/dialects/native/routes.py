"""The native dialect, /api: jobs, events, gallery, boards, uploads, models."""

import inspect
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response, UploadFile
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, JSONServerSentEvent

from fromnoise import __version__
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS
from fromnoise.errors import escape
from fromnoise.serve.dialects.identity import describe_refusals, need
from fromnoise.serve.dialects.native import (
    addons,
    expanding,
    feed,
    help,
    shapes,
    sheets,
    signing_in,
)
from fromnoise.serve.dialects.native.inside import add_inside
from fromnoise.serve.dialects.native.shapes import Identifier
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.refusals import Refusal, refuse_missing
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server
from fromnoise.serve.store.export import write_zip
from fromnoise.serve.store.files import PICTURES
from fromnoise.serve.work.kinds import KINDS

render = shapes.render
MAKING = 0.25  # seconds for which one request makes thumbnails that are not there yet
EXPORTED = 2_000  # pictures of one zip file
FOREVER = {
    "cache-control": "private, max-age=31536000, immutable"
}  # a hash's content never changes
ERRORS = describe_refusals(
    shapes.ErrorOut, {409: "The key or the name was used for something else."}
)
Drawer = Annotated[Client, Depends(need("draw"))]
Viewer = Annotated[Client, Depends(need("gallery"))]
Looker = Annotated[Client, Depends(need("draw", "gallery"))]  # at what it drew, or at all
Admin = Annotated[Client, Depends(need("admin"))]
Before = Annotated[int | None, Query(ge=0, lt=2**63, description="Only what has a lower number.")]
Most = Annotated[int, Query(ge=1, le=200)]
Search = Annotated[
    str, Query(max_length=500, pattern="^[^\0]*$", description="Words, or settings: steps:20")
]
Several = Annotated[
    str,
    Query(
        pattern=r"^[0-9a-f]{32}(,[0-9a-f]{32}){0,99}$",
        description="Ids of up to 100 pictures, with commas between them.",
    ),
]
Board = Annotated[str | None, Query(pattern=r"^[0-9a-f]{32}$")]


def make_router(server: Server) -> APIRouter:
    """The routes of the native dialect."""
    router = APIRouter(prefix="/api", responses=ERRORS)
    for kind in KINDS:
        add_kind(router, server, kind)
    add_jobs(router, server)
    add_gallery(router, server)
    add_inside(router, server)
    add_boards(router, server)
    add_uploads(router, server)
    add_models(router, server)
    expanding.add_expander(router, server)
    feed.add_feed(router, server, show_job)
    help.add_help(router, server)
    signing_in.add_session(router, server)
    addons.add_addons(router, server)
    sheets.add_sheets(router, server)
    return router


def add_kind(router: APIRouter, server: Server, kind: str) -> None:
    """The route that takes jobs of a kind."""
    body = shapes.body_of(kind)

    def submit(
        asked: BaseModel,
        response: Response,
        client: Drawer,
        idempotency_key: Annotated[shapes.Key | None, Header()] = None,
    ) -> shapes.JobOut:
        """Takes a job: 202 says that it is kept, and drawn even if the server is killed. The same
        Idempotency-Key gives the same job, with 200."""
        values = asked.model_dump(exclude_unset=True)
        model, priority = values.pop("model", None), values.pop("priority", 0)
        seconds = values.pop("deadline_seconds", None)
        job, new = server.submit(
            client, "native", kind, values, model, priority, seconds, idempotency_key
        )
        response.headers["location"] = f"/api/jobs/{job.id}"
        response.status_code = 202 if new else 200
        return show_job(server, job)

    submit.__annotations__["asked"] = body
    already = {200: {"model": shapes.JobOut, "description": "The job of that key."}}
    about = f"{KINDS[kind].purpose} {inspect.getdoc(submit)}"
    more = {"responses": {**already}, "tags": ["jobs"], "description": about}
    router.post(f"/{kind}", status_code=202, name=kind, **more)(submit)


def add_jobs(router: APIRouter, server: Server) -> None:
    """The routes of jobs."""

    @router.get("/jobs", tags=["jobs"])
    def list_jobs(
        client: Drawer,
        state: Annotated[list[shapes.State] | None, Query(max_length=6)] = None,
        before: Before = None,
        limit: Most = 50,
    ) -> shapes.JobsOut:
        """The newest jobs first."""
        jobs = server.queue.find(client.owner, state or (), before, limit)
        pictures = server.gallery.of_jobs([job.id for job in jobs])
        undo = server.settings.undo_seconds
        shown = [
            shapes.show_job(job, pictures[job.id], server.count_ahead(job), undo) for job in jobs
        ]
        more = jobs[-1].number if len(jobs) == limit else None
        return shapes.JobsOut(jobs=shown, before=more)

    @router.get("/jobs/{identifier}", tags=["jobs"])
    def get_job(identifier: Identifier, client: Looker) -> shapes.JobOut:
        """A job, with its pictures once it is done."""
        return show_job(server, server.queue.get(identifier, client.owner))

    @router.delete("/jobs/{identifier}", tags=["jobs"])
    def cancel_job(identifier: Identifier, client: Drawer) -> shapes.JobOut:
        """Cancels a job. One that is drawn ends before its next step; one that has ended stays."""
        return show_job(server, server.cancel(client, identifier))

    @router.get(
        "/jobs/{identifier}/preview",
        tags=["jobs"],
        response_class=Response,
        responses={200: {"content": {"image/webp": {}}}},
    )
    def get_preview(
        identifier: Identifier,
        client: Drawer,
        picture: Annotated[int, Query(ge=0, lt=1000, description="0 for the first.")] = 0,
    ) -> Response:
        """A small likeness of a picture that is being drawn."""
        server.queue.get(identifier, client.owner)
        files = server.hub.previews(identifier)[1]
        if picture >= len(files):
            raise Refusal(
                404, "not_found", "this picture has no preview yet", "wait for its first step"
            )
        return Response(files[picture], media_type="image/webp")

    @router.get(
        "/jobs/{identifier}/events",
        tags=["jobs"],
        response_class=EventSourceResponse,
        responses={
            200: {"content": {"text/event-stream": {}}},
            204: {"description": "The job has ended, and all was told."},
        },
    )
    def stream_job(
        identifier: Identifier,
        client: Drawer,
        previews: Annotated[bool, Query(description="Whether steps have previews.")] = True,
        last_event_id: Annotated[str | None, Header(max_length=64)] = None,
    ) -> Response:
        """The job's events: queued, started, step (with seconds_left, and previews as data URLs, a
        picture each), warning; the last one is done, failed, cancelled or expired, with the job."""
        job = server.queue.get(identifier, client.owner)
        if last_event_id == "end" and job.has_ended:
            return Response(status_code=204)  # which tells a browser not to come again
        server.check_streams(client)
        events = tell_job(server, job, client, last_event_id or "", previews)
        return EventSourceResponse(events, ping=15, send_timeout=30)


async def tell_job(
    server: Server, job: Job, client: Client, last: str, previews: bool
) -> AsyncIterator[JSONServerSentEvent]:
    """What happens to a job, as events of HTTP."""
    with server.count_stream(client):
        if job.state == "queued" and not last:
            yield JSONServerSentEvent({"ahead": server.count_ahead(job)}, event="queued")
        async for item in server.follow(job, last):
            if isinstance(item, Job):
                shown = show_job(server, item).model_dump(mode="json")
                yield JSONServerSentEvent(shown, event=item.state, id="end")
                return
            data = dict(item.data)
            if previews and item.name == "step":
                data |= await feed.show_previews(server, job.id, item)
            yield JSONServerSentEvent(data, event=item.name, id=item.id or None)


def add_gallery(router: APIRouter, server: Server) -> None:
    """The routes of pictures."""
    undo = server.settings.undo_seconds

    @router.get("/pictures", tags=["gallery"])
    def list_pictures(
        client: Viewer,
        search: Search = "",
        favourite: bool | None = None,
        board: Board = None,
        deleted: bool = False,
        before: Before = None,
        limit: Most = 50,
    ) -> shapes.PicturesOut:
        """The newest pictures first."""
        found = server.gallery.find(
            client.owner, search, favourite, board, deleted, before=before, most=limit
        )
        more = found[-1].number if len(found) == limit else None
        return shapes.PicturesOut(
            pictures=[shapes.show_picture(picture, undo) for picture in found], before=more
        )

    @router.get(
        "/gallery",
        tags=["gallery"],
        responses={200: {"model": shapes.GalleryOut}},
        response_class=Response,
    )
    def list_all(
        client: Viewer,
        search: Search = "",
        favourite: bool | None = None,
        board: Board = None,
        deleted: bool = False,
    ) -> Response:
        """All pictures of a search in short, the newest first; 20,000 at most. For a page that
        shows them as one long list."""
        found = server.gallery.list_short(
            client.owner, search, favourite, board, deleted, most=shapes.LISTED + 1
        )
        whole = {"pictures": found[: shapes.LISTED], "more": len(found) > shapes.LISTED}
        # without pydantic: ten thousand rows take a tenth of a second with it
        return Response(json.dumps(whole), media_type="application/json")

    @router.get("/pictures/{identifier}", tags=["gallery"])
    def get_picture(identifier: Identifier, client: Looker) -> shapes.PictureOut:
        """A picture's settings."""
        return shapes.show_picture(server.gallery.get(identifier, client.owner, True), undo)

    @router.get(
        "/pictures/{identifier}/file",
        tags=["gallery"],
        response_class=FileResponse,
        responses={200: {"content": {"image/png": {}}}},
    )
    def get_file(identifier: Identifier, client: Looker) -> FileResponse:
        """The picture as a PNG file that carries its settings."""
        picture = server.gallery.get(identifier, client.owner)
        path = server.files.path(PICTURES, picture.hash)
        if not path.is_file():
            raise Refusal(404, "not_found", "the picture's file is gone from the disk", "")
        name = f"{picture.seed}-{picture.hash[:8]}.png"
        return FileResponse(
            path,
            media_type="image/png",
            filename=name,
            headers=FOREVER,
            content_disposition_type="inline",
        )

    @router.get(
        "/pictures/{identifier}/thumbnail",
        tags=["gallery"],
        response_class=FileResponse,
        responses={200: {"content": {"image/webp": {}}}},
    )
    def get_thumbnail(identifier: Identifier, client: Looker) -> FileResponse:
        """The picture in small."""
        picture = server.gallery.get(identifier, client.owner, True)
        try:
            path = server.files.thumbnail(picture.hash)
        except FileNotFoundError:
            text = "the picture's file is gone from the disk"
            raise Refusal(404, "not_found", text, "") from None
        return FileResponse(path, media_type="image/webp", headers=FOREVER)

    @router.get("/thumbnails", tags=["gallery"])
    def list_thumbnails(of: Several, client: Viewer) -> shapes.ThumbnailsOut:
        """Many pictures in small with one request."""
        identifiers = of.split(",")
        hashes = server.gallery.find_hashes(identifiers, client.owner)
        shown: dict[str, str | None] = {}
        until = time.monotonic() + MAKING
        for identifier in identifiers:
            if shown and time.monotonic() > until:
                break
            try:
                path = server.files.thumbnail(hashes[identifier])
                shown[identifier] = shapes.embed(path.read_bytes())
            except (KeyError, OSError):
                shown[identifier] = None
        return shapes.ThumbnailsOut(thumbnails=shown)

    @router.patch("/pictures/{identifier}", tags=["gallery"])
    def change_picture(
        identifier: Identifier, change: shapes.PictureChange, client: Viewer
    ) -> shapes.PictureOut:
        """Makes a picture a favourite, or not."""
        marked = server.gallery.mark(identifier, client.owner, change.favourite)
        return shapes.show_picture(marked, undo)

    @router.delete("/pictures/{identifier}", tags=["gallery"])
    def delete_picture(identifier: Identifier, client: Viewer) -> shapes.PictureOut:
        """Deletes a picture; `undo_until` says how long it can be restored."""
        server.audit.write("delete", client.name, picture=identifier)
        return shapes.show_picture(server.gallery.delete(identifier, client.owner), undo)

    @router.post("/pictures/{identifier}/restore", tags=["gallery"])
    def restore_picture(identifier: Identifier, client: Viewer) -> shapes.PictureOut:
        """Brings a deleted picture back."""
        return shapes.show_picture(server.gallery.restore(identifier, client.owner), undo)

    @router.get(
        "/export",
        tags=["gallery"],
        response_class=StreamingResponse,
        responses={200: {"content": {"application/zip": {}}}},
    )
    def export_pictures(
        client: Viewer,
        search: Search = "",
        favourite: bool | None = None,
        board: Board = None,
        before: Before = None,
    ) -> StreamingResponse:
        """The newest pictures of a search as a zip file, with their settings; 2,000 at most."""
        found = server.gallery.find(
            client.owner, search, favourite, board, before=before, most=EXPORTED
        )
        name = {"content-disposition": 'attachment; filename="fromnoise.zip"'}
        return StreamingResponse(write_zip(found, server.files), 200, name, "application/zip")


def add_boards(router: APIRouter, server: Server) -> None:
    """The routes of boards."""

    @router.get("/boards", tags=["boards"])
    def list_boards(client: Viewer) -> list[shapes.BoardOut]:
        """All boards, oldest first."""
        return [shapes.BoardOut(**row) for row in server.gallery.boards(client.owner)]

    @router.post("/boards", status_code=201, tags=["boards"])
    def add_board(board: shapes.BoardIn, client: Viewer) -> shapes.BoardOut:
        """Makes a board."""
        return shapes.BoardOut(**server.gallery.add_board(client.name, board.name))

    @router.delete("/boards/{board}", status_code=204, tags=["boards"])
    def remove_board(board: Identifier, client: Viewer) -> None:
        """Removes a board. Its pictures stay."""
        server.gallery.remove_board(board, client.owner)

    @router.put("/boards/{board}/pictures/{identifier}", status_code=204, tags=["boards"])
    def pin_picture(board: Identifier, identifier: Identifier, client: Viewer) -> None:
        """Puts a picture on a board."""
        server.gallery.pin(board, identifier, client.owner)

    @router.delete("/boards/{board}/pictures/{identifier}", status_code=204, tags=["boards"])
    def unpin_picture(board: Identifier, identifier: Identifier, client: Viewer) -> None:
        """Takes a picture off a board."""
        server.gallery.unpin(board, identifier, client.owner)


def add_uploads(router: APIRouter, server: Server) -> None:
    """The routes of uploads."""

    @router.post("/uploads", status_code=201, tags=["uploads"])
    def add_upload(file: UploadFile, client: Drawer) -> shapes.UploadOut:
        """Takes a picture file: PNG, JPEG, WebP, BMP, GIF, TIFF or PPM. It is read in a process of
        its own and kept as 8 bits of sRGB for a day."""
        data = file.file.read(server.settings.limits.upload_bytes + 1)
        return shapes.show_upload(*server.upload(client, data))

    @router.get("/uploads/{identifier}", tags=["uploads"])
    def get_upload(identifier: Identifier, client: Drawer) -> shapes.UploadOut:
        """What is known of an upload."""
        return shapes.show_upload(server.uploads.get(identifier, client.owner), [])

    @router.delete("/uploads/{identifier}", status_code=204, tags=["uploads"])
    def remove_upload(identifier: Identifier, client: Drawer) -> None:
        """Forgets an upload. Jobs that were asked for with it are still drawn."""
        server.uploads.remove(identifier, client.owner)


def add_models(router: APIRouter, server: Server) -> None:
    """The routes that say what there is."""

    def show_models() -> list[shapes.ModelOut]:
        return [
            shapes.ModelOut(**{"bytes": values.pop("size")} | values)
            for values in map(asdict, server.worker.models())
        ]

    @router.get("/models", tags=["models"])
    def list_models(client: Drawer) -> list[shapes.ModelOut]:
        """The models that requests may name; the first one is drawn with where none is named."""
        return show_models()

    @router.post("/models/load", tags=["models"])
    def load_model(model: shapes.ModelName, client: Admin) -> list[shapes.ModelOut]:
        """Loads a model, so that the next request need not wait for it."""
        server.audit.write("load", client.name, model=model.name)
        server.worker.load(model.name)
        return show_models()

    @router.post("/models/unload", tags=["models"])
    def unload_model(model: shapes.ModelName, client: Admin) -> list[shapes.ModelOut]:
        """Lets a model go that no job uses. The next request that names it loads it again."""
        server.audit.write("unload", client.name, model=model.name)
        known = next((m for m in server.worker.models() if m.name == model.name), None)
        if known is None:
            raise refuse_missing("model", escape(repr(model.name)))
        if not server.worker.unload(model.name) and known.loaded:
            raise Refusal(409, "in_use", "jobs are drawn with this model", "wait for their end", 5)
        return show_models()

    @router.get("/samplers", tags=["models"])
    def list_samplers(client: Drawer) -> dict[str, list[dict[str, Any]]]:
        """The samplers, the spacings of noise levels, and the upscalers of the second pass."""
        from fromnoise.pipeline.enlarging.upscale import UPSCALERS  # which loads torch

        found = {
            "samplers": [asdict(entry) for entry in SAMPLERS.values()],
            "spacings": [asdict(entry) for entry in SPACINGS.values()],
        }
        for entry in (entry for entries in found.values() for entry in entries):
            del entry["module"], entry["function"]  # which are nobody's business
        upscalers = [{"name": name, "label": m.label} for name, m in UPSCALERS.items()]
        return found | {"upscalers": upscalers}

    @router.get("/health", tags=["models"])
    def get_health(client: Drawer) -> shapes.HealthOut:
        """How the server is: whether it draws, what waits, what memory its models take."""
        reason = server.check_ready()
        return shapes.HealthOut(
            ready=not reason,
            reason=reason,
            version=__version__,
            jobs=server.queue.count_states(),
            memory=server.worker.memory(),
        )


def show_job(server: Server, job: Job) -> shapes.JobOut:
    """A job as HTTP gives it, with its pictures."""
    pictures = server.pictures_of(job) if job.state == "done" else []
    return shapes.show_job(job, pictures, server.count_ahead(job), server.settings.undo_seconds)


__all__ = ["make_router", "render"]
