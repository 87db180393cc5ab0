"""PANELS: what a recorded run shows of itself. Each panel is a table, perhaps with values that can
be drawn, and it names the code that computed them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from fromnoise.diffusion.guidance import Guidance
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import make_sigmas
from fromnoise.errors import BadInput
from fromnoise.models.attention import Attention, compute_attention_map
from fromnoise.pipeline.denoiser import make_denoiser
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.inside import recording
from fromnoise.pipeline.inside.places import Place, locate
from fromnoise.pipeline.inside.recording import Recorded
from fromnoise.pipeline.inside.trace import Call, Trace

SIDE = 64  # the longest side of a map and of a difference: larger ones are averaged
KINDS = {
    "x": "x, the noisy latents",
    "cond": "x0 with the prompt",
    "uncond": "x0 without the prompt",
    "guided": "x0, guided",
    "eps": "eps, the noise that x0 implies",
}
Cell = str | int | float | None


@dataclass(frozen=True, eq=False)
class Panel:
    """A table, and (layers, height, width) of values where there is something to draw."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Cell]]
    places: tuple[Place, ...]
    values: np.ndarray | None = None
    labels: list[str] = field(default_factory=list)  # of the layers of values
    note: str = ""


@dataclass(frozen=True)
class Ask:
    """What of a panel is looked at. Numbers of calls and of words are those of the facts."""

    call: int | None = None  # None: the mean of all calls, or the finished picture
    of: str = "guided"  # of KINDS
    word: int = 0
    layer: int | None = None  # None: the mean of all layers


def show_sigmas(recorded: Recorded, ask: Ask) -> Panel:
    """The noise level of every call, among those that the model was trained at."""
    rows = [[*_name(row), row["sigma"], row["t"]] for row in recorded.facts["calls"]]
    curve = np.array(recorded.facts["schedule"], float).T[:, None]  # (2, 1, points): t, sigma
    return Panel(
        "Noise levels",
        ("call", "step", "stage", "sigma", "t"),
        rows,
        (
            locate("the levels of the run", make_sigmas),
            locate("the training levels", NoiseSchedule.__dict__["sigmas"].func),
            locate("t", NoiseSchedule.find_time),
        ),
        curve,
        ["t of training", "sigma of training"],
    )


def show_norms(recorded: Recorded, ask: Ask) -> Panel:
    """The root mean squares of all that a call read and answered."""
    names = ("x", "cond", "uncond", "guided", "eps", "eps_uncond", "guidance")
    rows = [
        [*_name(row), *(row["rms"].get(name) for name in names)] for row in recorded.facts["calls"]
    ]
    titles = ("x", "x0 with", "x0 without", "x0 guided", "eps with", "eps without")
    return Panel(
        "Root mean squares",
        ("call", "step", "stage", *titles, "x0 with − without"),
        rows,
        (
            locate("the root mean squares", recording.measure_norms),
            locate("x0", make_denoiser),
            locate("eps", Call.eps),
        ),
    )


def show_guidance(recorded: Recorded, ask: Ask) -> Panel:
    """How strong guidance is, and where it points; of a call, where in the picture it acts."""
    names = ("with_without", "guidance_x0", "guidance_earlier")
    rows = [
        [*_name(row), row["rms"].get("guidance"), *(row["angles"][name] for name in names)]
        for row in recorded.facts["calls"]
    ]
    values = None
    if ask.call is not None:
        cond, uncond = (read_tensor(recorded, ask.call, of) for of in ("cond", "uncond"))
        if cond is not None and uncond is not None:
            values = np.sqrt(np.square(cond - uncond).mean(0))[None]
    scale = recorded.facts["settings"]["cfg"]
    return Panel(
        "Guidance",
        (
            "call",
            "step",
            "stage",
            "rms",
            "∠ with, without",
            "∠ guidance, x0",
            "∠ to the call before",
        ),
        rows,
        (
            locate("the mix", Guidance.mix),
            locate("the angles, in degrees", recording.measure_angles),
            locate("the map", show_guidance),
        ),
        values,
        ["root mean square over the channels of x0 with − without"] if values is not None else [],
        f"scale {scale:g}; empty where guidance does not act",
    )


