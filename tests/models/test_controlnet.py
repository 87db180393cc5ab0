"""ControlNet and T2I-Adapter equal diffusers', alone and inside a U-Net, and every known trap is
caught when it is planted."""

import control_nets as nets
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fromnoise.errors import BadInput
from fromnoise.models import t2i_adapter
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.controlnet import ControlNet, ControlNetConfig, scale_layers
from fromnoise.models.t2i_adapter import T2IAdapterConfig, place_features
from fromnoise.models.unet import UNet

# the largest deviation over the output's RMS, as in test_parity.py
EXACT, COARSE = 1e-9, 2e-5
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
NAMES = pytest.mark.parametrize("name", ["sd1", "sd2", "xl", "xl small"])


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def measure(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.square().mean().sqrt()).item()


class Inputs:
    """Two rows of what the networks see; the picture's side is eight times that of x."""

    def __init__(self, name: str, dtype: torch.dtype, side: tuple[int, int] = (8, 12)):
        self.x, self.t = draw(2, 4, *side, seed=1, dtype=dtype), torch.tensor([17.0, 901.0])
        self.context = draw(2, 7, 24, seed=2, dtype=dtype)
        self.picture = draw(2, 3, 8 * side[0], 8 * side[1], seed=3, dtype=dtype).sigmoid()
        self.added: dict[str, Tensor] | None = None
        self.shown = Conditioning(self.context)
        if nets.UNETS[name].added_dim:
            ids = torch.tensor([[1024.0, 896.0, 0.0, 16.0, 1000.0, 2.5], [512, 640, 8, 0, 513, 6]])
            self.added = {"text_embeds": draw(2, 20, seed=4, dtype=dtype), "time_ids": ids}
            self.shown = Conditioning(self.context, self.added["text_embeds"], ids)

    def ask_theirs(self, network, **more):
        """(what diffusers adds to the skips, and to the middle)."""
        rest = {"added_cond_kwargs": self.added, "return_dict": False} | more
        return network(self.x, self.t, self.context, self.picture, **rest)

    def ask_ours(self, network: ControlNet) -> list[Tensor]:
        return network(self.x, self.t, self.shown, network.embed_hint(self.picture))


def compare(ours: list[Tensor], theirs) -> float:
    skips, middle = theirs
    return max(measure(a, b) for a, b in zip(ours, [*skips, middle], strict=True))


@DTYPES
@NAMES
def test_controlnet(name: str, dtype: torch.dtype):
    ours, theirs = (one.to(dtype) for one in nets.make_controlnets(name))
    inputs = Inputs(name, dtype)
    with torch.no_grad():
        found = compare(inputs.ask_ours(ours), inputs.ask_theirs(theirs))
    assert found <= (EXACT if dtype == torch.float64 else COARSE)


