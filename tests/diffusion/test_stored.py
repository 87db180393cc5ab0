"""What every sampler drew when its proofs were last read: a change to any of them must be meant.

`python tests/diffusion/test_stored.py` writes stored.json anew.
"""

import json
import sys
from itertools import count
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from mixtures import MIXTURE, START, grid

from fromnoise.diffusion.samplers import SAMPLERS, load
from fromnoise.diffusion.samplers.base import Answer
from fromnoise.diffusion.samplers.drive import drive

FILE = Path(__file__).with_name("stored.json")


def compute_values(sampler: str) -> list[float]:
    """Five points of the mixture after twenty steps to 0 (fewer have no restart), with an
    unconditional answer of its own, and noise without a random generator, whose numbers might be
    another machine's."""
    calls = count(1)

    def noise(sigma, sigma_next, image=None):
        size = 5 if image is None else 1
        part = torch.tensor(
            [(next(calls) * 0.6180339887498949) % 1 for _ in range(size)], dtype=torch.float64
        )
        return torch.special.ndtri(0.01 + 0.98 * part).view(-1, 1, 1, 1)

    def answer(query):
        x0 = MIXTURE.denoise(query).x0
        return Answer(x0, 0.8 * x0 - 0.1)

    return drive(load(sampler)(START[::9], grid(20, "zero"), noise), answer).flatten().tolist()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_values_are_those_stored(sampler):
    # fp64, some hundred operations; exp and log may differ in their last bit between machines
    assert compute_values(sampler) == pytest.approx(
        json.loads(FILE.read_text())[sampler], abs=1e-11
    )


if __name__ == "__main__":
    rows = (f' "{name}": {json.dumps(compute_values(name))}' for name in SAMPLERS)
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
