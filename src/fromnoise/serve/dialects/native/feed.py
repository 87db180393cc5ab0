"""One stream of events for all jobs of a client: what a page with a list of jobs follows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from sse_starlette import EventSourceResponse, JSONServerSentEvent
from starlette.concurrency import run_in_threadpool

from fromnoise.serve.dialects.identity import Drawer
from fromnoise.serve.dialects.native import shapes
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server
from fromnoise.serve.work.events import ALL, Event, Fed

Show = Callable[[Server, Job], shapes.JobOut]
OWNED = 5_000  # jobs of which a stream knows whose they are
PATIENCE = 1.0  # seconds until it looks again whether the server ends


def add_feed(router: APIRouter, server: Server, show: Show) -> None:
    """The route of the stream. show: a job as HTTP gives it."""

    @router.get(
        "/events",
        tags=["jobs"],
        response_class=EventSourceResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    def stream_jobs(
        client: Drawer,
        previews: Annotated[bool, Query(description="Whether steps have previews.")] = True,
        last_event_id: Annotated[str | None, Header(max_length=64)] = None,
    ) -> Response:
        """What happens to all jobs of the client: `job` (the job as it is now), `step` (with `job`,
        its id), `warning`. `reset` comes first where the events since Last-Event-ID are not known:
        then the list of jobs says how things are."""
        server.check_streams(client)
        events = tell_all(server, client, last_event_id or "", previews, show)
        return EventSourceResponse(events, ping=15, send_timeout=30)


async def show_previews(server: Server, job: str, event: Event) -> dict[str, list[str]]:
    """The previews of a step, a data URL for each picture; empty where the step is not the newest:
    an older one's are gone."""
    of, pictures = await run_in_threadpool(server.hub.previews, job)
    if of != event.id:
        return {}
    return {"previews": [shapes.embed(picture) for picture in pictures]}


async def tell_all(
    server: Server, client: Client, last: str, previews: bool, show: Show
) -> AsyncIterator[JSONServerSentEvent]:
    """The feed's events that the client may see."""
    hub, owned = server.hub, dict[str, bool]()
    with server.count_stream(client), hub.listen(ALL) as news:
        serial = hub.find_serial(last)
        if serial is None:
            serial = hub.serial
            yield JSONServerSentEvent({}, event="reset", id=f"{hub.name}-{serial}")
        while not server.runner.ended.is_set():
            news.clear()
            for fed in hub.fed_after(serial):
                serial = fed.serial
                if owned.get(fed.job) is False:
                    continue
                told = await tell(server, client, fed, previews, show, owned)
                if told is not None:
                    yield told
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), PATIENCE)


async def tell(
    server: Server,
    client: Client,
    fed: Fed,
    previews: bool,
    show: Show,
    owned: dict[str, bool],
) -> JSONServerSentEvent | None:
    """One event for HTTP; None where the job is not the client's. owned: what is known of that."""
    identifier, event = f"{server.hub.name}-{fed.serial}", fed.event
    while len(owned) >= OWNED:
        del owned[next(iter(owned))]  # is looked up again where it is told of once more
    if event is None or event.name not in ("step", "warning") or fed.job not in owned:
        try:
            job = await run_in_threadpool(server.queue.get, fed.job, client.owner)
        except Refusal:
            owned[fed.job] = False
            return None
        owned[fed.job] = True
        if event is None or event.name not in ("step", "warning"):
            shown = await run_in_threadpool(show, server, job)
            return JSONServerSentEvent(shown.model_dump(mode="json"), event="job", id=identifier)
    data = event.data | {"job": fed.job}
    if previews and event.name == "step":
        data |= await show_previews(server, fed.job, event)
    return JSONServerSentEvent(data, event=event.name, id=identifier)
