"""From jobs to OpenAI's answers: pictures, usage, events, errors."""

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from PIL import Image
from sse_starlette import JSONServerSentEvent
from starlette.concurrency import run_in_threadpool

from fromnoise.pipeline.pictures import flatten
from fromnoise.pipeline.provenance.exif import choose_save_options
from fromnoise.serve.dialects.openai import shapes
from fromnoise.serve.dialects.openai.asking import Asked
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server
from fromnoise.serve.store.files import PICTURES
from fromnoise.serve.store.gallery import Picture

LOOK = 0.25  # seconds between two looks whether the client is still there
WORD = re.compile(r"\w+|[^\w\s]")  # a token of text
TOKEN = 8  # pixels, the side of a picture's token
FAULTS = {"fault": 500, "crash": 500, "out_of_memory": 413, "expired": 408, "filtered": 400}


async def wait(server: Server, request: Request, client: Client, job: Job, keep: bool) -> Job:
    """The job when it has ended. A client that goes away cancels it, unless `keep`. Raises Refusal
    where it has no pictures."""
    waiting = asyncio.ensure_future(server.wait(job))
    try:
        while not (await asyncio.wait([waiting], timeout=LOOK))[0]:
            if await request.is_disconnected():
                if not keep:
                    await run_in_threadpool(server.cancel, client, job.id)
                raise Refusal(499, "client_gone", "the client went away", "")
        return check_done(waiting.result())
    finally:
        waiting.cancel()


def check_done(job: Job) -> Job:
    """The job. Raises Refusal for one that has no pictures."""
    if job.state == "done":
        return job
    if job.state == "cancelled":
        raise Refusal(409, "cancelled", "this job was cancelled", "ask again")
    error = json.loads(job.error or "{}") or {"type": "fault", "message": job.state, "remedy": ""}
    status = FAULTS.get(error["type"], 400)
    raise Refusal(status, error["type"], error["message"], error["remedy"])


def tell_images(server: Server, job: Job, asked: Asked, base: str) -> shapes.ImagesOut:
    """The answer to a request whose job is done. base: the server's address."""
    pictures = server.pictures_of(job)
    data = []
    for picture in pictures:
        one = shapes.ImageOut()
        one.revised_prompt = find_revised(job, asked)
        if "b64_json" in asked.responses:
            one.b64_json = encode_base64(
                read_file(server, picture, asked.format, asked.compression)
            )
        if "url" in asked.responses:
            name = server.links.write(picture.id, asked.format, asked.compression)
            one.url = f"{base}/v1/images/files/{name}"
        data.append(one)
    return shapes.ImagesOut(
        created=int(job.finished or time.time()),
        background="opaque",
        data=data,
        output_format=asked.format,
        quality=asked.quality,  # type: ignore[arg-type]
        size=f"{pictures[0].width}x{pictures[0].height}" if pictures else "",
        usage=count_usage(job, asked, pictures),
        safety_identifier=asked.user,
        warnings=[*asked.warnings, *json.loads(job.notes)] or None,
    )


