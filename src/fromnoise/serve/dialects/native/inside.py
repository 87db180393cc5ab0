"""Look inside: the trace of a picture, its panels as JSON and PNG, and two runs side by side."""

import io
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from fromnoise.errors import BadInput
from fromnoise.serve.dialects.identity import Drawer, Viewer
from fromnoise.serve.dialects.native import shapes
from fromnoise.serve.dialects.native.shapes import Identifier
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server
from fromnoise.serve.store.traces import StoredTrace, encode_png
from fromnoise.serve.work.tracing import CHANGES

PanelName = Literal["sigmas", "norms", "guidance", "latents", "frame", "words", "map", "difference"]
Number = Annotated[int, Field(ge=0, lt=100_000)]
OtherId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
TraceId = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{32}$")]
KEPT = {"cache-control": "private, max-age=3600, immutable"}  # a trace's content never changes


class InsideChanges(BaseModel):
    """Settings that the traced run has in place of the picture's; the seed stays."""

    model_config = ConfigDict(extra="forbid")

    prompt: str | None = Field(None, max_length=20_000, pattern="")
    negative_prompt: str | None = Field(None, max_length=20_000, pattern="")
    steps: int | None = Field(None, ge=1, le=1000)
    cfg: float | None = Field(None, ge=0, le=100)
    sampler: str | None = Field(None, max_length=100)
    spacing: str | None = Field(None, max_length=100)


assert set(InsideChanges.model_fields) == set(CHANGES)


class InsideBody(BaseModel):
    """Which run of a picture to look into: its own, or the same seed with a change."""

    model_config = ConfigDict(extra="forbid")

    without: str | None = Field(
        None, min_length=1, max_length=200, description="A word that the prompt is to lose."
    )
    which: int = Field(0, ge=0, le=1000, description="The first such word (0), the second, …")
    changes: InsideChanges = Field(
        default_factory=InsideChanges.model_construct, description="Settings that are to differ."
    )


class TraceOut(BaseModel):
    """A trace: there is one where `ready`, else the job makes it."""

    trace: str
    ready: bool
    job: shapes.JobOut | None
    path: str = Field(description="Where it is, once it is ready.")


class PanelQuery(BaseModel):
    """Which part of a panel. call: a number of the trace's calls; of: which latents; word, layer:
    their numbers. `difference` compares with the trace `other` of `other_picture`."""

    call: Number | None = None
    of: Literal["x", "cond", "uncond", "guided", "eps"] = "guided"
    word: Number = 0
    layer: Number | None = None
    other_picture: OtherId | None = None
    other: OtherId | None = None

    def make_ask(self) -> Any:
        """The same for `PANELS`."""
        from fromnoise.pipeline.inside.panels import Ask

        return Ask(self.call, self.of, self.word, self.layer)


class PlaceOut(BaseModel):
    """A function of the package that computed something, where it stands as the server runs."""

    what: str
    file: str
    line: int
    name: str


class InsideWord(BaseModel):
    """A word as the network reads it; `of`: which of its kind, counted from 0."""

    text: str
    of: int


class InsideCall(BaseModel):
    """A call of the network. `kept`: whether its tensors are, or only its numbers."""

    call: int
    step: int
    stage: int
    part: int
    sigma: float
    t: float
    scale: float = Field(description="The network reads x times this.")
    rms: dict[str, float]
    angles: dict[str, float | None]
    words: list[int] = Field(description="The words that it was shown, by their number.")
    shares: list[float] = Field(description="The share of the attention of each of them.")
    kept: bool


class InsideOut(BaseModel):
    """What a traced run was. `same`: whether it drew the picture again, pixel by pixel, and
    `same_file`, byte by byte; None for a run with a change."""

    trace: str
    picture: str
    model: str
    without: str | None
    changed: bool
    same: bool | None
    same_file: bool | None
    levels: int | None = Field(description="The greatest difference to the picture, of 255.")
    prompt: str
    negative_prompt: str
    settings: dict[str, Any]
    infotext: str
    width: int
    height: int
    latents: int = Field(description="Channels of the latents.")
    words: list[InsideWord]
    layers: list[str]
    calls: list[InsideCall]
    notes: list[str]
    image: str = Field(description="The path of the picture that the traced run drew.")
    places: list[PlaceOut]


class PanelOut(BaseModel):
    """A panel: a table, and values (layers, height, width) where there is something to draw."""

    panel: str
    title: str
    columns: list[str]
    rows: list[list[str | int | float | None]]
    note: str
    shape: list[int]
    values: list[list[list[float]]]
    labels: list[str] = Field(description="Of the layers of values.")
    places: list[PlaceOut]


