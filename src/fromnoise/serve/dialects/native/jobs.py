"""The native dialect: asking for jobs, and following them."""

import inspect
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, JSONServerSentEvent

from fromnoise.serve.dialects.identity import Drawer, Looker
from fromnoise.serve.dialects.native import feed, shapes
from fromnoise.serve.dialects.native.shapes import Before, Identifier, Most
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server
from fromnoise.serve.work.kinds import KINDS


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


def show_job(server: Server, job: Job) -> shapes.JobOut:
    """A job as HTTP gives it, with its pictures."""
    pictures = server.pictures_of(job) if job.state == "done" else []
    return shapes.show_job(job, pictures, server.count_ahead(job), server.settings.undo_seconds)
