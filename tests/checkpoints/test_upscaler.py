"""Upscaling networks: every layout of keys gives the peer's own picture, tiles give the whole,
faults are named."""

import hashlib
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from fromnoise.checkpoints import hub
from fromnoise.checkpoints.formats import upscaler as formats
from fromnoise.errors import BadCheckpoint, BadInput, NotFound
from fromnoise.models.rrdb import Compact, RRDBNet
from fromnoise.runtime import upscaler as running

LRELU = {"negative_slope": 0.2}


class PeerBlock(nn.Module):
    """ESRGAN's block as its paper draws it, written out."""

    def __init__(self, nf, gc):
        super().__init__()
        for r in (1, 2, 3):
            convs = [
                nn.Sequential(nn.Conv2d(nf + i * gc, nf if i == 4 else gc, 3, 1, 1))
                for i in range(5)
            ]
            self.add_module(
                f"RDB{r}", nn.ModuleDict({f"conv{i + 1}": conv for i, conv in enumerate(convs)})
            )

    def forward(self, x):
        out = x
        for r in (1, 2, 3):
            c = getattr(self, f"RDB{r}")
            x1 = F.leaky_relu(c["conv1"](out), **LRELU)
            x2 = F.leaky_relu(c["conv2"](torch.cat((out, x1), 1)), **LRELU)
            x3 = F.leaky_relu(c["conv3"](torch.cat((out, x1, x2), 1)), **LRELU)
            x4 = F.leaky_relu(c["conv4"](torch.cat((out, x1, x2, x3), 1)), **LRELU)
            out = c["conv5"](torch.cat((out, x1, x2, x3, x4), 1)) * 0.2 + out
        return out * 0.2 + x


class Trunk(nn.Module):
    def __init__(self, nf, nb, gc):
        super().__init__()
        self.sub = nn.Sequential(
            *(PeerBlock(nf, gc) for _ in range(nb)), nn.Conv2d(nf, nf, 3, 1, 1)
        )

    def forward(self, x):
        return x + self.sub(x)


class Peer(nn.Module):
    """The first ESRGAN, one sequence of everything; its keys are the first layout. Behind
    unshuffle, Real-ESRGAN."""

    def __init__(self, nf=8, nb=2, gc=4, ups=2, unshuffle=1):
        super().__init__()
        self.unshuffle = unshuffle
        acted = lambda: (nn.Conv2d(nf, nf, 3, 1, 1), nn.LeakyReLU(0.2))  # noqa: E731
        up = [m for _ in range(ups) for m in (nn.Upsample(scale_factor=2), *acted())]
        last = [*acted(), nn.Conv2d(nf, 3, 3, 1, 1)]
        self.model = nn.Sequential(
            nn.Conv2d(3 * unshuffle**2, nf, 3, 1, 1), Trunk(nf, nb, gc), *up, *last
        )

    def forward(self, x):
        return self.model(F.pixel_unshuffle(x, self.unshuffle))


class PeerCompact(nn.Module):
    def __init__(self, nf=8, convs=3, scale=4):
        super().__init__()
        pairs = [m for _ in range(convs) for m in (nn.Conv2d(nf, nf, 3, 1, 1), nn.PReLU(nf))]
        first, last = (
            (nn.Conv2d(3, nf, 3, 1, 1), nn.PReLU(nf)),
            nn.Conv2d(nf, 3 * scale * scale, 3, 1, 1),
        )
        self.body, self.scale = nn.ModuleList([*first, *pairs, last]), scale

    def forward(self, x):
        out = x
        for layer in self.body:
            out = layer(out)
        return F.pixel_shuffle(out, self.scale) + F.interpolate(
            x, scale_factor=self.scale, mode="nearest"
        )


def randomized(network, seed=0):
    """Weights of the size that keeps activations near 1, biases and slopes by lot too, each exact
    in fp32."""
    chance = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        size = p[0].numel() ** -0.5 if p.ndim > 1 else 0.3
        p.data = torch.randn(p.shape, generator=chance) * size
    return network.double().eval()


def renamed(found, names):
    def new(key):
        for old, by in names:
            key = re.sub(f"^{old}", by, key)
        return key

    return {new(k): v for k, v in found.items()}


