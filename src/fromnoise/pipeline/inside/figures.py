"""Panels as pictures: values as tiles, a map over the picture, numbers as lines."""

import io

import numpy as np
import torch
from PIL import Image

from fromnoise.errors import BadInput
from fromnoise.pipeline.inside.panels import Ask, Panel
from fromnoise.pipeline.inside.report import check_plotting, draw_overlay

TILE, GAP = 96, 4  # pixels: the least side of a tile, and what is between two
DIVERGING = ((33, 102, 172), (247, 247, 247), (178, 24, 43))  # below 0, 0, above it
HEAT = ((13, 8, 35), (120, 28, 109), (229, 92, 48), (252, 255, 164))


def draw_panel(name: str, panel: Panel, ask: Ask, picture: Image.Image) -> Image.Image:
    """The picture of a panel. picture: what a word's map is laid over. Raises BadInput for lines
    where matplotlib is not installed, and for a map of guidance where there is none."""
    if name == "map" and panel.values is not None:
        values = panel.values.mean(0)
        if ask.call is not None:
            at = [row[0] for row in panel.rows]
            if ask.call not in at:
                raise BadInput(
                    f"call {ask.call} has no map of this word", f"choose one of {at[:40]}"
                )
            values = panel.values[at.index(ask.call)]
        low, high = float(panel.values.min()), float(panel.values.max())
        if ask.call is None:
            low, high = float(values.min()), float(values.max())
        return draw_overlay(picture, torch.from_numpy(np.ascontiguousarray(values)), low, high)
    if name in ("latents", "frame") and panel.values is not None:
        return draw_tiles(panel.values, DIVERGING, float(np.abs(panel.values).max()), -1.0)
    if name in ("difference", "guidance") and panel.values is not None:
        return draw_tiles(panel.values, HEAT, float(panel.values.max()), 0.0)
    if name == "words":
        rows = [[np.nan if cell is None else cell for cell in row[2:]] for row in panel.rows]
        return draw_tiles(np.nan_to_num(np.array(rows, float))[None], HEAT, 1.0, 0.0)
    return draw_lines(name, panel)


def draw_tiles(
    values: np.ndarray, colours: tuple[tuple[int, ...], ...], most: float, low: float
) -> Image.Image:
    """Layers (n, h, w) side by side, at least TILE pixels each. low: −1 for values of two signs
    from −most to most, 0 for those from 0 to most."""
    level = np.clip(values / (most or 1.0), low, 1.0)
    level = (level - low) / (1.0 - low)
    stops = np.linspace(0, 1, len(colours))
    pixels = np.stack([np.interp(level, stops, [c[k] for c in colours]) for k in range(3)], -1)
    pixels = pixels.round().astype(np.uint8)
    count, high, wide = values.shape
    scale = max(1, -(-TILE // max(high, wide)))
    across = min(count, max(1, round(np.ceil(np.sqrt(count)))))
    down = -(-count // across)
    high, wide = high * scale, wide * scale
    sheet = Image.new("RGB", (across * (wide + GAP) - GAP, down * (high + GAP) - GAP), "white")
    for i, layer in enumerate(pixels):
        tile = Image.fromarray(layer).resize((wide, high), Image.Resampling.NEAREST)
        sheet.paste(tile, (i % across * (wide + GAP), i // across * (high + GAP)))
    return sheet


def draw_lines(name: str, panel: Panel) -> Image.Image:
    """The columns of a table behind its first three, call by call."""
    check_plotting()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for k, column in enumerate(panel.columns[3:], 3):
        if name == "sigmas" and column == "t":
            continue
        points = [(row[0], row[k]) for row in panel.rows if row[k] is not None]
        if points:
            axis.plot(*zip(*points, strict=True), "o-", label=column, markersize=3)
    if name == "sigmas":
        axis.set_yscale("log")
    axis.set(title=panel.title, xlabel="call of the network")
    axis.legend(frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
    return Image.open(data).convert("RGB")
