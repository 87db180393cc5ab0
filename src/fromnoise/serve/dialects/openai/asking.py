"""From OpenAI's words to a job's: the settings that a request asks for, the pictures it brings."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from fastapi import Request
from PIL import Image
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from fromnoise.errors import BadInput, FromnoiseError, NotFound, escape
from fromnoise.pipeline.pictures import flatten
from fromnoise.pipeline.provenance.read import parse_settings
from fromnoise.serve.dialects.openai.shapes import OWN, PARAMS, DrawFields, EditFields, Fields
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.bodies import check_json, check_texts
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server
from fromnoise.serve.settings import Limits
from fromnoise.serve.store.files import UPLOADS
from fromnoise.serve.store.uploads import Upload
from fromnoise.serve.work.kinds import derive_fields

QUALITIES: dict[str, dict[str, Any]] = {
    "low": {"preset": "fast"},
    "high": {"steps": 40},
    "hd": {"steps": 40},
    "xhigh": {"steps": 60},
    "max": {"steps": 100},
}
VARIATION = 0.6  # strength of a variation that asks for none: the same things, drawn anew
FAITHFUL = 0.5  # strength of an edit with input_fidelity high
FURTHER = "0" * 32  # in place of the pictures that come beside the first one
FORM_FIELDS, FORM_FILES, PART = 100, 20, 256 << 10  # of one form; bytes of a field
WORDS = PARAMS | {"pixels": "size", "pictures": "n"}  # of messages → the field that they are about


@dataclass
class Asked:
    """A request as this server understands it."""

    kind: str
    values: dict[str, Any]  # of the kind's fields
    model: str | None
    format: Literal["png", "jpeg", "webp"]
    compression: int
    responses: frozenset[str]  # "url", "b64_json"
    quality: str
    user: str | None
    partial_images: int | None  # None: no stream
    warnings: list[str] = field(default_factory=list)
    prompt: str | None = None  # the client's own
    shown: tuple[int, int] | None = None  # width and height of the picture that it starts from


def read_fields(kind: str, body: Fields) -> Asked:
    """The settings that the fields of a request ask for. Raises Refusal."""
    own = derive_fields(kind).model_fields.keys() - OWN
    given = body.model_dump(exclude_unset=True, exclude_none=True)
    values = {name: value for name, value in given.items() if name in own}
    warnings: list[str] = []
    if body.n is not None:
        values["count"] = body.n
    if body.size not in (None, "auto"):
        values["width"], values["height"] = map(int, body.size.split("x"))
    if body.guidance_scale is not None:
        values.setdefault("cfg", body.guidance_scale)
    quality, partial = "medium", None
    if "prompt" in given:
        values["prompt"] = given["prompt"]
    if isinstance(body, DrawFields):
        quality = {"hd": "high"}.get(body.quality or "", body.quality or "medium")
        quality = quality if quality in QUALITIES else "medium"
        if not {"steps", "preset"} & values.keys():
            values |= QUALITIES.get(quality, {})
        partial = (body.partial_images or 0) if body.stream else None
        warnings += check_looks(body)
    format = body.output_format or "png"
    if body.output_compression is not None and format == "png":
        warnings.append("output_compression has no effect on png, which keeps every pixel")
    both = {body.response_format} if body.response_format else {"url", "b64_json"}
    compression = 100 if body.output_compression is None else body.output_compression
    user = body.safety_identifier or body.user or None
    responses = frozenset(both)
    asked = Asked(
        kind, values, body.model, format, compression, responses, quality, user, partial, warnings
    )
    asked.prompt = values.get("prompt")
    return asked


def check_looks(body: DrawFields) -> list[str]:
    """What the user should know of fields that do nothing here. Raises Refusal for a background
    that cannot be drawn."""
    if body.background == "transparent":
        raise Refusal(
            400,
            "unsupported_value",
            "the models of this server draw no transparent background",
            "ask for opaque or auto",
            field="background",
        )
    if body.partial_images and not body.stream:
        raise Refusal(
            400,
            "invalid_value",
            "only a stream has partial images",
            "ask for stream: true",
            field="partial_images",
        )
    return [
        f"{name} has no effect on this server's models"
        for name in ("style", "complexity")
        if getattr(body, name) is not None
    ]


def expand(server: Server, asked: Asked) -> None:
    """Makes the prompt of a request say more. Raises Refusal."""
    with naming_model(server, asked):
        expansion = server.expand(asked.values["prompt"], asked.model)
    asked.values["prompt"] = expansion.prompt
    asked.warnings.extend(expansion.notes)


@contextmanager
def naming_model(server: Server, asked: Asked) -> Iterator[None]:
    """Makes a model that is not there a refusal in this dialect's words."""
    try:
        yield
    except NotFound as error:
        if asked.model in (None, *(model.name for model in server.worker.models())):
            raise
        raise refuse_model(asked.model) from error