def layouts(peer, ups, nb):
    """The peer's weights in the keys of each kind of file."""
    first = {k: v.float().contiguous() for k, v in peer.state_dict().items()}
    end = 3 * ups + 2
    parts = [
        (r"model\.0\.", "conv_first."),
        (rf"model\.1\.sub\.{nb}\.", "conv_body."),
        (rf"model\.{end}\.", "conv_hr."),
        (rf"model\.{end + 2}\.", "conv_last."),
        *((rf"model\.{3 * i}\.", f"conv_up{i}.") for i in range(1, ups + 1)),
    ]
    new = renamed(
        first, [*parts, (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0", r"body.\1.rdb\2.conv\3")]
    )
    bsrgan = renamed(
        new,
        [
            (r"body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB"),
            ("conv_body", "trunk_conv"),
            ("conv_up", "upconv"),
            ("conv_hr", "HRconv"),
        ],
    )
    both = {f"params.{k}": v * 0.9 for k, v in new.items()} | {
        f"params_ema.{k}": v for k, v in new.items()
    }
    return {
        "first": first,
        "new": new,
        "bsrgan": bsrgan,
        "ema": {f"params_ema.{k}": v for k, v in new.items()},
        "params": {f"params.{k}": v for k, v in new.items()},
        "both": both,
    }


def nested(tensors):
    """As BasicSR writes them: {"params_ema": {key: tensor}}."""
    found = {}
    for key, value in tensors.items():
        first, _, rest = key.partition(".")
        if first.startswith("params"):
            found.setdefault(first, {})[rest] = value
        else:
            found[key] = value
    return found


@torch.inference_mode()
def difference(ours, peer, shape=(1, 3, 12, 8)):
    """Greatest, of the peer's RMS, in fp64."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, b = ours.double()(x), peer(x)
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.square().mean().sqrt())


@pytest.mark.parametrize("layout", ["first", "new", "bsrgan", "ema", "params", "both"])
@pytest.mark.parametrize(
    ("ups", "unshuffle", "scale"),
    [(2, 1, 4), (1, 1, 2), (3, 1, 8), (2, 2, 2), (2, 4, 1), (0, 1, 1)],
)
def test_every_layout_draws_what_the_peer_draws(tmp_path, layout, ups, unshuffle, scale):
    peer = randomized(Peer(nb=2, ups=ups, unshuffle=unshuffle))
    tensors = layouts(peer, ups, 2)[layout]
    save_file(tensors, tmp_path / "4x.safetensors")
    found = formats.load(tmp_path / "4x.safetensors")
    torch.save(nested(tensors), tmp_path / "4x.pth")
    pickled = formats.load(tmp_path / "4x.pth")
    theirs = pickled.network.state_dict()
    assert all(torch.equal(theirs[k], v) for k, v in found.network.state_dict().items())
    assert pickled.digest == hashlib.sha256((tmp_path / "4x.pth").read_bytes()).hexdigest()[:10]
    assert (found.scale, found.name, len(found.digest)) == (scale, "4x", 10)
    assert (
        difference(found.network, peer) < 1e-9
    )  # the same operations in fp64: only the order of sums may differ


def test_the_comparison_sees_a_planted_fault():
    peer = randomized(Peer())
    ours = formats.build_network(
        found := formats.rename_tensors(layouts(peer, 2, 2)["first"], "x"), "x"
    )
    ours.load_state_dict({k: v.double() for k, v in found.items()}, assign=True)
    assert difference(ours, peer) < 1e-9
    with torch.no_grad():
        ours.get_submodule("body.1.rdb2.conv3").bias[0] += 1e-5
    assert difference(ours, peer) > 1e-9


@pytest.mark.parametrize(("convs", "scale"), [(3, 4), (1, 2), (2, 1)])
def test_the_compact_network_draws_what_the_peer_draws(tmp_path, convs, scale):
    peer = randomized(PeerCompact(convs=convs, scale=scale))
    for prefix in ("", "params.", "params_ema."):
        save_file(
            {prefix + k: v.float() for k, v in peer.state_dict().items()},
            tmp_path / "general.safetensors",
        )
        found = formats.load(tmp_path / "general.safetensors")
        assert isinstance(found.network, Compact)
        assert found.scale == scale
        assert difference(found.network, peer) < 1e-9


def test_a_side_that_does_not_divide_is_mirrored():
    network = randomized(RRDBNet(8, 1, 4, 2, unshuffle=4))
    x = torch.rand(1, 3, 9, 6, dtype=torch.float64)
    with torch.inference_mode():
        assert network(x).shape == (1, 3, 9, 6)
        assert network(x[..., :1, :1]).shape == (1, 3, 1, 1)
        whole = network(F.pad(x, (0, 2, 0, 3), "reflect"))[..., :9, :6]
        assert torch.equal(network(x), whole)


@pytest.mark.parametrize(
    "network", [RRDBNet(8, 1, 4), RRDBNet(8, 1, 4, 2, 2), RRDBNet(8, 1, 4, 1), Compact(8, 2, 3)]
)
def test_tiles_are_the_whole_where_they_overlap_enough(network):
    upscaler = running.Upscaler(randomized(network), "x")
    image = torch.rand(3, 75, 57, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    overlap = -(-network.reach // 4) * 4
    with torch.inference_mode():
        whole = network(image[None])[0]
        # 1e-12 of values near 1, in fp64: convolutions of other sizes add in another order
        assert (upscaler(image, 16, overlap) - whole).abs().max() < 1e-12
        assert (upscaler(image, 16, 0) - whole).abs().max() > 1e-6  # without overlap the seams show
        assert torch.equal(upscaler(image), whole)


@pytest.mark.parametrize(
    "network", [RRDBNet(4, 1, 4), RRDBNet(4, 1, 4, 2, 2), RRDBNet(4, 1, 4, 3), Compact(4, 2, 3)]
)
def test_reach_is_as_far_as_a_pixel_is_felt(network):
    network = randomized(network)
    middle = 60
    x = torch.rand(1, 3, 2 * middle, 2, dtype=torch.float64)
    moved = x.clone()
    moved[:, :, middle] += 1
    with torch.inference_mode():
        felt = (network(x) != network(moved)).any(3).any(1)[0].nonzero()[
            :, 0
        ] // network.scale - middle
    assert (
        network.reach - 2 * getattr(network, "unshuffle", 1)
        <= int(felt.abs().max())
        <= network.reach
    )


def test_too_many_pixels_are_an_error(monkeypatch):
    monkeypatch.setattr(running, "PIXELS", 16 * 100)
    upscaler = running.Upscaler(RRDBNet(4, 1, 4), "x")
    assert upscaler(torch.rand(3, 10, 10)).shape == (3, 40, 40)
    with pytest.raises(BadInput, match="10x11 pixels times 4"):
        upscaler(torch.rand(3, 11, 10))


def changed(layout, drop=None, **more):
    found = layouts(randomized(Peer()), 2, 2)[layout]
    found.pop(drop, None)
    return found | more


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (changed("first", "model.1.sub.0.RDB2.conv3.0.bias"), "missing body.0.rdb2.conv3.bias"),
        (changed("new", "body.1.rdb3.conv5.weight"), "missing body.1.rdb3.conv5.weight"),
        (changed("new", stray=torch.ones(1)), "unexpected stray"),
        # ESRGAN+
        (
            changed("first", **{"model.1.sub.0.RDB1.conv1x1.weight": torch.ones(4, 8, 1, 1)}),
            "conv1x1",
        ),
        (
            changed("first", "model.6.weight", **{"model.7.weight": torch.ones(8, 8, 3, 3)}),
            "ESRGAN's sequence",
        ),
        (changed("first", **{"model.12.weight": torch.ones(8, 8, 3, 3)}), "ESRGAN's sequence"),
        (changed("ema", stray=torch.ones(1)), "stray"),
        ({k: v for k, v in changed("both").items() if k != "params.conv_hr.bias"}, "conv_hr.bias"),
        (changed("new", **{"conv_first.weight": torch.ones(8, 4, 3, 3)}), "4 channels"),
        (changed("new", **{"conv_hr.weight": torch.ones(8, 8, 1, 1)}), "conv_hr.weight is"),
        # no memory for 999 blocks
        (changed("new", **{"body.999.rdb1.conv1.weight": torch.ones(1)}), "missing body.2"),
        (
            changed("new", **{f"conv_up{i}.weight": torch.ones(8, 8, 3, 3) for i in range(3, 30)}),
            "29 times",
        ),
        (changed("new", **{"conv_first.weight": torch.ones(8)}), "no convolution conv_first"),
        ({"layers.0.residual_group.blocks.0.norm1.weight": torch.ones(4)}, "no upscaling network"),
        ({"body.0.weight": torch.ones(8, 3, 3, 3)}, "body.0 does not end"),
        ({}, "no upscaling network"),
    ],
)
def test_bad_files_are_named(tmp_path, tensors, said):
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    with pytest.raises(BadCheckpoint, match=re.escape(said)):
        formats.load(path)


def test_the_registry_finds_a_format_by_its_sign(tmp_path):
    save_file(layouts(randomized(Peer()), 2, 2)["new"], tmp_path / "4x.SafeTensors")
    assert hub.load_format("upscaler", tmp_path / "4x.SafeTensors").scale == 4
    with pytest.raises(NotFound, match=r"no upscaler in .*nothing: it has no \.safetensors"):
        hub.load_format("upscaler", tmp_path / "nothing")


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    torch.save({"x": 1}, tmp_path / "4x.pth")
    with pytest.raises(BadCheckpoint, match="there are no tensors in it"):
        formats.load(tmp_path / "4x.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        formats.load(tmp_path / "cut.safetensors")
    with pytest.raises(NotFound, match=r"nothing\.safetensors"):
        formats.load(tmp_path / "nothing.safetensors")
