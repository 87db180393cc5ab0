"""Grids: every cell, and the sheet that shows them all."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from PIL import Image

from fromnoise.pipeline.generate import Step, generate
from fromnoise.pipeline.preflight import check_drawable, check_each
from fromnoise.pipeline.provenance.write import write_infotext
from fromnoise.pipeline.sequences.axes import describe_axes
from fromnoise.pipeline.sequences.grid import lay_out_sheet
from fromnoise.pipeline.sequences.grid_request import GridRequest, plan_grid
from fromnoise.serve.work.engines import Engine


def draw_grid(
    engine: Engine, request: GridRequest, watch: Callable[[Step], None]
) -> list[Image.Image]:
    """The sheet, then its cells, each as `generate` draws it. `watch` is told of all steps as if
    they were those of one run. Raises BadInput, before the first step, for cells that cannot be
    drawn, and for a grid that costs more than `max_cost`."""
    parts, plan = (engine.model, engine.unet), plan_grid(request, 10_000)
    share = None if request.max_cost is None else request.max_cost / len(plan.cells)
    cells = [cell.model_copy(update={"max_cost": share}) for cell in plan.cells]
    named = zip(plan.names, cells, strict=True)
    cells = check_each(named, lambda one: check_drawable(*parts, one, None))
    box = max(one.width or 0 for one in cells), max(one.height or 0 for one in cells)
    columns, rows, sheets = plan.labels
    sheet = lay_out_sheet(box, columns, rows, sheets)
    total = sum(one.steps or 1 for one in cells)
    pictures: list[Image.Image] = []

    def tell(step: Step, before: int, steps: int) -> None:
        watch(replace(step, index=before + min(step.index, steps - 1), total=total))

    done = 0
    for one in cells:
        steps = one.steps or 1
        pictures += generate(*parts, one, watch=partial(tell, before=done, steps=steps))
        done += steps
    whole = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    first, more = cells[0].model_copy(update=whole), describe_axes(plan.axes)
    drawn = sheet.draw(pictures)
    drawn.info["parameters"] = write_infotext(engine.model, first, 0, engine.unet.plan, more)
    return [drawn, *pictures]
