"""One call for several runs: the same bits as alone, whatever the network is shown."""

from itertools import pairwise

import fakes
import pytest
import torch

from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import UNetConfig
from fromnoise.models.unet import UNet
from fromnoise.runtime.prepare import prepare
from fromnoise.runtime.shared_call import Call, Verdicts, call_together, join_rows

SIZES = [(2, 2), (1, 1, 1), (2, 2, 1, 1, 1), (1, 2, 4, 2), (2,) * 9]


def make_network(**changes) -> UNet:
    settings = {"in_channels": 4, "out_channels": 4, "block_out_channels": (32, 64)}
    settings |= {"layers_per_block": 1, "attention": (True, True), "heads": (2, 4)}
    settings |= {"context_dim": 48, "transformer_depth": (1, 1), "norm_groups": 8, **changes}
    network = UNet(UNetConfig(**settings))
    fakes.randomize(network, 1)
    return network


def make_call(network: UNet, rows: int, seed: int, axes: str = "none", added: bool = False) -> Call:
    config, generator = network.config, torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    slots = {"context": randn(rows, 20, config.context_dim)}
    if config.guidance_dim:
        slots["guidance"] = randn(rows).abs()
    if config.in_channels > 4:
        slots["concat"] = randn(1, config.in_channels - 4, 12, 8)
    conditioning = Conditioning(**slots)
    residuals = None
    if added:  # as a ControlNet's
        residuals = ({0: randn(rows, 32, 12, 8), 5: randn(rows, 64, 6, 4)}, {})
    x = randn(rows, 4, 12, 8).contiguous(memory_format=torch.channels_last)
    t, constants = 300 * randn(1)[0].abs(), network.constants(conditioning)
    return Call(network, x, t, conditioning, None, constants, residuals, axes)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    ("changes", "axes"),
    [
        ({}, "none"),
        ({}, "both"),
        ({"in_channels": 9}, "none"),
        ({"guidance_dim": 16}, "x"),
        ({"linear_projection": True, "attention": (False, True)}, "none"),
    ],
)
@torch.inference_mode()
def test_answers_are_those_of_the_calls_alone(sizes, changes, axes):
    network = prepare(make_network(**changes)).network
    calls = [make_call(network, rows, i, axes) for i, rows in enumerate(sizes)]
    assert all(one.can_share(other) for one, other in pairwise(calls))
    together = call_together(calls, Verdicts())
    for call, answer in zip(calls, together, strict=True):
        alone = call.run()
        assert torch.equal(answer, alone)
        assert answer.stride()[1:] == alone.stride()[1:]


@torch.inference_mode()
def test_what_is_added_to_the_network_is_each_calls_own():
    network = prepare(make_network()).network
    calls = [make_call(network, rows, i, added=True) for i, rows in enumerate((2, 1, 2))]
    for call, answer in zip(calls, call_together(calls, Verdicts()), strict=True):
        assert torch.equal(answer, call.run())
    assert not calls[0].can_share(make_call(network, 2, 0))  # nothing is added to that one


@torch.inference_mode()
def test_calls_that_differ_in_kind_stay_apart():
    one, other = (prepare(make_network()).network for _ in range(2))
    call = make_call(one, 2, 0)
    assert call.can_share(make_call(one, 1, 1))
    assert not call.can_share(make_call(other, 2, 1))  # other weights
    assert not call.can_share(make_call(one, 2, 1, "both"))
    assert not call.can_share(make_call(one, 3, 1))  # no power of two
    recorded = make_call(one, 2, 1)
    recorded = Call(one, recorded.x, recorded.t, recorded.conditioning, {}, recorded.constants)
    assert not call.can_share(recorded)
    assert not recorded.can_share(recorded)


def test_a_verdict_is_about_the_bits_of_random_numbers_and_not_of_the_weights():
    verdicts, tried = Verdicts(), []

    def watch(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        tried.append((x, weight))
        return x @ weight.T + (x.shape[0] > 2)  # as an operation that looks at the rows

    x, weight = torch.zeros(4, 8), torch.zeros(8, 8)
    assert verdicts.find(watch, [x], (weight,), 2)
    assert all(value.std() > 0.5 for pair in tried for value in pair)
    count = len(tried)
    assert verdicts.find(watch, [torch.ones(4, 8)], (weight,), 2)
    assert len(tried) == count  # known by the shapes
    assert not verdicts.find(watch, [torch.zeros(2, 8)], (weight,), 2)


def test_joined_rows_keep_their_order_in_memory():
    heads = torch.randn(2, 20, 4, 8).transpose(1, 2)  # (B, heads, N, d), a view
    picture = torch.randn(2, 16, 6, 4).contiguous(memory_format=torch.channels_last)
    for value in (heads, picture, torch.randn(2, 5), torch.randn(1, 3, 4, 4).expand(2, 3, 4, 4)):
        joined = join_rows([value, value, value])
        assert torch.equal(joined, torch.cat([value, value, value]))
        if value.stride(0):
            assert joined.stride() == value.stride()
