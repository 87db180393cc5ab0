"""The golden numbers of the engine's tests: noise, levels, tokens, samplers."""

import base64
import math
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fromnoise.checkpoints.configs import read_tokenizer
from fromnoise.diffusion import samplers
from fromnoise.diffusion.brownian import BrownianNoise
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.parameterization import PREDICTIONS, compute_coefficients
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.samplers.drive import drive
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import SPACINGS, make_sigmas

ROOT = Path(__file__).parents[2]
SEEDS = (0, 1, 2, 42, 123456789, 2**31, 2**32 - 1)


def pack(values: torch.Tensor) -> str:
    """float32 values as base64, little-endian."""
    return base64.b64encode(values.float().numpy().astype("<f4").tobytes()).decode()


def write_random() -> Any:
    """seed → [[count, values], …] of one generator, counts on both sides of 16."""
    counts = (4096, 5, 3, 19, 16, 1, 1001)
    result = {}
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        result[seed] = [[n, pack(torch.randn(n, generator=generator))] for n in counts]
    return result


def write_noise() -> Any:
    """seed → the start of a run and its first two noises, as Noise draws them."""
    result = {}
    for seed in SEEDS:
        noise = Noise([seed], (16, 16, 16))
        result[seed] = [pack(noise.initial), pack(noise(1.0, 0.5)), pack(noise(0.5, 0.2))]
    return result


def write_brownian() -> Any:
    """seed → [[sigma, sigma_next, noise], …] of one path."""
    steps = [(12.5, 3.0), (3.0, 1.7), (3.0, 0.25), (0.25, 0.03), (7.3, 7.29), (1.0, 2.0)]
    result = {}
    for seed in (*SEEDS, 2**40 + 7):
        noise = BrownianNoise([seed], (8, 5), 0.03, 12.5)
        result[seed] = [[s, t, pack(noise(s, t))] for s, t in steps]
    return result


def write_schedule() -> Any:
    schedule = NoiseSchedule.scaled_linear(0.00085, 0.02, 1000)
    times = [0, 0.25, 1, 17.5, 500, 998.9, 999]
    levels = [0.001, 0.0292, 0.1, 1.0, 3.0, 14.6, 50.0, 500.0]
    return {
        "alpha_bar": schedule.alpha_bar.tolist(),
        "sigmas": schedule.sigmas.tolist(),
        "t_to_sigma": [[t, float(schedule.t_to_sigma(t))] for t in times],
        "sigma_to_t": [[s, float(schedule.sigma_to_t(s))] for s in levels],
        "coefficients": [
            [name, s, *compute_coefficients(name, s)] for name in PREDICTIONS for s in levels
        ],
    }


def write_spacing() -> Any:
    """[name, steps, discard_penultimate, sigmas] for every spacing but align_your_steps, which is
    of Stable Diffusion's schedule, and distilled, which is of consistency models."""
    schedule = NoiseSchedule.scaled_linear(0.00085, 0.02, 1000)
    return [
        [name, n, cut, make_sigmas(schedule, n, name, discard_penultimate=cut).tolist()]
        for name in SPACINGS
        if name not in ("align_your_steps", "distilled")
        for n in (1, 2, 7, 8, 20, 25, 50, 333)
        for cut in (False, True)
        if n + cut > 1 or name != "linear_quadratic"
    ]


def write_tokenizer() -> Any:
    """Texts with their ids: whole (32 ids), and of the words alone."""
    tokenizer = read_tokenizer(ROOT / "src/fromnoise/weights/tokenizer")
    letters = [
        chr(c)
        for c in range(0, 0x20000, 13)
        if unicodedata.category(chr(c)) not in ("Cn", "Cs")  # assigned in Python's Unicode
    ]
    signs = [
        *letters[:40], "neon", "cat", " ", "  ", "\n", "'s", "'ll", "!", "?!", "12", "3", "é",
        "e\u0301", "ΣΑΣ", "<|endoftext|>", "<|ENDOFTEXT|>", "<|startoftext|>", "<|start", "|>",
        "日本", "🐱", "👩\u200d🚀", "'", "’s", "ß", "İ", "ﬁ", "½", "٣", "_", "-", "\x00", "\x85",
        "\ufeff", "\u200b", "\u180e", "DON'T", "'T", "\u212a", "a\u030a",
    ]  # fmt: skip
    chance = random.Random(1)
    texts = ["", " ", "a neon cat in space", "neon " * 60, "unbelievably long words " * 20]
    texts += ["".join(chance.choices(signs, k=chance.randrange(1, 14))) for _ in range(1500)]
    texts += ["a".join(letters[i : i + 20]) for i in range(0, len(letters), 20)]
    return [[text, tokenizer.encode(text)[0], tokenizer.encode_words(text)] for text in texts]


# a mixture of three Gaussians on a plane: its denoiser is known in closed form
MEANS, WEIGHTS, DEVIATION = ((-1.0, 0.5), (1.5, 1.0), (0.25, -1.75)), (0.5, 0.3, 0.2), 0.3


def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """E[x0 | x] of the mixture, x (B, 2n): n points, float64."""
    points = x.reshape(-1, 2)
    means = torch.tensor(MEANS, dtype=torch.float64)
    variance = DEVIATION**2 + sigma**2
    distance = (points[:, None] - means).square().sum(-1)
    share = (torch.tensor(WEIGHTS, dtype=torch.float64).log() - distance / (2 * variance)).softmax(
        1
    )
    mean = share @ means
    return (mean + DEVIATION**2 / variance * (points - mean)).reshape(x.shape)


def write_samplers() -> Any:
    """Every sampler on the mixture: start, levels, noise by a formula, last x, number of calls."""
    schedule = NoiseSchedule.scaled_linear(0.00085, 0.02, 1000)
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(1, 24, generator=generator, dtype=torch.float64)

    def draw(sigma: float, sigma_next: float, image: int | None = None) -> torch.Tensor:
        """Not random, but the same here and there; smooth, so that rounding stays small where a
        sampler chooses its levels by what it draws."""
        phase = 3 * math.log(sigma) + 5 * math.log(sigma_next)
        return 1.4 * torch.sin(torch.arange(24, dtype=torch.float64) * 12.9898 + phase)[None]

    runs = []
    for steps in (6, 24):
        for entry in samplers.SAMPLERS.values():
            if entry.name == "tcd":  # which needs the tables of a schedule: not in the tab
                continue
            sigmas = make_sigmas(schedule, steps, "karras")
            calls = 0

            def answer(query: Query) -> Answer:
                nonlocal calls
                calls += 1
                x0 = denoise(query.x, query.sigma)
                return Answer(x0, x0)

            x = start * math.hypot(1, float(sigmas[0]))
            last = drive(samplers.load(entry.name)(x, sigmas, draw), answer)
            runs.append([entry.name, sigmas.tolist(), x[0].tolist(), last[0].tolist(), calls])
    mixture = {"means": MEANS, "weights": WEIGHTS, "deviation": DEVIATION}
    return {"mixture": mixture, "runs": runs}


# subject → a function that returns what its test reads
SUBJECTS: dict[str, Callable[[], Any]] = {
    "random": write_random,
    "noise": write_noise,
    "brownian": write_brownian,
    "schedule": write_schedule,
    "spacing": write_spacing,
    "tokenizer": write_tokenizer,
    "samplers": write_samplers,
}
