"""The add-ons of this machine: which there are, their pictures, and how they fit a model."""

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field

from fromnoise.checkpoints.library import find_addon, list_models
from fromnoise.serve.dialects.identity import Drawer
from fromnoise.serve.dialects.native.help import Model, find_model
from fromnoise.serve.safety.folders import hide_folders
from fromnoise.serve.server import Server
from fromnoise.serve.store.addon_pictures import (
    AddonPictures,
    hash_picture,
    make_finder,
    read_picture,
)

Fitting = Literal["lora", "embedding", "controlnet", "t2i-adapter", "ip-adapter"]
Kind = Literal[Fitting, "vae", "image encoder"]
ADDONS = ("lora", "vae", "embedding", "controlnet", "t2i-adapter", "ip-adapter", "image encoder")
Name = Annotated[
    str, Query(min_length=1, max_length=400, description="As the list of add-ons has it.")
]
REVALIDATED = {"cache-control": "private, no-cache"}  # a browser asks whether its copy is still so


class AddonOut(BaseModel):
    """A file of this machine that a request can put on a model, by its name."""

    name: str
    kind: str
    bytes: int
    program: str
    thumbnail: str | None = Field(description="The path of its picture; None: it has none.")


class MatchOut(BaseModel):
    """How an add-on fits a model, by the headers of its file."""

    loaded: bool = Field(description="Whether the model is; else only families are compared.")
    fits: Literal["whole", "part", "none", "unknown"] = Field(description="How much of it.")
    summary: str
    made_for: str = Field(description="The family of models that its header tells, or empty.")
    matched: int | None = Field(description="Modules of a LoRA that have a place in the model.")
    total: int | None = Field(description="All modules of a LoRA.")
    lost: list[str] = Field(description="The first of those that have no place.")
    lost_count: int
    facts: dict[str, str] = Field(description="What else its header says.")
    triggers: list[str] = Field(description="Words for the prompt that its training knew.")


def add_addons(router: APIRouter, server: Server) -> None:
    """The routes."""
    pictures = AddonPictures(server.settings.limits)

    @router.get("/addons", tags=["models"])
    def list_addons(client: Drawer) -> list[AddonOut]:
        """LoRA, VAEs, embeddings, ControlNets and IP-Adapters in the folders of models."""
        has_picture = make_finder()

        def find_thumbnail(kind: str, name: str) -> str:
            return f"/api/addons/thumbnail?{urlencode({'kind': kind, 'name': name})}"

        return [
            AddonOut(
                name=m.name,
                kind=m.kind,
                bytes=m.size,
                program=m.program,
                thumbnail=find_thumbnail(m.kind, m.name) if has_picture(m.path) else None,
            )
            for m in list_models()
            if m.kind in ADDONS
        ]

    @router.get(
        "/addons/thumbnail",
        tags=["models"],
        response_class=Response,
        responses={
            200: {"content": {"image/webp": {}}},
            304: {"description": "The picture is still that of If-None-Match."},
        },
    )
    def get_addon_thumbnail(
        kind: Kind,
        name: Name,
        client: Drawer,
        if_none_match: Annotated[str | None, Header(max_length=1_000)] = None,
    ) -> Response:
        """An add-on's picture in small: that beside its file (NAME.preview.png, NAME.png; also jpg,
        jpeg and webp), or the one in its header (modelspec.thumbnail)."""
        data = read_picture(find_addon(kind, name), server.settings.limits.upload_bytes)
        tag = f'"{hash_picture(data)}"'
        headers = REVALIDATED | {"etag": tag}
        if if_none_match and tag in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(pictures.shrink(data), media_type="image/webp", headers=headers)

    @router.get("/addons/match", tags=["models"])
    def match(kind: Fitting, name: Name, client: Drawer, model: Model = None) -> MatchOut:
        """How much of an add-on fits a model, told from headers: nothing is loaded or drawn."""
        from fromnoise.pipeline.addons.match import match_addon  # which loads torch

        path = find_addon(kind, name)
        chosen, loaded = find_model(server, model)
        family = "" if loaded else server.worker.family(chosen)
        found = match_addon(kind, path, loaded, family)

        def hide(text: str) -> str:
            return hide_folders(text, *server.settings.folders)

        values = found.__dict__ | {
            "summary": hide(found.summary),
            "lost": [*map(hide, found.lost)],
            "facts": {key: hide(value) for key, value in found.facts.items()},
        }
        return MatchOut(loaded=loaded is not None, **values)
