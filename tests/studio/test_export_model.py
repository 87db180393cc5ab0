"""The packs of the browser tab: what is unpacked lies within half a step of what was packed, and
the steps keep the error that they were chosen for."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

SCRIPT = Path(__file__).parents[2] / "studio/build/export_model.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("export_model", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def weights():
    random = np.random.default_rng(0)
    return {
        "a": random.standard_normal((80, 70), dtype=np.float32),
        "bias": random.standard_normal(12, dtype=np.float32),
        "b": random.standard_normal((3, 2000), dtype=np.float32) ** 5,  # some values are far out
        "norm": random.standard_normal(1, dtype=np.float32),
    }


def test_weights_come_back_within_half_a_step(script, weights):
    largest = float(np.abs(weights["b"]).max())
    content, entries = script.pack(weights, {"a": 1e-3, "b": largest / 50_000})
    back = script.unpack(content, entries)
    assert [entry["offset"] for entry in entries] == [0, 22400, 22448, 46448]
    for entry in entries:
        name, step = entry["name"], entry["step"]
        assert back[name].dtype == np.float32
        far = np.abs(weights[name]).max()
        # half a step, and the rounding of the product to float32
        assert np.abs(back[name] - weights[name]).max() <= step / 2 + far * 2**-24
    assert entries[0]["step"] == np.float32(1e-3)
    assert entries[1]["step"] == entries[3]["step"] == 0  # small ones are exact
    # 16 bits hold the largest value: the step is larger than the one that was asked for
    assert entries[2]["step"] == pytest.approx(largest / 32600)
    # where it would have to be much larger, the tensor is exact
    _, entries = script.pack(weights, {"b": largest / 200_000})
    assert [entry["step"] == 0 for entry in entries] == [False, True, True, True]


def test_a_pack_is_as_its_docstring_says(script, weights):
    """Read value by value, in plain Python, as a reader in another language does."""
    content, entries = script.pack(weights, {})
    n = 80 * 70 + 3 * 2000
    assert len(content) == 2 * n + 4 * 13
    back = script.unpack(content, entries)
    for name, first in (("a", 0), ("b", 80 * 70)):
        [step] = [entry["step"] for entry in entries if entry["name"] == name]
        for i in (0, 1, back[name].size - 1):
            value = (256 * content[first + i] + content[n + first + i] - 32768) * step
            assert back[name].ravel()[i] == np.float32(value)
    assert content[2 * n : 2 * n + 48] == weights["bias"].tobytes()


def test_gzip_has_the_same_bytes_at_every_run(script):
    import gzip

    data = bytes(range(256)) * 100
    assert gzip.decompress(script.compress(data)) == data
    assert script.compress(data)[4:8] == bytes(4)  # no time


def test_steps_keep_the_error_that_they_were_chosen_for(script):
    """Layers of very different sizes: the output of the packed network differs by the error that
    was asked for. A factor of 1.3 is allowed for the few random directions."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(96, 96), nn.Tanh(), nn.Linear(96, 96), nn.Linear(96, 96))
    network.requires_grad_(True)
    with torch.no_grad():
        network[2].weight *= 30
    examples = [(torch.randn(8, 96),) for _ in range(8)]
    steps = script.choose_steps(network, examples, 1, 1e-3)
    before = torch.cat([network(*example) for example in examples]).detach()
    weights = {name: p.detach().numpy() for name, p in network.named_parameters()}
    back = script.unpack(*script.pack(weights, steps))
    network.load_state_dict({name: torch.from_numpy(values) for name, values in back.items()})
    after = torch.cat([network(*example) for example in examples]).detach()
    error = float((after - before).norm() / before.norm())
    assert 1e-3 / 1.3 < error < 1.3e-3
