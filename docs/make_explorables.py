"""Writes docs/explorables.json: what the right choice of every prediction in the course is, and the
measured numbers that its explanation names. Takes about two minutes on two CPU cores.

Every function below is one explorable. It measures, and returns the right choice and its figures.
The chapters hold the same choice as `Answer:`; tests/learn/test_course.py compares them.
"""

import json
import math
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fromnoise.api import Engine, load
from fromnoise.data.sources import open_source
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.samplers import load as load_sampler
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.samplers.drive import drive
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import make_sigmas
from fromnoise.evaluate.judge import Judge

TARGET = Path(__file__).with_name("explorables.json")
WEIGHTS = Path(__file__).parent.parent / "src/fromnoise/weights"
PROMPT = "a neon cat in space"
Measured = tuple[str, dict[str, str]]  # (the right choice, name → value)


def choose(choices: dict[str, bool]) -> str:
    """The one choice that is true."""
    (right,) = (choice for choice, true in choices.items() if true)
    return right


def read_schedule() -> NoiseSchedule:
    """The bundled model's."""
    noise = json.loads((WEIGHTS / "scheduler/scheduler_config.json").read_text())
    names = ("beta_start", "beta_end", "num_train_timesteps")
    return NoiseSchedule.scaled_linear(*(noise[name] for name in names))


def draw_samples(count: int) -> np.ndarray:
    """Pictures of the model's own source, uint8 (count, H, W, 3)."""
    source = open_source("stickers")
    return np.stack([np.asarray(source.sample(seed).image) for seed in range(count)])


# ----- without the model ------------------------------------------------------------------------


def denoise_pair(x: Tensor, sigma: float) -> Tensor:
    """The exact x0 for two equal points at −2 and +2 on the first axis; x is (…, 2)."""
    centre = torch.tensor([2.0, 0.0])
    logits = torch.stack([-((x - c) ** 2).sum(-1) / (2 * sigma**2) for c in (-centre, centre)])
    left, right = logits.softmax(0)
    return (right - left)[..., None] * centre


def exact_field() -> Measured:
    chance = torch.Generator().manual_seed(0)
    x = 50 * torch.randn(1000, 2, generator=chance)
    far = denoise_pair(x, 50.0)
    to_middle = far.norm(dim=-1).mean() < 0.25  # of blobs that lie 2 away from the middle
    return choose({"to the middle between the blobs": bool(to_middle)}), {}


def measure_error(sampler: str, steps: int) -> tuple[float, int]:
    """(RMS error, questions asked) for a Gaussian of variance 1, whose ODE is known exactly."""
    sigmas = torch.tensor([8 * (0.1 / 8) ** (i / steps) for i in range(steps + 1)]).double()
    x = torch.linspace(-2, 2, 64).double().reshape(1, 1, 8, 8) * math.sqrt(1 + 64)
    asked = 0

    def answer(query: Query) -> Answer:
        nonlocal asked
        asked += 1
        return Answer(query.x / (1 + query.sigma**2))

    end = drive(load_sampler(sampler)(x, sigmas, Noise([0], (1, 8, 8))), answer)
    exact = x * math.sqrt((1 + 0.01) / (1 + 64))
    return float((end - exact).square().mean().sqrt()), asked


def solver_race() -> Measured:
    gain = {name: measure_error(name, 40)[0] / measure_error(name, 80)[0] for name in RACE}
    return choose({"Heun's": gain["heun"] > 1.5 * gain["euler"]}), {}


RACE = ("euler", "heun")


def schedules() -> Measured:
    schedule, n = read_schedule(), 8
    low, high = float(schedule.sigmas[0]), float(schedule.sigmas[-1])
    levels = {
        "even in σ": [high + (low - high) * i / (n - 1) for i in range(n)],
        "even in log σ": make_sigmas(schedule, n, "exponential").tolist()[:-1],
        "Karras": make_sigmas(schedule, n, "karras").tolist()[:-1],
    }
    below = {name: sum(s < 1 for s in row) for name, row in levels.items()}
    right = choose({name: count == max(below.values()) for name, count in below.items()})
    names = ("below_one_even", "below_one_log", "below_one_karras")
    return right, dict(zip(names, map(str, below.values()), strict=True))


