"""GridRequest: a prompt over one to three axes of settings; the HTTP fields derive from it. And the
cells that it stands for."""

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from fromnoise.pipeline.preflight import check_each
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.sequences.axes import Axis, apply_axes, check_axes, parse_axis
from fromnoise.pipeline.sequences.grid import list_places


class GridRequest(GenerationRequest):
    """A GenerationRequest for every cell of a sheet. Axes are written as in A1111's X/Y/Z plot."""

    x: str | None = Field(
        None, max_length=2_000, description='Columns: "steps=4,8,20", "cfg=1-7 (+2)", "seed=1-4".'
    )
    y: str | None = Field(
        None, max_length=2_000, description='Rows, as "prompt:cat=dog,fox": words replaced.'
    )
    z: str | None = Field(None, max_length=2_000, description="Sheets, one below the other.")


@dataclass(frozen=True)
class GridPlan:
    """The cells of a grid, in the order of `grid.list_places`."""

    axes: dict[str, Axis]
    names: list[str]  # of the cells
    cells: list[GenerationRequest]

    @property
    def labels(self) -> list[list[str]]:
        """Of the columns, rows and sheets."""
        return [
            [self.axes[name].label(value) for value in self.axes[name].values]
            if name in self.axes
            else [""]
            for name in "xyz"
        ]


def plan_grid(request: GridRequest, most: int) -> GridPlan:
    """The plan of a request whose seed is decided. most: cells. Raises BadInput and UnknownName."""
    texts = {name: getattr(request, name) for name in "xyz"}
    axes = {name: parse_axis(text, request) for name, text in texts.items() if text}
    places = list_places(check_axes(axes, request, most, "ask for fewer values"))
    base = {name: getattr(request, name) for name in GenerationRequest.model_fields}
    if request.variation_seed is None:  # one for all cells whose variation has a strength
        base["variation_seed"] = ((request.seed or 0) + 1) % 2**64

    def choose_values(place: tuple[int, int, int]) -> list[tuple[Axis, Any]]:
        indices = zip("xyz", place, strict=True)
        return [(axes[name], axes[name].values[i]) for name, i in indices if name in axes]

    names = [", ".join(axis.label(value) for axis, value in choose_values(p)) for p in places]

    def build_cell(place: tuple[int, int, int]) -> GenerationRequest:
        return GenerationRequest.of(**apply_axes(base, choose_values(place)))

    return GridPlan(axes, names, check_each(zip(names, places, strict=True), build_cell))