def submit(server: Server, client: Client, asked: Asked, key: str | None, wish: Any = None) -> Job:
    """The job of a request. Raises Refusal in this dialect's words."""
    try:
        with naming_model(server, asked):
            return server.submit(
                client, "openai", asked.kind, asked.values, asked.model, key=key, wish=wish
            )[0]
    except FromnoiseError as error:
        if not isinstance(error, Refusal):
            words = re.findall(r"[a-z_]+", error.message.lower())
            named = (WORDS.get(word, word) for word in words)
            known = {*asked.values, *WORDS.values()}
            error.field = next((word for word in named if word in known), None)  # type: ignore
        raise


def refuse_model(name: str | None) -> Refusal:
    """For a model that is not there."""
    text = f"there is no model {escape(repr(name))}"
    return Refusal(
        404, "model_not_found", text, "name one that GET /v1/models lists", field="model"
    )


# --- forms


@contextmanager
def named(field: str) -> Iterator[None]:
    """Makes what is wrong with a file a refusal that names its field."""
    try:
        yield
    except Refusal as refusal:
        refusal.field = refusal.field or field
        raise
    except BadInput as error:
        raise Refusal(400, "invalid_image", error.message, error.remedy, field=field) from error


async def read_form(
    request: Request, body: type[BaseModel], files: dict[str, str], limits: Limits
) -> tuple[Any, dict[str, list[bytes]]]:
    """(the fields, checked by `body`; the files) of a form. files: their names → the names of what
    they are. Raises Refusal, and ValidationError."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(
            400,
            "invalid_content_type",
            "this needs multipart/form-data with a file: addresses of pictures are not followed",
            "send the picture itself",
            field="image",
        )
    values: dict[str, Any] = {}
    found: dict[str, list[bytes]] = {}
    form_data = request.form(max_files=FORM_FILES, max_fields=FORM_FIELDS, max_part_size=PART)
    async with form_data as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name in files:
                data = await value.read(limits.upload_bytes + 1)
                found.setdefault(files[name], []).append(data)
            elif isinstance(value, UploadFile) or name in files:
                what = "no file" if name in files else "a file"
                text = f"{escape(name)} is {what}: a picture comes as a file, never as its address"
                raise Refusal(400, "invalid_value", text, "see /openapi.json", field=name[:200])
            elif name in values:
                text = f"{escape(name)} comes twice"
                raise Refusal(400, "invalid_value", text, "send it once", field=name[:200])
            else:
                values[name] = value
    check_texts(values)
    for name, value in values.items():
        if value[:1] in "{[" and value and name not in ("prompt", "negative_prompt"):
            data = value.encode()  # a table or a list, as JSON
            check_json(data, limits)
            values[name] = json.loads(data)
    for adapter in list_adapters(values):
        adapter.setdefault("pictures", [FURTHER])
    return body(**values), found


def read_pictures(
    server: Server, client: Client, asked: Asked, files: dict[str, list[bytes]], drawn_over: bool
) -> list[Upload]:
    """Adds what an edit starts from to its values; its uploads, the picture first, which the caller
    removes when the job is there. drawn_over: where a picture without a mask is transparent, it is
    drawn anew. Raises Refusal."""
    images, masks = files.get("image", []), files.get("mask", [])
    if not images:
        raise Refusal(400, "missing_required_parameter", "an image is needed", "", field="image")
    made: list[Upload] = []
    try:
        with named("image"):
            adapters = [a for a in list_adapters(asked.values) if FURTHER in a["pictures"]]
            if (len(images) > 1) != bool(adapters):
                raise BadInput(
                    f"{len(images)} pictures came for one edit and {len(adapters)} IP-Adapters",
                    "send one picture; further ones are what the IP-Adapters of `addons` look at",
                )
            for data in images:
                upload, notes = server.upload(client, data)
                made.append(upload)
                asked.warnings.extend(notes)
            for adapter in adapters:
                adapter["pictures"] = [upload.id for upload in made[1:]]
        mask = None
        with named("mask"):
            if masks:
                mask, notes = server.upload(client, masks[0])
                made.append(mask)
                if len(masks) > 1:
                    raise BadInput("more than one mask was sent", "send one")
        painted = read_alpha(server, mask) if mask else None
        first = made[0]
        with named("mask" if mask else "image"):
            if mask and (mask.width, mask.height) != (first.width, first.height):
                raise BadInput(
                    f"the mask is {mask.width}x{mask.height}, the picture {first.width}x"
                    f"{first.height}",
                    "give a mask of the picture's size",
                )
            if mask and painted is None:
                raise BadInput(
                    "the mask has no pixel that is fully transparent, so nothing is to be drawn",
                    "make transparent (alpha 0) what is to be drawn anew",
                )
        if mask is None and drawn_over:
            painted = read_alpha(server, first)
            if painted is not None:
                first = flatten_upload(server, client, first)
                made.append(first)
        asked.values["image"] = first.id
        if painted is not None:
            data = io.BytesIO()
            painted.save(data, "PNG")
            drawn = server.uploads.keep(client.name, data.getvalue(), painted.size)
            made.append(drawn)
            asked.values["mask"] = drawn.id
            asked.values.setdefault("strength", 1.0)
    except BaseException:
        forget(server, made)
        raise
    return made


def forget(server: Server, uploads: list[Upload]) -> None:
    """Removes uploads that only one job reads: their files stay until it has ended."""
    for upload in uploads:
        server.uploads.remove(upload.id, None)


def read_alpha(server: Server, upload: Upload) -> Image.Image | None:
    """Where an upload is fully transparent: white on black; None where it is nowhere."""
    with Image.open(server.files.path(UPLOADS, upload.hash), formats=["PNG"]) as picture:
        if picture.mode != "RGBA":
            return None
        clear = np.asarray(picture.getchannel("A")) == 0
    return Image.fromarray(clear.astype(np.uint8) * 255) if clear.any() else None


def flatten_upload(server: Server, client: Client, upload: Upload) -> Upload:
    """The same picture on white."""
    data = io.BytesIO()
    with Image.open(server.files.path(UPLOADS, upload.hash), formats=["PNG"]) as picture:
        flatten(picture).save(data, "PNG", compress_level=1)
    return server.uploads.keep(client.name, data.getvalue(), (upload.width, upload.height))


def list_adapters(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The IP-Adapters in a request's settings, whether these are checked yet or not."""
    addons = values.get("addons")
    adapters = addons.get("ip_adapters") if isinstance(addons, dict) else None
    listed = adapters if isinstance(adapters, list | tuple) else ()
    return [adapter for adapter in listed if isinstance(adapter, dict)]


def describe_variation(asked: Asked, upload: Upload) -> None:
    """Gives a variation the words and the strength that it does not have: a picture that this or
    another program drew says its prompt."""
    asked.values.setdefault("strength", VARIATION)
    if asked.values.get("prompt"):
        return
    settings = parse_settings(upload.infotext) if upload.infotext else None
    if settings and settings.prompt:
        asked.values["prompt"] = asked.prompt = settings.prompt[:20_000]
    else:
        asked.warnings.append("the picture says no prompt of its own: it is varied without words")


def read_edit(body: EditFields) -> Asked:
    """As `read_fields`, with the strength that input_fidelity asks for."""
    asked = read_fields("edit", body)
    if body.input_fidelity == "high":
        asked.values.setdefault("strength", FAITHFUL)
    return asked