def write_a_sampler() -> Measured:
    sigmas = make_sigmas(read_schedule(), 10, "karras")
    asked = 0

    def answer(query: Query) -> Answer:
        nonlocal asked
        asked += 1
        return Answer(query.x / (1 + query.sigma**2))

    drive(load_sampler("heun")(torch.ones(1, 1, 2, 2), sigmas, Noise([0], (1, 2, 2))), answer)
    return choose({"nearly twice as many": 10 < asked < 20}), {"heun_calls_10": str(asked)}


def clip_matrix() -> Measured:
    cosines = torch.tensor([[0.9, 0.5, 0.4], [0.3, 0.6, 0.5]])
    warm, cold = ((cosines / t).softmax(1).amax(1) for t in (0.1, 0.05))
    return choose({"it rises": bool((cold > warm).all() and (cold < 1).all())}), {}


def destroy() -> Measured:
    """Compares the power of the noise with that of real pictures, for structures of two sizes."""
    schedule = read_schedule()
    pictures = to_tensor(draw_samples(32))
    spectrum = torch.fft.fft2(pictures - pictures.mean((2, 3), keepdim=True), norm="ortho")
    power, side = spectrum.abs().square().mean((0, 1)), pictures.shape[-1]
    waves = torch.fft.fftfreq(side) * side
    waves = torch.hypot(*torch.meshgrid(waves, waves, indexing="ij"))  # per side of the picture
    areas = power[(waves > 0) & (waves < 4)].mean()  # a quarter of the side and larger
    lines = power[(waves >= 16) & (waves < 32)].mean()  # 4 to 8 pixels
    t_areas, t_lines = (int((schedule.snr * p > 1).sum()) for p in (areas, lines))
    figures = {"t_lines": f"{t_lines}", "t_areas": f"{t_areas}"}
    return choose({"the fine lines": t_lines < t_areas / 2}), figures


def train_on_points() -> Measured:
    """Compares a small network, trained to the end, with the best possible guess, on a circle."""
    chance = torch.Generator().manual_seed(0)
    angles = torch.arange(0, 2 * math.pi, 2 * math.pi / 360)
    circle = torch.stack([angles.cos(), angles.sin()], -1)
    inner = 1.5 * torch.randn(3, 256, generator=chance)
    losses, floors = [], []
    for sigma in (0.05, 0.2, 0.8, 3.0):
        x0 = circle[torch.randint(360, (8000,), generator=chance)]
        x = x0 + sigma * torch.randn(8000, 2, generator=chance)
        best = (-(torch.cdist(x, circle) ** 2) / (2 * sigma**2)).softmax(1) @ circle
        scaled = torch.cat([x / math.sqrt(1 + sigma**2), torch.ones(8000, 1)], 1)
        hidden = (scaled @ inner).tanh()
        half = 4000  # the first half trains the outer weights, the second half measures them
        outer = torch.linalg.lstsq(hidden[:half], x0[:half]).solution
        losses.append(float((hidden[half:] @ outer - x0[half:]).square().sum(1).mean()))
        floors.append(float((best[half:] - x0[half:]).square().sum(1).mean()))
    loss, floor = sum(losses) / 4, sum(floors) / 4
    return choose({"to a floor well above zero": 0.1 < floor < loss < 1.5 * floor}), {}


