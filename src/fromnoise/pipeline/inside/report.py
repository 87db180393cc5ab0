"""Writes a trace as files to look at: a filmstrip, an overlay for every word, plots of sigma and
norms, and all numbers."""

import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.folders import write_folder
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.inside.trace import END, START, Call, Trace

REMEDY = "choose another folder with --trace"
COLUMNS = 10  # of a sheet, at most: the first call, the last one, and others evenly between
SIDE = 160  # pixels, the longest side of a tile
PAPER, INK = (255, 255, 255), (30, 30, 40)
# the colours of an overlay from low to high, RGBA
HEAT = (
    (0, 0, 0, 0),
    (70, 10, 120, 90),
    (220, 50, 60, 150),
    (255, 170, 20, 190),
    (255, 250, 160, 215),
)


def check_plotting() -> None:
    """Raises BadInput if matplotlib, which draws the plots, is not installed."""
    if find_spec("matplotlib") is None:
        raise BadInput(
            "a trace has plots, and matplotlib is not installed", "pip install 'fromnoise[plots]'"
        )


def write_trace(trace: Trace, pictures: list[Image.Image], folder: Path) -> list[Path]:
    """Writes the trace of every picture into `folder`; of several pictures, each into a folder of
    its seed. Returns the folders.

    filmstrip.png      what the network was shown, and its answers with the prompt, without it and
                       guided, step by step
    words.png          the picture under the map of every word, the mean of all calls and layers
    word-….png         one word's maps by layer and step
    plots.png          sigma, and the norms of x, x0 and eps
    trace.json         the settings, every call with its sigma and norms, the words, and the share
                       of the attention that each got
    trace.safetensors  x, x0 and eps of every call, and every map

    No file is overwritten: see `folders.write_folder`. Raises BadInput where they cannot be
    written.
    """
    check_plotting()
    places = []
    for i, picture in enumerate(pictures):

        def write(part: Path, i: int = i, picture: Image.Image = picture) -> None:
            _draw_filmstrip(trace, i).save(part / "filmstrip.png")
            _draw_words(trace, picture, i).save(part / "words.png")
            for k, word in enumerate(trace.words(i)):
                plain = re.sub(r"\W+", "-", word).strip("-")[:40] or "sign"
                _draw_layers(trace, picture, word, i).save(part / f"word-{k:02d}-{plain}.png")
            _draw_plots(trace, i, part / "plots.png")
            values = {"parameters": picture.info.get("parameters"), **_list_numbers(trace, i)}
            (part / "trace.json").write_text(
                json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            save_file(_collect_tensors(trace.calls[i]), part / "trace.safetensors")

        place = folder / str(trace.request.seeds()[i]) if len(pictures) > 1 else folder
        places.append(write_folder(place, write, REMEDY))
    return places


def _choose_calls(calls: list[Call]) -> list[Call]:
    """At most COLUMNS calls, one a step, at equal distances in the run: those of the prompt's first
    part, and of the first question in a step."""
    first = [call for call in calls if (call.stage, call.part) == (0, 0)]
    return [first[round(at)] for at in np.linspace(0, len(first) - 1, min(COLUMNS, len(first)))]


def _shorten_layer_name(layer: str) -> str:
    """ "up_blocks.0.attentions.1.transformer_blocks.0.attn2" → "up 0.1": the block, the place in
    it."""
    numbers = re.findall(r"\d+", layer)
    return " ".join(
        [layer.split("_")[0], ".".join(numbers if layer.startswith("mid") else numbers[:2])]
    )


@cache
def _load_font() -> ImageFont.FreeTypeFont:
    """matplotlib's own font. It has the letters of most scripts, and Pillow's has those of few."""
    import matplotlib

    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13
    )