async def tell_events(
    server: Server, job: Job, client: Client, asked: Asked, keep: bool
) -> AsyncIterator[JSONServerSentEvent]:
    """A job as OpenAI's events: partial images on the way, then each picture. A client that goes
    away cancels the job, unless `keep`."""
    ended, sent, wanted = False, 0, asked.partial_images or 0
    prefix = "image_edit" if asked.kind == "edit" else "image_generation"
    try:
        with server.count_stream(client):
            async for item in server.follow(job):
                if isinstance(item, Job):
                    ended = True
                    check_done(item)
                    for event in await run_in_threadpool(tell_completed, server, item, asked):
                        yield make_event(f"{prefix}.completed", event)
                    return
                if item.name != "step" or sent == wanted:
                    continue
                step, total = item.data["step"], item.data["total"]
                due = -(-(sent + 1) * total // (wanted + 1))  # rounded up
                if not due <= step < total:
                    continue
                if preview := await run_in_threadpool(server.hub.preview, job.id):
                    event = await run_in_threadpool(tell_partial, server, job, asked, preview, sent)
                    yield make_event(f"{prefix}.partial_image", event)
                    sent += 1
        raise Refusal(503, "ending", "the server ends; the job is kept", "", 5)
    except Refusal as refusal:
        yield JSONServerSentEvent(shapes.render(refusal), event="error")
    finally:
        if not ended and not keep and not server.runner.ending.is_set():
            # the client is gone, and with it the task that this runs in
            asyncio.get_running_loop().run_in_executor(None, server.cancel, client, job.id)


def make_event(name: str, data: dict[str, Any]) -> JSONServerSentEvent:
    """An event that says its type in its data too, as OpenAI's do."""
    return JSONServerSentEvent({"type": name, **data}, event=name)


def find_size(server: Server, job: Job, asked: Asked) -> tuple[int, int] | None:
    """The size that a job's pictures will have, as far as that is known before."""
    settings, model = json.loads(job.request), server.worker.peek(job.model)
    own = (model.size, model.size) if model else None
    wide, high = settings.get("width"), settings.get("height")
    return (wide, high) if wide and high else asked.shown or own


def tell_partial(
    server: Server, job: Job, asked: Asked, preview: bytes, index: int
) -> dict[str, Any]:
    """A likeness of what is being drawn, in its size as far as that is known."""
    with Image.open(io.BytesIO(preview), formats=["WEBP"]) as picture:
        likeness = picture.convert("RGB")
    if size := find_size(server, job, asked):
        likeness = likeness.resize(size, Image.Resampling.BICUBIC)
    data = encode_picture(likeness, asked.format, asked.compression)
    told = describe(asked, data, likeness.size, int(time.time()))
    return told | {"partial_image_index": index}


def tell_completed(server: Server, job: Job, asked: Asked) -> list[dict[str, Any]]:
    """The finished pictures."""
    pictures, revised = server.pictures_of(job), find_revised(job, asked)
    usage = count_usage(job, asked, pictures[:1]).model_dump()
    warnings = [*asked.warnings, *json.loads(job.notes)]
    more = {"revised_prompt": revised, "warnings": warnings, "safety_identifier": asked.user}
    more = {name: value for name, value in more.items() if value}
    return [
        describe(
            asked,
            read_file(server, picture, asked.format, asked.compression),
            (picture.width, picture.height),
            int(job.finished or time.time()),
        )
        | {"usage": usage}
        | more
        for picture in pictures
    ]


def describe(asked: Asked, data: bytes, size: tuple[int, int], when: int) -> dict[str, Any]:
    """What both kinds of events say of a picture."""
    return {
        "b64_json": encode_base64(data),
        "created_at": when,
        "size": f"{size[0]}x{size[1]}",
        "quality": asked.quality,
        "background": "opaque",
        "output_format": asked.format,
    }


def find_revised(job: Job, asked: Asked) -> str | None:
    """The prompt that was drawn, where it is not the client's own."""
    drawn = json.loads(job.request).get("prompt")
    return drawn if drawn != asked.prompt else None


def count_usage(job: Job, asked: Asked, pictures: list[Picture]) -> shapes.Usage:
    """What a request read, and what these pictures are."""
    settings = json.loads(job.request)
    texts = settings.get("prompt", ""), settings.get("negative_prompt", "")
    text = sum(len(WORD.findall(words)) for words in texts)
    shown = count_tokens(*asked.shown) if asked.shown else 0
    drawn = sum(count_tokens(picture.width, picture.height) for picture in pictures)
    return shapes.Usage(
        input_tokens=text + shown,
        input_tokens_details=shapes.TextTokens(text_tokens=text, image_tokens=shown),
        output_tokens=drawn,
        output_tokens_details=shapes.TextTokens(text_tokens=0, image_tokens=drawn),
        total_tokens=text + shown + drawn,
    )


def count_tokens(width: int, height: int) -> int:
    """Of a picture."""
    return -(-width // TOKEN) * -(-height // TOKEN)


def read_file(server: Server, picture: Picture, format: str, compression: int) -> bytes:
    """A picture of the gallery as a file of that format, with its settings. Raises Refusal."""
    path = server.files.path(PICTURES, picture.hash)
    try:
        if format == "png":
            return path.read_bytes()
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
    except FileNotFoundError:
        text = "the picture's file is gone from the disk"
        raise Refusal(404, "not_found", text, "") from None
    return encode_picture(image, format, compression, picture.infotext)


def encode_picture(
    picture: Image.Image, format: str, compression: int, text: str | None = None
) -> bytes:
    """A file of a picture. compression: 0 to 100, as OpenAI counts: 100 is the best."""
    data = io.BytesIO()
    if format == "png":
        picture.save(data, "PNG", compress_level=1)
    else:
        suffix = {"jpeg": ".jpg", "webp": ".webp"}[format]
        options = choose_save_options(suffix, text or None, max(compression, 1))
        picture = flatten(picture) if format == "jpeg" else picture
        picture.save(data, **options)
    return data.getvalue()


def encode_base64(data: bytes) -> str:
    """Bytes as JSON can hold them."""
    return base64.b64encode(data).decode()