# ----- with the bundled model -------------------------------------------------------------------


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) → fp32 (B, 3, H, W) in [−1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_arrays(engine: Engine, latents: Tensor) -> np.ndarray:
    """Latents → pictures (B, H, W, 3) with values from 0 to 255."""
    return np.stack([np.asarray(p, dtype=float) for p in engine.pictures(latents)])


def measure_edges(pictures: np.ndarray) -> float:
    """The mean difference of neighbouring pixels, in levels of 255."""
    return float(np.abs(np.diff(pictures, axis=2)).mean())


def one_look(engine: Engine) -> Measured:
    runs = [list(engine.steps(PROMPT, seed=seed)) for seed in range(8)]
    first, last = (to_arrays(engine, torch.cat([run[i].x0 for run in runs])) for i in (0, -1))
    spread = [float(p.std(0).mean()) for p in (first, last)]
    blurred = measure_edges(first) < measure_edges(last) / 2
    figures = {"spread_first": f"{spread[0]:.1f}", "spread_last": f"{spread[1]:.1f}"}
    right = {"a blurred mean of many pictures": blurred and spread[0] < spread[1] / 4}
    return choose(right), figures


def reconstruct(engine: Engine) -> Measured:
    runs = [list(engine.steps(PROMPT, seed=seed)) for seed in range(4)]
    edges = [
        measure_edges(to_arrays(engine, torch.cat([r[i].x0 for r in runs]))) for i in range(20)
    ]
    ends = [edges[0], *(edges[i] for i in (4, 9, 14, 19))]
    gains = [(b - a) / (ends[-1] - ends[0]) for a, b in pairwise(ends)]
    parts = ("first", "second", "third", "last")
    right = choose(
        {f"in the {p} quarter": g == max(gains) for p, g in zip(parts, gains, strict=True)}
    )
    return right, {"sharpened_third": f"{max(gains):.0%}".replace("%", " %")}


def latent_lab(engine: Engine) -> Measured:
    """Counts the channels whose loss is seen in more than half of all places."""
    vae = engine.model.vae
    pictures = to_tensor(draw_samples(32))
    with torch.inference_mode():
        z = vae.to_latents(pictures)
        whole, shares = vae.to_image(z), []
        for channel in range(z.shape[1]):
            cut = z.clone()
            cut[:, channel] = 0
            change = (vae.to_image(cut) - whole).abs().mean(1, keepdim=True) * 127.5
            places = torch.nn.functional.avg_pool2d(change, vae.config.factor)
            shares.append(float((places > 4).float().mean()))  # 4 levels of 255 can just be seen
    broad = [share for share in shares if share > 0.5]
    narrow = [share for share in shares if share <= 0.5]
    figures = {
        "broad_channels": str(len(broad)),
        "line_channels": str(len(narrow)),
        "line_places": f"{max(narrow):.0%}".replace("%", " %"),
    }
    return choose({"for two or three": 2 <= len(broad) <= 3}), figures


def word_lens(engine: Engine) -> Measured:
    inside, outside, start = [], [], []
    for seed in range(4):
        _, trace = engine.trace(PROMPT, seed=seed)
        cat, space = trace.map("cat"), trace.map("space")
        on_cat = cat >= (cat.min() + cat.max()) / 2
        inside.append(float(space[on_cat].mean()))
        outside.append(float(space[~on_cat].mean()))
        start.append(float(trace.map("<start>").mean()))
    ratio = sum(outside) / sum(inside)
    figures = {
        "space_ratio": f"{ratio:.0f}",
        "start_share": f"{sum(start) / len(start):.0%}".replace("%", " %"),
    }
    return choose({"around the cat": ratio > 2}), figures


def guidance_plane(engine: Engine) -> Measured:
    def measure_saturation(scale: float) -> float:
        drawn = [np.asarray(engine.generate(PROMPT, seed=s, cfg=scale)) for s in range(4)]
        return float(np.mean([(p <= 2) | (p >= 253) for p in drawn]))

    four, fifteen = measure_saturation(4.0), measure_saturation(15.0)
    figures = {
        f"saturated_{name}": f"{value:.1%}".replace("%", " %")
        for name, value in (("4", four), ("15", fifteen))
    }
    return choose({"it rises a lot": fifteen > 10 * four}), figures


def prompt_bench(engine: Engine) -> Measured:
    judge, colours = Judge.load(WEIGHTS / "judge"), []
    for prompt in ("a cat in space", PROMPT):
        drawn = [np.asarray(engine.generate(prompt, seed=seed)) for seed in range(4)]
        colours.append([row["colour"] for row in judge.read(np.stack(drawn))])
    changed = sum(a != b for a, b in zip(*colours, strict=True))
    names = {0: "in none", 1: "in one", 2: "in two", 4: "in all four"}
    return names[changed], {"neon_colours": str(len(set(colours[1])))}


PURE: dict[str, Callable[[], Measured]] = {
    "destroy": destroy,
    "exact-field": exact_field,
    "solver-race": solver_race,
    "schedules": schedules,
    "clip-matrix": clip_matrix,
    "write-a-sampler": write_a_sampler,
    "train-on-points": train_on_points,
}
DRAWN: dict[str, Callable[[Engine], Measured]] = {
    "one-look": one_look,
    "reconstruct": reconstruct,
    "latent-lab": latent_lab,
    "word-lens": word_lens,
    "guidance-plane": guidance_plane,
    "prompt-bench": prompt_bench,
}


def main() -> None:
    engine = load()
    measured = {name: function() for name, function in PURE.items()}
    measured |= {name: function(engine) for name, function in DRAWN.items()}
    rows = {name: {"answer": a, "figures": f} for name, (a, f) in measured.items()}
    head = {"made_by": "docs/make_explorables.py", "explorables": rows}
    TARGET.write_text(json.dumps(head, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(TARGET, file=sys.stderr)


if __name__ == "__main__":
    main()
