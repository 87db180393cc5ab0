"""Networks that see a picture and steer a U-Net: prepared, and run at each step beside it."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.models.attention import Record
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import UNetConfig
from fromnoise.models.controlnet import ControlNet, scale_layers
from fromnoise.models.t2i_adapter import T2IAdapter, place_features
from fromnoise.models.unet import Residuals
from fromnoise.runtime.prepare import Prepared, Step

# (x (B, C, h, w), t) → what is added to a U-Net, or None where nothing is
Run = Callable[[Tensor, Tensor], Residuals | None]
SOFT = 0.25, 0.62, 0.825, 1.0  # A1111's weights of an adapter's features in its other modes


@dataclass(frozen=True, eq=False)
class Control:
    """The network of a file. `name`, `digest` (the start of the file's SHA-256) and `legacy` (the
    hash that A1111's extension writes) are what pictures record."""

    network: ControlNet | T2IAdapter
    name: str
    digest: str = ""
    legacy: str = ""

    def move(self, device: torch.device, dtype: torch.dtype) -> "Control":
        """The same on a device, in a type; the network itself changes."""
        self.network.to(device, dtype)
        for p in self.network.parameters():
            if p.ndim == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        return self


@dataclass(frozen=True, eq=False)
class Steering:
    """A network with its picture (1, C, H, W) in [0, 1], a weight, and a mode: "balanced", "prompt"
    (my prompt is more important), "control" (the ControlNet is more important) or "guess"
    (diffusers' guess mode); the last two act where the network is shown the prompt, and not where
    it is shown the negative one."""

    control: Control
    picture: Tensor
    weight: float = 1.0
    mode: str = "balanced"

    @property
    def one_sided(self) -> bool:
        """Whether it leaves alone what is shown the negative prompt."""
        network = self.control.network
        pools = isinstance(network, ControlNet) and network.settings.pooled
        return self.mode in ("control", "guess") or pools  # as A1111; diffusers pools on both sides


def steer(unet: Prepared, steerings: Sequence[Steering]) -> Prepared:
    """The same network, with what these add to it at each step. A Conditioning's `negative` tells
    the rows that are shown the negative prompt; the U-Net itself is not given that slot."""
    seen: dict[int, list[Tensor]] = {}  # of each, what it makes of its picture alone

    def bind(conditioning: Conditioning) -> Step:
        negative, plain = conditioning.negative, replace(conditioning, negative=None)
        step = unet.bind(plain)
        runs = [
            bind_one(unet, steering, plain, negative, seen.setdefault(i, []))
            for i, steering in enumerate(steerings)
        ]

        @torch.inference_mode()
        def steered(
            x: Tensor,
            t: Tensor,
            record: Record | None = None,
            residuals: Residuals | None = None,
        ) -> Tensor:
            for run in runs:
                residuals = add_residuals(residuals, run(x, t))
            return step(x, t, record, residuals)

        return steered

    other = copy(unet)
    other.bind = bind
    if unet.without_picture is not None:
        other.without_picture = steer(unet.without_picture[0], steerings), unet.without_picture[1]
    return other


def bind_one(
    unet: Prepared,
    steering: Steering,
    conditioning: Conditioning,
    negative: Tensor | None,
    seen: list[Tensor],
) -> Run:
    """One network with a run's constants. It computes only the rows that it acts on. seen: what it
    makes of its picture, filled by its first call, which may run seamlessly (see tiling)."""
    count = len(conditioning.context)
    rows = list(range(count))
    if negative is not None and steering.one_sided:
        rows = [i for i in rows if not negative[i]]
    network = steering.control.network
    if not rows:
        return lambda x, t: None
    if isinstance(network, T2IAdapter):
        return bind_adapter(unet, network, steering, rows, count, seen)
    return bind_controlnet(unet, network, steering, conditioning.rows(rows), rows, count, seen)


@torch.inference_mode()
def bind_controlnet(
    unet: Prepared,
    network: ControlNet,
    steering: Steering,
    conditioning: Conditioning,
    rows: list[int],
    count: int,
    seen: list[Tensor],
) -> Run:
    # not what only the U-Net was trained with: channels beside x, image prompts, a scale
    shown = replace(conditioning, concat=None, image_tokens=None, guidance=None)
    shown = shown.map(lambda name, v: v.to(unet.device, None if name == "time_ids" else unet.dtype))
    constants = network.constants(shown)

    def run(x: Tensor, t: Tensor) -> Residuals:
        if not seen:
            seen.append(network.embed_hint(steering.picture.to(unet.device, unet.dtype)))
        x = x[rows].to(unet.device, unet.dtype, memory_format=torch.channels_last)
        t = t.to(unet.device)
        added = network(x, t[rows] if t.ndim else t, shown, seen[0], constants)
        scales = scale_layers(len(added), steering.mode)
        weighed = [a * (s * steering.weight) for a, s in zip(added, scales, strict=True)]
        return dict(enumerate(spread(value, rows, count) for value in weighed)), {}

    return run


def bind_adapter(
    unet: Prepared,
    network: T2IAdapter,
    steering: Steering,
    rows: list[int],
    count: int,
    seen: list[Tensor],
) -> Run:
    config = unet.network.config
    middle = (config.layers_per_block + 1) * len(config.block_out_channels)
    places = place_features(config, len(network.config.widths) + (network.adapter.conv_in is None))

    def run(x: Tensor, t: Tensor) -> Residuals:
        if not seen:
            seen.extend(network(steering.picture.to(unet.device, unet.dtype)))
        scales = SOFT if steering.mode in ("prompt", "control") else (1.0,) * len(places)
        weighed = {
            place: spread((v * (s * steering.weight)).expand(len(rows), -1, -1, -1), rows, count)
            for place, v, s in zip(places, seen, scales, strict=False)
        }
        added = {place: v for place, v in weighed.items() if place == middle}
        return added, {place: v for place, v in weighed.items() if place != middle}

    return run


def spread(values: Tensor, rows: list[int], count: int) -> Tensor:
    """Values (len(rows), …) as those rows of (count, …), 0 elsewhere."""
    if len(rows) == count:
        return values
    whole = values.new_zeros((count, *values.shape[1:]))
    whole[rows] = values
    return whole


def add_residuals(first: Residuals | None, second: Residuals | None) -> Residuals | None:
    """The sum of both, place by place."""
    if first is None or second is None:
        return first or second
    added, features = (
        dict(a) | {k: a[k] + v if k in a else v for k, v in b.items()}
        for a, b in zip(first, second, strict=True)
    )
    return added, features


def check_made_for(control: Control, unet: UNetConfig, factor: int) -> None:
    """Raises BadInput where a network does not fit a U-Net whose latents are `factor` pixels a
    side."""
    network = control.network
    if isinstance(network, ControlNet):
        c = network.config
        differs = {
            "widths of blocks": c.block_out_channels != unet.block_out_channels,
            "number of blocks a level": c.layers_per_block != unet.layers_per_block,
            "width of the text": (any(c.attention) or c.mid_attention)
            and c.context_dim != unet.context_dim,
            "number of latent channels": c.in_channels != unet.out_channels,
            "sizes that it is told": c.added_dim not in (None, unet.added_dim),
            "size of latents": network.settings.factor != factor,
        }
    else:
        a, widths = network.config, unet.block_out_channels
        xl = a.kind == "full_adapter_xl"
        differs = {
            "widths of blocks": a.widths[: len(widths)] != widths[: len(a.widths)],
            "levels with attention": xl == unet.attention[0],
            "size of latents": a.factor != factor * (2 if xl else 1),
        }
    if wrong := [name for name, other in differs.items() if other]:
        raise BadInput(
            f"{control.name} was made for a model that differs in {', '.join(wrong)}",
            "give one that was made for this kind of model",
        )
