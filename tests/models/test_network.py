"""The U-Net is a Network: what the Protocols ask is there, by name and by signature."""

from inspect import signature

import pytest

from fromnoise.models.config import UNetConfig
from fromnoise.models.network import Network, NetworkConfig
from fromnoise.models.unet import UNet


@pytest.mark.parametrize("name", ["constants", "forward"])
def test_the_unet_takes_what_a_network_takes(name):
    asked, given = (signature(getattr(kind, name)).parameters for kind in (Network, UNet))
    assert [*asked] == [*given]
    assert all((a.default is None) == (given[n].default is None) for n, a in asked.items())


def test_its_config_has_the_sizes_that_others_have_to_fit():
    config = UNetConfig(block_out_channels=(32, 64, 64, 64))
    asked = [name for name in vars(NetworkConfig) if not name.startswith("_")]
    assert len(asked) == 6
    assert all(hasattr(config, name) for name in asked)
    assert config.multiple == 8
    assert UNetConfig((4), block_out_channels=(32,), attention=(True,), heads=(4,)).multiple == 1