def add_inside(router: APIRouter, server: Server) -> None:
    """The routes of traces."""
    base = "/pictures/{identifier}/inside"

    @router.post(
        base,
        status_code=202,
        tags=["inside"],
        responses={200: {"model": TraceOut, "description": "The trace is there already."}},
    )
    def trace_picture(
        identifier: Identifier, asked: InsideBody, response: Response, client: Drawer
    ) -> TraceOut:
        """Traces a picture: draws it again from its settings and keeps what happened inside. A
        trace that is there is given at once; it is kept for a day after the last look."""
        changes = asked.changes.model_dump(exclude_none=True)
        trace, job = server.submit_trace(client, identifier, changes, asked.without, asked.which)
        response.status_code = 200 if job is None else 202
        shown = None
        if job is not None:
            ahead, undo = server.count_ahead(job), server.settings.undo_seconds
            shown = shapes.show_job(job, [], ahead, undo)
        path = f"/api/pictures/{identifier}/inside/{trace}"
        return TraceOut(trace=trace, ready=job is None, job=shown, path=path)

    @router.get(f"{base}/{{trace}}", tags=["inside"])
    def get_trace(identifier: Identifier, trace: TraceId, client: Viewer) -> InsideOut:
        """What a traced run was: its calls with their noise levels and norms, the words."""
        from fromnoise.pipeline.inside.places import locate
        from fromnoise.pipeline.inside.recording import Recorder, record
        from fromnoise.serve.work.tracing import compare_pictures, remove_word

        facts = server.open_trace(client, identifier, trace).facts
        places = [
            locate("the record of the run", record),
            locate("the numbers of a call", Recorder.observe),
            locate("whether it is the same picture", compare_pictures),
            locate("the prompt without a word", remove_word),
        ]
        order = facts["order"]
        return InsideOut(
            **facts,
            trace=trace,
            picture=identifier,
            without=order["without"],
            changed=order["changed"],
            width=facts["size"][0],
            height=facts["size"][1],
            image=f"/api/pictures/{identifier}/inside/{trace}/image",
            places=[PlaceOut(**place.__dict__) for place in places],
        )

    @router.get(
        f"{base}/{{trace}}/image",
        tags=["inside"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    def get_image(identifier: Identifier, trace: TraceId, client: Viewer) -> Response:
        """The picture that the traced run drew, as a PNG file with its settings."""
        data = server.open_trace(client, identifier, trace).read("picture")
        assert data is not None
        return Response(data.tobytes(), media_type="image/png", headers=KEPT)

    @router.get(f"{base}/{{trace}}/{{panel}}", tags=["inside"])
    def get_panel(
        identifier: Identifier,
        trace: TraceId,
        panel: PanelName,
        response: Response,
        client: Viewer,
        asked: Annotated[PanelQuery, Query()],
    ) -> PanelOut:
        """A panel's data."""
        stored = server.open_trace(client, identifier, trace)
        shown = make_panel(server, client, stored, panel, asked)
        values = np.zeros((0, 0, 0)) if shown.values is None else shown.values
        response.headers.update(KEPT)
        return PanelOut(
            panel=panel,
            title=shown.title,
            columns=list(shown.columns),
            rows=shown.rows,
            note=shown.note,
            shape=list(values.shape),
            values=np.round(values.astype(np.float64), 6).tolist(),
            labels=shown.labels,
            places=[PlaceOut(**place.__dict__) for place in shown.places],
        )

    @router.get(
        f"{base}/{{trace}}/{{panel}}/png",
        tags=["inside"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    def draw_panel_file(
        identifier: Identifier,
        trace: TraceId,
        panel: PanelName,
        client: Viewer,
        asked: Annotated[PanelQuery, Query()],
    ) -> Response:
        """A panel as a PNG file. Of `frame` it is the decoded picture of a call; the header
        X-Decoded-By says whether the model's decoder made it (`vae`) or it is a `likeness`."""
        from fromnoise.pipeline.inside.figures import draw_panel

        ask = asked.make_ask()
        stored = server.open_trace(client, identifier, trace)
        if panel == "frame":
            data, by = decode_frame(server, stored, ask)
            headers = KEPT | {"x-decoded-by": by}
            return Response(data, media_type="image/png", headers=headers)
        shown = make_panel(server, client, stored, panel, asked)
        drawn = encode_png(draw_panel(panel, shown, ask, stored.picture()))
        return Response(drawn, media_type="image/png", headers=KEPT)


def make_panel(
    server: Server,
    client: Client,
    stored: StoredTrace,
    panel: str,
    asked: PanelQuery,
) -> Any:
    """A panel of a trace. Raises BadInput and Refusal."""
    from fromnoise.pipeline.inside.panels import PANELS, compare

    ask = asked.make_ask()
    if panel != "difference":
        return PANELS[panel](stored, ask)
    if asked.other is None:
        raise BadInput("a difference needs a second trace", "give other=… and other_picture=…")
    own = stored.facts["order"]["picture"]
    second = server.open_trace(client, asked.other_picture or own, asked.other)
    pictures = stored.picture(), second.picture()
    if ask.call is not None:
        from fromnoise.pipeline.inside.panels import find_nearest, need_tensor

        need_tensor(stored, ask)
        near = find_nearest(second, stored.facts["calls"][ask.call]["sigma"])
        there = replace(ask, call=near["call"])
        pictures = open_frame(server, stored, ask), open_frame(server, second, there)
    return compare(stored, second, ask, *pictures)


def decode_frame(server: Server, stored: StoredTrace, ask: Any) -> tuple[bytes, str]:
    """(the picture of a call's latents as a PNG file, what decoded it). Raises BadInput."""
    from fromnoise.pipeline.inside.panels import need_tensor

    latents = need_tensor(stored, ask)
    row, facts = stored.facts["calls"][ask.call], stored.facts
    if ask.of == "x":
        latents = latents * np.float32(row["scale"])  # as the network reads it
    decoded = partial(server.worker.decode, facts["model"], latents, facts["tiling"])
    return server.traces.frame(stored.path.stem, f"{row['call']}.{ask.of}", decoded)


def open_frame(server: Server, stored: StoredTrace, ask: Any) -> Image.Image:
    """See decode_frame."""
    with Image.open(io.BytesIO(decode_frame(server, stored, ask)[0]), formats=["PNG"]) as frame:
        return frame.convert("RGB")
