"""The linear probe finds what is there and nothing else."""

import torch

from fromnoise.data.source import Sample
from fromnoise.evaluate.probe import probe_attributes

SCHEMA = {"digit": tuple("0123456789"), "coin": ("heads", "tails"), "rare": ("yes", "no")}


def test_a_probe_reads_what_the_states_hold_and_only_where_it_is_stated():
    rng = torch.Generator().manual_seed(0)
    digits, coins = (
        torch.randint(0, 10, (800,), generator=rng),
        torch.randint(0, 2, (800,), generator=rng),
    )
    states = torch.nn.functional.one_hot(digits, 10).float() @ torch.randn(10, 12, generator=rng)
    samples = []
    for i, (d, c) in enumerate(zip(digits.tolist(), coins.tolist(), strict=True)):
        said = {"coin"} | ({"digit"} if i % 4 else set()) | ({"rare"} if i < 10 else set())
        wrong = d if i % 4 else (d + 1) % 10  # what is not stated is not what is shown
        shown = {"digit": str(wrong), "coin": SCHEMA["coin"][c], "rare": "no"}
        samples.append(Sample(None, "", shown, frozenset(said)))
    found = probe_attributes(states, samples, SCHEMA)
    assert found.keys() == {"digit", "coin"}  # ten samples are too few to say anything
    assert found["digit"] == 1.0
    assert 0.35 < found["coin"] < 0.65  # 200 tosses: 0.5 ± 4.2 standard errors
