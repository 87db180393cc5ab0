"""The native dialect, /api: its router; and uploads, models, and how the server is."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, UploadFile
from fastapi.responses import FileResponse

from fromnoise import __version__
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS
from fromnoise.errors import escape
from fromnoise.serve.dialects.identity import Admin, Drawer, describe_refusals
from fromnoise.serve.dialects.native import (
    addons,
    expanding,
    feed,
    gallery,
    help,
    inside,
    jobs,
    shapes,
    sheets,
    signing_in,
)
from fromnoise.serve.dialects.native.shapes import Identifier
from fromnoise.serve.refusals import Refusal, refuse_missing
from fromnoise.serve.server import Server
from fromnoise.serve.store.files import UPLOADS
from fromnoise.serve.work.kinds import KINDS

render = shapes.render
ERRORS = describe_refusals(
    shapes.ErrorOut, {409: "The key or the name was used for something else."}
)


def make_router(server: Server) -> APIRouter:
    """The routes of the native dialect."""
    router = APIRouter(prefix="/api", responses=ERRORS)
    for kind in KINDS:
        jobs.add_kind(router, server, kind)
    jobs.add_jobs(router, server)
    gallery.add_gallery(router, server)
    inside.add_inside(router, server)
    gallery.add_boards(router, server)
    add_uploads(router, server)
    add_models(router, server)
    expanding.add_expander(router, server)
    feed.add_feed(router, server, jobs.show_job)
    help.add_help(router, server)
    signing_in.add_session(router, server)
    addons.add_addons(router, server)
    sheets.add_sheets(router, server)
    return router


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

    @router.get(
        "/uploads/{identifier}/file",
        tags=["uploads"],
        response_class=FileResponse,
        responses={200: {"content": {"image/png": {}}}},
    )
    def get_upload_file(identifier: Identifier, client: Drawer) -> FileResponse:
        """The upload as it is kept, a PNG file."""
        path = server.files.path(UPLOADS, server.uploads.get(identifier, client.owner).hash)
        if not path.is_file():
            raise Refusal(404, "not_found", "the upload's file is gone from the disk", "")
        return FileResponse(path, media_type="image/png")

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


__all__ = ["make_router", "render"]