def test_controlnet_that_pools_or_sees_blue_first():
    for more in ({"global_pool_conditions": True}, {"hint": (4, 8)}, {"hint": (4,)}):
        ours, theirs = (one.double() for one in nets.make_controlnets("sd1", **more))
        inputs = Inputs("sd1", torch.float64)
        inputs.picture = F.avg_pool2d(inputs.picture, 8 // ours.settings.factor)
        with torch.no_grad():
            assert compare(inputs.ask_ours(ours), inputs.ask_theirs(theirs)) <= EXACT
    ours, theirs = (
        one.double()
        for one in nets.make_controlnets("sd1", controlnet_conditioning_channel_order="bgr")
    )
    inputs = Inputs("sd1", torch.float64)
    with torch.no_grad():
        assert compare(inputs.ask_ours(ours), inputs.ask_theirs(theirs)) <= EXACT


@pytest.mark.parametrize("name", ["sd1", "xl"])
def test_guess_mode_weighs_layers_as_diffusers(name: str):
    ours, theirs = (one.double() for one in nets.make_controlnets(name))
    inputs = Inputs(name, torch.float64)
    with torch.no_grad():
        mine = inputs.ask_ours(ours)
        scales = scale_layers(len(mine), "guess")
        weighed = [0.7 * s * a for s, a in zip(scales, mine, strict=True)]
        wanted = inputs.ask_theirs(theirs, guess_mode=True, conditioning_scale=0.7)
        # torch.logspace is in fp32 on both sides
        assert compare(weighed, wanted) <= 1e-6


def test_the_layers_of_a1111s_control_modes():
    assert scale_layers(13, "balanced") == [1.0] * 13
    # sd-webui-controlnet: 0.825 ** float(12 - i), the first ten of them for SDXL
    assert scale_layers(13, "control") == [0.825 ** float(12 - i) for i in range(13)]
    assert scale_layers(10, "prompt") == [0.825 ** float(12 - i) for i in range(13)][:10]


@DTYPES
@pytest.mark.parametrize("name", nets.ADAPTERS)
def test_t2i_adapter(name: str, dtype: torch.dtype):
    ours, theirs = (one.to(dtype) for one in nets.make_adapters(name))
    # a side that is odd after some halvings shows how pooling rounds
    picture = draw(1, ours.config.picture_channels, 144, 240, seed=3, dtype=dtype).sigmoid()
    with torch.no_grad():
        pairs = zip(ours(picture), theirs(picture), strict=True)
        worst = max(measure(a, b) for a, b in pairs)
    assert worst <= (EXACT if dtype == torch.float64 else COARSE)


def answer_both(name: str, adapter: str | None, count: int, dtype: torch.dtype, plant=None):
    """The deviation of a U-Net's answer with `count` ControlNets and perhaps an adapter."""
    config, inputs = nets.UNETS[name], Inputs(name, dtype)
    theirs = nets.make_their_unet(config).to(dtype)
    ours = UNet(config).to(dtype).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    added, features, more = {}, {}, {}
    with torch.no_grad():
        for i in range(count):
            mine, other = (one.to(dtype) for one in nets.make_controlnets(name, seed=i + 1))
            for place, value in enumerate(inputs.ask_ours(mine)):
                weighed = (0.7 + i) * value
                added[place] = added[place] + weighed if place in added else weighed
            skips, middle = inputs.ask_theirs(other, conditioning_scale=0.7 + i)
            if more:
                skips = [a + b for a, b in zip(skips, more["down"], strict=True)]
                middle = middle + more["middle"]
            more = {"down": skips, "middle": middle}
        names = {"down_block_additional_residuals": more.get("down")}
        names |= {"mid_block_additional_residual": more.get("middle")}
        if adapter:
            mine, other = (one.to(dtype) for one in nets.make_adapters(adapter))
            values = mine(inputs.picture)
            last = (config.layers_per_block + 1) * len(config.attention) - 1
            for place, value in zip(place_features(config, len(values)), values, strict=True):
                if place <= last:
                    features[place] = 0.6 * value
                else:
                    added[place] = added[place] + 0.6 * value if place in added else 0.6 * value
            names["down_intrablock_additional_residuals"] = [
                0.6 * value for value in other(inputs.picture)
            ]
        if plant:
            plant(added, features)
        wanted = theirs(
            inputs.x, inputs.t, inputs.context, added_cond_kwargs=inputs.added, **names
        ).sample
        found = ours(inputs.x, inputs.t, inputs.shown, residuals=(added, features))
        alone = ours(inputs.x, inputs.t, inputs.shown)
    assert measure(alone, wanted) > 0.05  # they act
    return measure(found, wanted)


CASES = [
    ("sd1", None, 1),
    ("sd1", None, 2),
    ("sd2", None, 1),
    ("xl", None, 1),
    ("xl", None, 2),
    ("sd1", "full", 0),
    ("sd1", "light", 0),
    ("xl", "xl", 0),
    ("sd1", "full", 1),
    ("sd1", "light", 2),
    ("xl", "xl", 1),
]


@DTYPES
@pytest.mark.parametrize(("name", "adapter", "count"), CASES)
def test_a_steps_answer(name: str, adapter: str | None, count: int, dtype: torch.dtype):
    found = answer_both(name, adapter, count, dtype)
    assert found <= (EXACT if dtype == torch.float64 else COARSE)


def drop_middle(added: dict, features: dict) -> None:
    added.pop(max(added))


def swap_neighbours(added: dict, features: dict) -> None:
    added[1], added[2] = added[2], added[1]


def place_late(added: dict, features: dict) -> None:
    """As if features were for the skips alone, which ControlNet's are."""
    for place in list(features):
        added[place] = features.pop(place)


def place_first(added: dict, features: dict) -> None:
    """On the first block of a level, which has the same shape."""
    first = min(features)
    features[first - 1] = features.pop(first)


@pytest.mark.parametrize(
    ("adapter", "count", "plant"),
    [
        (None, 1, drop_middle),
        (None, 1, swap_neighbours),
        ("full", 0, place_late),
        ("full", 0, place_first),
    ],
)
def test_a_planted_fault_of_places_is_caught(adapter, count, plant):
    assert answer_both("sd1", adapter, count, torch.float64, plant) > 100 * COARSE


def swap_ends(network: ControlNet) -> None:
    network.controlnet_down_blocks[0], network.controlnet_down_blocks[1] = (
        network.controlnet_down_blocks[1],
        network.controlnet_down_blocks[0],
    )


def see_blue_first(network: ControlNet) -> None:
    network.embed_hint = lambda p: network.controlnet_cond_embedding(p.flip(1))  # type: ignore


def see_from_minus_one(network: ControlNet) -> None:
    network.embed_hint = lambda p: network.controlnet_cond_embedding(2 * p - 1)  # type: ignore


@pytest.mark.parametrize("plant", [swap_ends, see_blue_first, see_from_minus_one])
def test_a_planted_fault_of_a_controlnet_is_caught(plant):
    ours, theirs = (one.double() for one in nets.make_controlnets("sd1"))
    inputs = Inputs("sd1", torch.float64)
    plant(ours)
    with torch.no_grad():
        assert compare(inputs.ask_ours(ours), inputs.ask_theirs(theirs)) > 100 * COARSE


def test_a_planted_fault_of_an_adapter_is_caught(monkeypatch):
    ours, theirs = (one.double() for one in nets.make_adapters("full"))
    picture = draw(1, 3, 144, 240, seed=3).sigmoid()
    monkeypatch.setattr(t2i_adapter.F, "relu", F.silu)
    with torch.no_grad():
        mine = ours(picture)
        monkeypatch.undo()
        assert max(measure(a, b) for a, b in zip(mine, theirs(picture), strict=True)) > 1e-3


def test_a_fresh_controlnet_adds_nothing():
    network = ControlNet(ControlNetConfig(nets.UNETS["sd1"], hint_widths=nets.HINT)).eval()
    inputs = Inputs("sd1", torch.float32)
    with torch.no_grad():
        assert not any(value.any() for value in inputs.ask_ours(network))


def test_configurations_that_cannot_be():
    with pytest.raises(BadInput, match="hint_widths"):
        ControlNetConfig(nets.UNETS["sd1"], hint_widths=())
    with pytest.raises(BadInput, match="light_adapter"):
        T2IAdapterConfig("light_adapter", widths=(30, 60))
    with pytest.raises(BadInput, match="6 features"):
        place_features(nets.UNETS["sd1"], 6)
