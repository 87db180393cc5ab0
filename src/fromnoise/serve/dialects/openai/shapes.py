"""The shapes of what OpenAI's Images API takes and gives, as OpenAPI shows them.

Beside OpenAI's own fields a request takes every setting of this program by its own name, which the
client sends as `extra_body`."""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from fromnoise.serve.refusals import Refusal
from fromnoise.serve.work.kinds import KINDS, derive_fields

Format = Literal["png", "jpeg", "webp"]
Quality = Literal["auto", "standard", "hd", "low", "medium", "high", "xhigh", "max"]
Size = Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")]
Name = Annotated[str, Field(max_length=512, pattern="^[^\0]*$")]
OWN = {"prompt", "count", "width", "height"}  # which have other names in this dialect
PARAMS = {"width": "size", "height": "size", "count": "n"}
CODES = {  # of this server → OpenAI's
    "bad_input": "invalid_value",
    "filtered": "content_policy_violation",
    "no_token": "invalid_api_key",
    "too_many_requests": "rate_limit_exceeded",
    "queue_full": "rate_limit_exceeded",
    "fault": "server_error",
}


class ErrorBody(BaseModel):
    """What is wrong, and what to do about it. `param` is the field that cannot be used."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorOut(BaseModel):
    """The body of every answer with a status of 4xx or 5xx."""

    error: ErrorBody


class TextTokens(BaseModel):
    """Of text, and of pictures."""

    text_tokens: int
    image_tokens: int


class Usage(BaseModel):
    """What was read and drawn. A token of text is a word or a sign, however the model cuts it; one
    of a picture is a square of 8 × 8 pixels."""

    input_tokens: int
    input_tokens_details: TextTokens
    output_tokens: int
    output_tokens_details: TextTokens
    total_tokens: int


class ImageOut(BaseModel):
    """A picture. A request that names no response_format gets both."""

    b64_json: str | None = None
    url: str | None = Field(default=None, description="It works for an hour, and needs no key.")
    revised_prompt: str | None = Field(default=None, description="What was drawn in its place.")


class ImagesOut(BaseModel):
    """The pictures of a request. `warnings` are what the user should know."""

    created: int
    background: Literal["opaque", "transparent"]
    data: list[ImageOut]
    output_format: Format
    quality: Literal["low", "medium", "high", "xhigh", "max"]
    size: str
    usage: Usage
    safety_identifier: str | None = None
    warnings: list[str] | None = None


class ModelOut(BaseModel):
    """A model that requests may name. `created` is when this server started."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelsOut(BaseModel):
    """All models, the server's own first."""

    object: Literal["list"] = "list"
    data: list[ModelOut]


class Fields(BaseModel):
    """OpenAI's fields that every request has."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, max_length=400, description="As GET /v1/models has it.")
    n: int | None = Field(None, ge=1, le=1000, description="How many pictures.")
    size: Size | None = Field(None, description="WIDTHxHEIGHT, or auto: as the model prefers.")
    response_format: Literal["url", "b64_json"] | None = Field(None, description="None: both.")
    user: Name | None = Field(None, description="Given back as safety_identifier; not kept.")
    safety_identifier: Name | None = Field(None, description="Given back; not kept.")
    output_format: Format | None = Field(None, description="png, jpeg or webp; None: png.")
    output_compression: int | None = Field(
        None, ge=0, le=100, description="Quality of a jpeg or webp file; None: 100."
    )
    guidance_scale: float | None = Field(None, ge=0, le=100, description="Another name of cfg.")


class DrawFields(Fields):
    """OpenAI's fields of requests with a prompt."""

    prompt: str = Field(min_length=1, max_length=20_000, description="What to draw.")
    quality: Quality | None = Field(
        None, description="low: 8 steps; high, hd: 40; xhigh: 60; max: 100; else as the model has."
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        None, description="transparent is refused: these models draw opaque pictures."
    )
    stream: bool | None = Field(None, description="Answer with server-sent events.")
    partial_images: int | None = Field(
        None, ge=0, le=3, description="Likenesses that a stream sends on the way."
    )
    moderation: Literal["auto", "low"] | None = Field(
        None, description="No effect: the server's own filter, if it has one, reads all the same."
    )
    style: Literal["vivid", "natural"] | None = Field(None, description="No effect: say it.")
    complexity: Literal["low", "medium", "high"] | None = Field(None, description="No effect.")


class EditFields(DrawFields):
    """OpenAI's fields of edits, beside the files."""

    input_fidelity: Literal["high", "low"] | None = Field(
        None, description="high: strength 0.5, where the request gives none."
    )


class VariationFields(Fields):
    """OpenAI's fields of variations, beside the file."""

    prompt: str | None = Field(
        None, max_length=20_000, description="None: what the picture's own settings say."
    )


def add_settings(base: type[BaseModel], name: str, kind: str, text: str) -> type[BaseModel]:
    """A body: the fields of `base`, and this program's settings for a kind."""
    left_out = {*OWN, *KINDS[kind].needs, *KINDS[kind].takes, *base.model_fields}
    fields: dict[str, Any] = {
        field: (info.annotation, info)
        for field, info in derive_fields(kind).model_fields.items()
        if field not in left_out
    }
    return create_model(name, __base__=base, __doc__=text, **fields)


@cache
def generation_body() -> type[DrawFields]:
    """Of /v1/images/generations."""
    more: dict[str, Any] = {
        "expand": (bool | None, Field(None, description="Enrich the prompt; None: as the server."))
    }
    base = create_model("GenerationFields", __base__=DrawFields, **more)
    return add_settings(base, "ImageGeneration", "generate", "What to draw, and how.")  # type: ignore[return-value]


@cache
def edit_body() -> type[EditFields]:
    """Of /v1/images/edits, without its files."""
    return add_settings(EditFields, "ImageEdit", "edit", "What to draw over a picture, and how.")  # type: ignore[return-value]


@cache
def variation_body() -> type[VariationFields]:
    """Of /v1/images/variations, without its file."""
    return add_settings(VariationFields, "ImageVariation", "edit", "How to vary a picture.")  # type: ignore[return-value]


def render(refusal: Refusal) -> dict[str, Any]:
    """The body of an error's answer."""
    if refusal.status == 429:
        kind = "rate_limit_error"
    else:
        kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
    message = f"{refusal.message}; {refusal.remedy}" if refusal.remedy else refusal.message
    code, field = CODES.get(refusal.code, refusal.code), refusal.field
    param = PARAMS.get(field, field) if field else None
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
