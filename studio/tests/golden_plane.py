"""Numbers for the explorables of the plane and of the race, see write_golden.py."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests.mixtures, the data of the samplers


def describe_race() -> dict[str, Any]:
    """The mixture of one dimension: its denoiser, its exact answer, the errors of samplers."""
    import torch

    from fromnoise.diffusion.brownian import BrownianNoise
    from fromnoise.diffusion.samplers import load
    from fromnoise.diffusion.samplers.base import Query
    from fromnoise.diffusion.samplers.drive import drive
    from tests.mixtures import MIXTURE, START, grid

    def measure(name: str, steps: int) -> float:
        end = drive(load(name)(START, grid(steps), None), MIXTURE.denoise)
        return float((end - exact).square().mean().sqrt())

    x = torch.linspace(-30, 30, 13, dtype=torch.float64)
    exact = MIXTURE.exact(START, 20.0, 0.05)
    kept = BrownianNoise([5], (37, 1, 1), 0.05, 20.0)
    walk = drive(load("euler_a")(START.view(1, 37, 1, 1), grid(64), kept), MIXTURE.denoise)

    def follow_path(name: str, steps: int) -> torch.Tensor:
        """The end of a run on the Brownian path of seed 1."""
        path = BrownianNoise([1], (37, 1, 1), 0.05, 20.0)
        return drive(load(name)(START.view(1, 37, 1, 1), grid(steps), path), MIXTURE.denoise)

    truth = follow_path("euler_a", 2048)
    return {
        "denoise": [
            [s, v, float(MIXTURE.denoise(Query(torch.tensor(v).double(), s, 0)).x0)]
            for s in (0.05, 0.4, 2.0, 20.0)
            for v in x.tolist()
        ],
        "starts": START.flatten().tolist(),
        "exact": exact.flatten().tolist(),
        "grid": grid(8).tolist(),
        "errors": {
            name: [measure(name, n) for n in (2, 4, 8, 16, 32, 64, 128)]
            for name in ("euler", "heun", "dpmpp_2m")
        },
        "walk": walk.flatten().tolist(),
        "path": {
            name: [
                float((follow_path(name, n) - truth).square().mean().sqrt())
                for n in (2, 4, 8, 16, 32, 64, 128)
            ]
            for name in ("euler_a", "dpmpp_2m_sde")
        },
    }


def describe_field() -> dict[str, Any]:
    """Three starts that `euler` takes through the exact field of four points, and the arrows of a
    ring."""
    import torch

    from fromnoise.diffusion.samplers import load
    from fromnoise.diffusion.samplers.base import Answer, Query
    from fromnoise.diffusion.samplers.drive import drive

    points = torch.tensor([[0.5, -0.2], [-0.8, 0.4], [0.1, 0.9], [0.0, 0.0]], dtype=torch.float64)
    deviation = 0.1

    def denoise(
        x: torch.Tensor, sigma: float, points: torch.Tensor, deviation: float
    ) -> torch.Tensor:
        """E[x0 | x] for x (n, 2): a Gaussian around each point."""
        spread = deviation**2 + sigma**2
        likely = torch.softmax(-(torch.cdist(x, points) ** 2) / (2 * spread), 1)
        keep = deviation**2 / spread
        return likely @ points * (1 - keep) + keep * x

    def answer(query: Query) -> Answer:
        x0 = denoise(query.x[:, :, 0, 0], query.sigma, points, deviation)
        return Answer(x0[:, :, None, None])

    angle = 2 * math.pi * (torch.arange(60, dtype=torch.float64) + 0.5) / 60
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    places = 2 * ((2 * torch.arange(15, dtype=torch.float64) + 1) / 15 - 1)
    cells = torch.cartesian_prod(places, places)
    starts = torch.tensor([[3.0, 1.0], [-4.0, 2.5], [0.3, -5.0]], dtype=torch.float64)
    sigmas = torch.cat([torch.logspace(1, -2, 12, dtype=torch.float64), torch.zeros(1)])
    ends = drive(load("euler")(starts[:, :, None, None], sigmas, None), answer)
    return {
        "points": points.flatten().tolist(),
        "deviation": deviation,
        "starts": starts.flatten().tolist(),
        "sigmas": sigmas.tolist(),
        "ends": ends.flatten().tolist(),
        "ring": (denoise(cells, 3.0, ring, 0.03) - cells).flatten().tolist(),
    }


def describe_tiny() -> dict[str, Any]:
    """A network of two hidden layers: its loss, its gradient and one step of Adam, by torch."""
    import torch
    from torch import nn
    from torch.nn.utils import parameters_to_vector

    from fromnoise.diffusion.forward import compute_target
    from fromnoise.diffusion.schedule import NoiseSchedule

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(5, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 2)
    ).double()
    inputs, targets = (torch.randn(6, k, dtype=torch.float64) for k in (5, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    before = parameters_to_vector(network.parameters()).tolist()
    loss = (network(inputs) - targets).square().sum(1).mean()
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    optimizer.step()
    sigma = 1.7
    schedule = NoiseSchedule(torch.tensor([0.9, 1 / (1 + sigma**2)], dtype=torch.float64))
    x0, noise = (torch.tensor([row], dtype=torch.float64) for row in ([0.3, -1.1], [0.8, 0.4]))
    target = compute_target("v", schedule, x0, noise, torch.tensor([1]))
    return {
        "before": before,
        "inputs": inputs.flatten().tolist(),
        "targets": targets.flatten().tolist(),
        "loss": loss.item(),
        "gradient": gradient.tolist(),
        "after": parameters_to_vector(network.parameters()).tolist(),
        "v": [sigma, x0.flatten().tolist(), noise.flatten().tolist(), target.flatten().tolist()],
    }


def describe_destroy() -> dict[str, Any]:
    """The forward process at some timesteps of each schedule that the explorable offers."""
    import torch

    from fromnoise.diffusion.forward import add_noise
    from fromnoise.diffusion.schedule import NoiseSchedule
    from fromnoise.diffusion.schedules import make_cosine, make_linear

    schedules = {
        "bundled": NoiseSchedule.scaled_linear(0.00085, 0.02),
        "scaled_linear": NoiseSchedule.scaled_linear(),
        "linear": make_linear(),
        "cosine": make_cosine(),
    }
    x0 = torch.linspace(-1, 1, 48).view(1, 3, 4, 4)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(7))
    return {
        "x0": x0.flatten().tolist(),
        "rows": [
            [name, t, float(s.alpha_bar[t]), float(s.sigmas[t]), float(s.snr[t]),
             add_noise(s, x0, noise, torch.tensor([t])).flatten().tolist()]
            for name, s in schedules.items()
            for t in (0, 1, 317, 500, 999)
        ],
    }  # fmt: skip


SUBJECTS: dict[str, Callable[[], Any]] = {
    "destroy": describe_destroy,
    "race": describe_race,
    "field": describe_field,
    "tiny": describe_tiny,
}
