"""The shapes of what the native dialect takes and gives, as OpenAPI shows them."""

import base64
import json
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import Path as PathParameter
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, create_model

from fromnoise.serve.queue.jobs import STATES, Job
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.store.gallery import Picture
from fromnoise.serve.store.uploads import Upload
from fromnoise.serve.work.kinds import KINDS, derive_fields

Identifier = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{32}$")]
Before = Annotated[int | None, Query(ge=0, lt=2**63, description="Only what has a lower number.")]
Most = Annotated[int, Query(ge=1, le=200)]
State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
Key = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
assert set(State.__args__) == set(STATES)


class ErrorBody(BaseModel):
    """What is wrong, and what to do about it. `code` is for programs."""

    code: str
    message: str
    remedy: str


class ErrorOut(BaseModel):
    """The body of every answer with a status of 4xx or 5xx."""

    error: ErrorBody


class JobErrorOut(BaseModel):
    """Why a job has no pictures."""

    type: str
    message: str
    remedy: str


class PictureOut(BaseModel):
    """A picture of the gallery. `file` and `thumbnail` are paths on this server."""

    number: int
    id: str
    job: str
    index: int
    hash: str = Field(description="SHA-256 of the file.")
    width: int
    height: int
    bytes: int
    seed: str = Field(
        description="A decimal number, which may pass what JavaScript can count; empty for none."
    )
    model: str
    settings: dict[str, Any]
    infotext: str = Field(description="The settings as the file has them, in A1111's format.")
    favourite: bool
    created: float
    undo_until: float | None = Field(description="A deleted picture: until when it can come back.")
    file: str
    thumbnail: str


class JobOut(BaseModel):
    """A job, and its pictures once it is done."""

    number: int
    id: str
    state: State
    kind: str
    model: str
    settings: dict[str, Any]
    priority: int
    attempts: int
    step: int
    total: int
    ahead: int = Field(description="Jobs of the same client that come first.")
    warnings: list[str]
    error: JobErrorOut | None
    created: float
    started: float | None
    finished: float | None
    deadline: float | None
    pictures: list[PictureOut]
    answer: Any = Field(description="What a job without pictures found out.")
    events: str = Field(description="The path of its stream of events.")


class JobsOut(BaseModel):
    """A page of jobs; `before` asks for the next page, None: there is none."""

    jobs: list[JobOut]
    before: int | None


class PicturesOut(BaseModel):
    """A page of pictures; `before` asks for the next page, None: there is none."""

    pictures: list[PictureOut]
    before: int | None


LISTED = 20_000  # pictures of a list in short


class ShortPicture(BaseModel):
    """What a tile of a long list shows of a picture."""

    id: str
    prompt: str = Field(description="Its first 200 characters.")
    favourite: bool
    width: int
    height: int


class GalleryOut(BaseModel):
    """All pictures of a search in short; `more`: there are older ones."""

    pictures: list[ShortPicture]
    more: bool


class ThumbnailsOut(BaseModel):
    """Pictures in small. One that is missing is still to be made: ask for it again."""

    thumbnails: dict[str, str | None] = Field(
        description="Id → data URL of a WebP picture; null where there is no such picture to read."
    )


class PictureChange(BaseModel):
    """What can be changed about a picture."""

    model_config = ConfigDict(extra="forbid")

    favourite: StrictBool


class BoardIn(BaseModel):
    """A new board."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)


class BoardOut(BaseModel):
    """A board: a name under which pictures are gathered."""

    id: str
    name: str
    created: float


class UploadOut(BaseModel):
    """An upload. Its id goes where a request takes a picture."""

    id: str
    width: int
    height: int
    bytes: int
    infotext: str = Field(description="Settings that the file brought, in A1111's format.")
    created: float
    warnings: list[str]


class ModelOut(BaseModel):
    """A model that requests may name."""

    name: str
    bytes: int
    loaded: bool
    program: str
    memory: int = Field(description="Bytes of memory that it takes now, VAEs beside it included.")
    users: int = Field(description="Jobs that are drawn with it now.")
    side: int | None = Field(description="Pixels a side that it draws by itself, once loaded.")
    multiple: int | None = Field(description="What its sides are multiples of, once loaded.")
    copies: int = Field(description="Bytes of memory of its networks with LoRA.")


class ModelName(BaseModel):
    """A model to load, or to let go."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=400)


class HealthOut(BaseModel):
    """How the server is."""

    ready: bool
    reason: str
    version: str
    jobs: dict[str, int]
    memory: dict[str, int]


@cache
def body_of(kind: str) -> type[BaseModel]:
    """The body of a request for a kind: its settings, and what is said about the job."""
    return create_model(
        f"{kind.title()}Body",
        __base__=derive_fields(kind),
        __doc__=KINDS[kind].purpose,
        model=(
            str | None,
            Field(None, max_length=400, description="As the list of models has it."),
        ),
        priority=(int, Field(0, ge=-10, le=10, description="Higher ones first.")),
        deadline_seconds=(
            float | None,
            Field(None, gt=0, le=86400, description="The job expires where it is not done then."),
        ),
    )


def embed(data: bytes) -> str:
    """A WebP picture as a data URL."""
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def show_picture(picture: Picture, undo_seconds: float) -> PictureOut:
    """A row as HTTP gives it."""
    path = f"/api/pictures/{picture.id}"
    undo = None if picture.deleted is None else picture.deleted + undo_seconds
    more = {"undo_until": undo, "file": f"{path}/file", "thumbnail": f"{path}/thumbnail"}
    return PictureOut(**picture.__dict__ | more | {"settings": json.loads(picture.settings)})


def show_job(job: Job, pictures: list[Picture], ahead: int, undo_seconds: float) -> JobOut:
    """A row as HTTP gives it. Uploads are named by the hash of their content in `settings`."""
    more = {
        "settings": json.loads(job.request),
        "warnings": json.loads(job.notes),
        "error": None if job.error is None else json.loads(job.error),
        "answer": None if job.answer is None else json.loads(job.answer),
        "ahead": ahead,
        "pictures": [show_picture(picture, undo_seconds) for picture in pictures],
        "events": f"/api/jobs/{job.id}/events",
    }
    return JobOut(**job.__dict__ | more)


def show_upload(upload: Upload, notes: list[str]) -> UploadOut:
    """A row as HTTP gives it."""
    return UploadOut(**upload.__dict__, warnings=notes)


def render(refusal: Refusal) -> dict[str, Any]:
    """The body of an error's answer."""
    return {
        "error": {
            "code": refusal.code,
            "message": refusal.message,
            "remedy": refusal.remedy,
        }
    }
