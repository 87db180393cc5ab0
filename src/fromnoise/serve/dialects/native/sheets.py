"""Many pictures of the gallery on one sheet, with the labels of a grid."""

import threading
from typing import Annotated

from fastapi import APIRouter, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fromnoise.errors import BadInput
from fromnoise.serve.dialects.identity import Looker
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.server import Server
from fromnoise.serve.store.files import PICTURES
from fromnoise.serve.store.gallery import Picture

MOST = 400  # cells
LONGEST = 20_000  # characters of all labels of an axis
Label = Annotated[str, StringConstraints(max_length=2_000)]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
drawing = threading.Lock()  # one sheet at a time: each may take half a gigabyte of memory


class AxisIn(BaseModel):
    """An axis of a sheet: what is varied, and a label for each of its values."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", max_length=400, description='As a grid has it: "prompt:cat".')
    values: str = Field(default="", max_length=2_000, description='As a grid has them: "dog,fox".')
    labels: list[Label] = Field(default=[""], min_length=1, max_length=MOST)


class SheetIn(BaseModel):
    """Pictures in columns (x), rows (y) and sheets one below the other (z)."""

    model_config = ConfigDict(extra="forbid")

    x: AxisIn = AxisIn()
    y: AxisIn = AxisIn()
    z: AxisIn = AxisIn()
    pictures: list[Id | None] = Field(
        min_length=1,
        max_length=MOST,
        description="Ids, sheet by sheet and row by row; null leaves a place free.",
    )


def add_sheets(router: APIRouter, server: Server) -> None:
    """The route."""

    def read(picture: Picture | None) -> Image.Image | None:
        if picture is None:
            return None
        with Image.open(server.files.path(PICTURES, picture.hash), formats=["PNG"]) as file:
            return file.convert("RGB")

    @router.post(
        "/sheet",
        tags=["gallery"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    def draw_sheet(asked: SheetIn, client: Looker) -> Response:
        """One PNG file of many pictures with the labels of their axes. It carries the settings of
        the first picture and the axes, in A1111's words. Nothing is drawn by a model."""
        from fromnoise.pipeline.provenance.write import format_pairs  # which load torch
        from fromnoise.pipeline.sequences.grid import lay_out_sheet

        axes = {"X": asked.x, "Y": asked.y, "Z": asked.z}
        count = len(asked.x.labels) * len(asked.y.labels) * len(asked.z.labels)
        if count != len(asked.pictures):
            fault = f"the axes have {count:,} cells, and there are {len(asked.pictures):,} pictures"
            raise BadInput(fault, "give a picture, or null, for every cell")
        if max(sum(map(len, axis.labels)) for axis in axes.values()) > LONGEST:
            raise BadInput(f"an axis has labels of more than {LONGEST:,} signs", "shorten them")
        rows = [server.gallery.get(one, client.owner) if one else None for one in asked.pictures]
        known = [row for row in rows if row]
        if not known:
            raise BadInput("the sheet has no picture", "name one at least")
        box = max(row.width for row in known), max(row.height for row in known)
        sheet = lay_out_sheet(box, asked.x.labels, asked.y.labels, asked.z.labels)
        more: dict[str, str] = {"Script": "X/Y/Z plot"}
        for letter, axis in axes.items():
            if axis.name:
                more[f"{letter} Type"] = axis.name
                more[f"{letter} Values"] = axis.values
        with drawing:
            try:
                whole = sheet.draw(map(read, rows))
            except FileNotFoundError:
                text = "a picture's file is gone from the disk"
                raise Refusal(404, "not_found", text, "draw its cell again") from None
            whole.info["parameters"] = f"{known[0].infotext}, {format_pairs(more)}"
            return Response(server.files.encode_picture(whole), media_type="image/png")