def _draw_table(rows: list[tuple[str, list[Image.Image | None]]], heads: list[str]) -> Image.Image:
    """Draws tiles in rows. Each row has its name, each column its head. None leaves a place
    free."""
    font = _load_font()
    tile = next(tile for _, row in rows for tile in row if tile is not None).size
    left, gap, top = max(int(font.getlength(name)) for name, _ in rows) + 16, 4, 24
    wide = left + len(heads) * (tile[0] + gap)
    sheet = Image.new("RGB", (wide, top + len(rows) * (tile[1] + gap)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, head in enumerate(heads):
        draw.text((left + i * (tile[0] + gap) + tile[0] / 2, top / 2), head, INK, font, "mm")
    for j, (name, row) in enumerate(rows):
        y = top + j * (tile[1] + gap)
        draw.text((8, y + tile[1] / 2), name, INK, font, "lm")
        for i, one in enumerate(row):
            if one is not None:
                sheet.paste(one, (left + i * (tile[0] + gap), y))
    return sheet


def _make_tile(picture: Image.Image, fewer: int = 1) -> Image.Image:
    scale = SIDE / fewer / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _decode(trace: Trace, latents: Tensor) -> Image.Image:
    return decode_latents(trace.model.vae, latents[None], trace.request.tiling)[0]


def _draw_filmstrip(trace: Trace, image: int) -> Image.Image:
    """Rows of x at the size that the autoencoder knows, and of the x0 with, without and guided."""
    calls = _choose_calls(trace.calls[image])
    guided = {step.index: step.x0[image] for step in trace.steps}
    rows: list[tuple[str, list[Image.Image | None]]] = [
        ("noisy: x", [_make_tile(_decode(trace, c.x / (1 + c.sigma**2) ** 0.5)) for c in calls]),
        ("x0 with the prompt", [_make_tile(_decode(trace, c.cond)) for c in calls]),
        (
            "x0 without",
            [None if c.uncond is None else _make_tile(_decode(trace, c.uncond)) for c in calls],
        ),
        (
            "x0, guided",
            [
                _make_tile(_decode(trace, guided[c.step])) if c.step in guided else None
                for c in calls
            ],
        ),
    ]
    kept = [row for row in rows if any(tile is not None for tile in row[1])]
    return _draw_table(kept, [f"{c.step + 1}  σ {c.sigma:.3g}" for c in calls])


def draw_overlay(
    picture: Image.Image, map: Tensor, low: float | None = None, high: float | None = None
) -> Image.Image:
    """Lays a map (h, w) over the darkened picture: clear at `low`, bright at `high`. By default
    these are the map's own least and greatest values."""
    low, high = (
        (float(map.min()) if low is None else low),
        (float(map.max()) if high is None else high),
    )
    level = ((map - low) / max(high - low, 1e-12)).clamp(0, 1).numpy().astype(np.float32)
    level = np.asarray(Image.fromarray(level).resize(picture.size, Image.Resampling.BICUBIC)).clip(
        0, 1
    )
    stops = np.linspace(0, 1, len(HEAT))
    heat = np.stack([np.interp(level, stops, [colour[k] for colour in HEAT]) for k in range(4)], -1)
    grey = picture.convert("L").point([round(v * 0.75) for v in range(256)]).convert("RGBA")
    return Image.alpha_composite(
        grey, Image.fromarray(heat.round().astype(np.uint8), "RGBA")
    ).convert("RGB")


def _draw_words(trace: Trace, picture: Image.Image, image: int) -> Image.Image:
    """Draws a tile for every word, six in a row. Each map has its own scale."""
    words = trace.words(image)
    tiles = [
        _make_tile(picture),
        *(_make_tile(draw_overlay(picture, trace.map(word, image))) for word in words),
    ]
    names = ["the picture", *words]
    font, gap, line = _load_font(), 4, 20
    across, (wide, high) = min(6, len(tiles)), tiles[0].size
    down = -(-len(tiles) // across)
    sheet = Image.new("RGB", (across * (wide + gap), down * (high + gap + line)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, (tile, name) in enumerate(zip(tiles, names, strict=True)):
        x, y = k % across * (wide + gap), k // across * (high + gap + line)
        sheet.paste(tile, (x, y + line))
        while font.getlength(name) > wide and len(name) > 2:
            name = name[:-2] + "…"
        draw.text((x + wide / 2, y + line / 2), name, INK, font, "mm")
    return sheet


def _draw_layers(trace: Trace, picture: Image.Image, word: str, image: int) -> Image.Image:
    """Draws one word's maps: layers down, steps across. All steps of a layer share one scale, so
    that the sheet shows how attention comes and goes."""
    calls = [c for c in trace.calls[image] if any(w.text == word for w in c.words)]
    steps = sorted({c.step for c in _choose_calls(trace.calls[image])} & {c.step for c in calls})
    steps = steps or [calls[0].step]
    small, rows = _make_tile(picture, 2), []
    for layer in calls[0].maps:
        maps = [trace.map(word, image, [step], [layer]) for step in steps]
        low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
        tiles: list[Image.Image | None] = [draw_overlay(small, m, low, high) for m in maps]
        rows.append((f"{_shorten_layer_name(layer)}  ≤ {high:.2f}", tiles))
    return _draw_table(rows, [f"step {step + 1}" for step in steps])


def _measure_norms(call: Call) -> dict[str, float]:
    """The root mean squares of a call's tensors. Unit noise has 1."""
    eps, without = call.eps(), call.eps(uncond=True)
    assert eps is not None
    found = {"x": call.x, "x0": call.cond, "eps": eps}
    if without is not None:
        found |= {"eps_uncond": without, "eps_difference": eps - without}
    return {name: float(value.square().mean().sqrt()) for name, value in found.items()}


def _list_numbers(trace: Trace, image: int) -> dict:
    words = trace.words(image)
    shares = {word: float(trace.map(word, image).mean()) for word in words}
    rows = [
        {
            "step": c.step,
            "stage": c.stage,
            "part": c.part,
            "sigma": c.sigma,
            "rms": _measure_norms(c),
            "words": [
                [word.text, list(word.at)] for word in c.words if word.text not in (START, END)
            ],
        }
        for c in trace.calls[image]
    ]
    return {"attention_by_word": shares, "layers": list(trace.calls[image][0].maps), "calls": rows}


def _collect_tensors(calls: list[Call]) -> dict[str, Tensor]:
    found = {}
    for k, c in enumerate(calls):
        eps, without = c.eps(), c.eps(uncond=True)
        named = {"x": c.x, "x0": c.cond, "eps": eps, "x0_uncond": c.uncond, "eps_uncond": without}
        named |= {f"map.{layer}": m for layer, m in c.maps.items()}
        found |= {
            f"call.{k}.{name}": value.contiguous()
            for name, value in named.items()
            if value is not None
        }
    return found


def _draw_plots(trace: Trace, image: int, path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    calls = [c for c in trace.calls[image] if c.part == 0]
    sigmas, norms = [c.sigma for c in calls], [_measure_norms(c) for c in calls]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(range(1, len(calls) + 1), sigmas, "o-", color="#5b2a86", markersize=4)
    left.set(title="noise level of each call", xlabel="call of the network", ylabel="σ")
    names = {
        "x0": "x0 with the prompt",
        "eps": "eps with the prompt",
        "eps_uncond": "eps without",
        "eps_difference": "eps with − without",
    }
    for name, label in names.items():
        at = [i for i, row in enumerate(norms) if name in row]
        if at:
            right.plot(
                [i + 1 for i in at], [norms[i][name] for i in at], "o-", label=label, markersize=4
            )
    right.set(
        title="root mean squares of the answers", xlabel="call of the network", ylim=(0, None)
    )
    right.legend(frameon=False)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