def show_latents(recorded: Recorded, ask: Ask) -> Panel:
    """The channels of a call's latents."""
    values = need_tensor(recorded, ask)
    stats = [
        [i, *(float(f(channel)) for f in (np.mean, np.std, np.min, np.max))]
        for i, channel in enumerate(values)
    ]
    return Panel(
        f"Latent channels: {KINDS[ask.of]}",
        ("channel", "mean", "deviation", "least", "greatest"),
        stats,
        (locate("x0", make_denoiser), locate("eps", Call.eps), locate("these values", read_tensor)),
        values,
        [f"channel {i}" for i in range(len(values))],
    )


def show_words(recorded: Recorded, ask: Ask) -> Panel:
    """The share of the attention that each word gets, call by call."""
    words = recorded.facts["words"]
    calls = recorded.facts["calls"]
    shares = np.full((len(calls), len(words)), np.nan)
    for i, row in enumerate(calls):
        shares[i, row["words"]] = row["shares"]
    return Panel(
        "Attention by word",
        ("word", "mean", *(f"call {row['call']}" for row in calls)),
        [
            [word["text"], _mean(shares[:, k]), *(_number(share) for share in shares[:, k])]
            for k, word in enumerate(words)
        ],
        (locate("the attention", compute_attention_map), locate("the sums", recording.sum_tokens)),
    )


def show_map(recorded: Recorded, ask: Ask) -> Panel:
    """The places that a word made the network look at, call by call, and their mean."""
    words, layers = recorded.facts["words"], recorded.facts["layers"]
    if not 0 <= ask.word < len(words):
        raise BadInput(f"there is no word {ask.word}", f"give 0 to {len(words) - 1}")
    if ask.layer is not None and not 0 <= ask.layer < len(layers):
        raise BadInput(f"there is no layer {ask.layer}", f"give 0 to {len(layers) - 1}")
    chosen = range(len(layers)) if ask.layer is None else [ask.layer]
    calls, maps = [], []
    for row in recorded.facts["calls"]:
        if not row["kept"] or ask.word not in row["words"]:
            continue
        place = row["words"].index(ask.word)
        stacks = [recorded.read(f"{row['call']}.map.{layer}") for layer in chosen]
        found = [stack[place] for stack in stacks if stack is not None]
        size = _fit(max(one.shape[0] for one in found), max(one.shape[1] for one in found))
        maps.append(np.mean([resize(one, size) for one in found], 0))
        calls.append(row)
    if not maps:
        raise BadInput(
            f"no call that was kept was shown the word {words[ask.word]['text']!r}",
            "choose another one",
        )
    size = max(one.shape for one in maps)
    values = np.stack([resize(one, size) for one in maps])
    rows = [[*_name(row), *_bounds(one)] for row, one in zip(calls, values, strict=True)]
    layer = "the mean of all layers" if ask.layer is None else layers[ask.layer]
    return Panel(
        f"The map of “{words[ask.word]['text']}”: {layer}",
        ("call", "step", "stage", "least", "mean", "greatest"),
        rows,
        (
            locate("queries and keys", Attention.forward),
            locate("the attention", compute_attention_map),
            locate("the mean of the heads", Trace.observe),
            locate("the sum over the word's tokens", recording.sum_tokens),
            locate("the mean of the layers", show_map),
        ),
        values,
        [f"call {row['call']}" for row in calls],
    )


def show_frame(recorded: Recorded, ask: Ask) -> Panel:
    """What the picture of a call is decoded from."""
    values = need_tensor(recorded, ask)
    row = recorded.facts["calls"][ask.call or 0]
    return Panel(
        KINDS[ask.of],
        ("call", "step", "stage", "sigma", "rms"),
        [[*_name(row), row["sigma"], float(np.sqrt(np.square(values).mean()))]],
        (locate("the picture", decode_latents), locate("x0", make_denoiser)),
        values,
        [f"channel {i}" for i in range(len(values))],
        "the latents that the picture is decoded from; x is decoded as the network reads it",
    )


PANELS: dict[str, Callable[[Recorded, Ask], Panel]] = {
    "sigmas": show_sigmas,
    "norms": show_norms,
    "guidance": show_guidance,
    "latents": show_latents,
    "frame": show_frame,
    "words": show_words,
    "map": show_map,
}


def compare(
    a: Recorded, b: Recorded, ask: Ask, a_picture: Image.Image, b_picture: Image.Image
) -> Panel:
    """Where two runs part: each call of `a` beside the call of `b` at the nearest noise level, and
    the difference of two pictures (of a call, or the finished ones) in levels of 255."""
    if a_picture.size != b_picture.size:
        wide, high = a_picture.size
        raise BadInput(
            f"the pictures are {wide}x{high} and {b_picture.width}x{b_picture.height}",
            "compare pictures of one size",
        )
    rows: list[list[Cell]] = []
    for row in [row for row in a.facts["calls"] if row["kept"]]:
        other = find_nearest(b, row["sigma"])
        apart: list[Cell] = []
        for of in ("x", "guided"):
            one, two = read_tensor(a, row["call"], of), read_tensor(b, other["call"], of)
            apart += measure_apart(one, two)
        rows.append([*_name(row), row["sigma"], other["call"], other["sigma"], *apart])
    pixels = np.abs(measure_levels(a_picture) - measure_levels(b_picture))
    mean, most = float(pixels.mean()), int(pixels.max())
    return Panel(
        "Difference",
        (
            "call",
            "step",
            "stage",
            "sigma",
            "its call",
            "its sigma",
            "x apart",
            "∠ x",
            "x0 apart",
            "∠ x0",
        ),
        rows,
        (locate("the difference", compare), locate("the call beside it", find_nearest)),
        pixels.mean(-1)[None],
        ["levels of 255, the mean of red, green and blue"],
        f"{mean:.2f} of 255 levels on average, {most} at most; "
        f"{float((pixels.max(-1) > 0).mean()):.0%} of the pixels differ",
    )


def measure_apart(a: np.ndarray | None, b: np.ndarray | None) -> list[Cell]:
    """The root mean square of a − b, and the angle between them in degrees; None where one is not
    there, or of another size."""
    if a is None or b is None or a.shape != b.shape:
        return [None, None]
    cosine = float((a * b).sum()) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)
    return [float(np.sqrt(np.square(a - b).mean())), float(np.degrees(np.arccos(min(cosine, 1))))]


def find_nearest(recorded: Recorded, sigma: float) -> dict[str, Any]:
    """The kept call whose noise level is the nearest, as the logarithm counts."""
    kept = [row for row in recorded.facts["calls"] if row["kept"]]
    return min(kept, key=lambda row: abs(np.log(row["sigma"]) - np.log(sigma)))


def measure_levels(picture: Image.Image) -> np.ndarray:
    """A picture as (height, width, 3) of 0 to 255, in numbers that can be subtracted."""
    return np.asarray(picture.convert("RGB"), np.int16)


def read_tensor(recorded: Recorded, call: int, of: str) -> np.ndarray | None:
    """The latents (C, h, w) of a call that KINDS names; None where they are not kept or not there.
    x is as the sampler has it, x0 + sigma·n."""
    if of == "eps":
        x, x0 = recorded.read(f"{call}.x"), recorded.read(f"{call}.cond")
        return (
            None if x is None or x0 is None else (x - x0) / recorded.facts["calls"][call]["sigma"]
        )
    return recorded.read(f"{call}.{of}")


def need_tensor(recorded: Recorded, ask: Ask) -> np.ndarray:
    """See read_tensor. Raises BadInput where it is not there, and says why."""
    calls = recorded.facts["calls"]
    if ask.call is None or not 0 <= ask.call < len(calls):
        raise BadInput(f"there is no call {ask.call}", f"give 0 to {len(calls) - 1}")
    found = read_tensor(recorded, ask.call, ask.of)
    if found is None and not calls[ask.call]["kept"]:
        kept = [str(row["call"]) for row in calls if row["kept"]]
        raise BadInput(
            f"the trace is bounded, and of call {ask.call} only numbers are kept",
            f"choose one of {', '.join(kept[:40])}",
        )
    if found is None:
        raise BadInput(
            f"call {ask.call} has no {KINDS[ask.of]}",
            "guidance does not act there, or the sampler asks again in this step",
        )
    return found


def resize(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A map (h, w) at another size: averaged where it becomes smaller, else bilinear."""
    if values.shape == size:
        return values
    smaller = size[0] < values.shape[0]
    kind = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((size[1], size[0]), kind))


def _fit(high: int, wide: int) -> tuple[int, int]:
    scale = min(SIDE / max(high, wide), 1.0)
    return max(round(high * scale), 1), max(round(wide * scale), 1)


def _name(row: dict[str, Any]) -> list[Cell]:
    return [row["call"], row["step"], row["stage"]]


def _bounds(values: np.ndarray) -> list[Cell]:
    return [float(values.min()), float(values.mean()), float(values.max())]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))
