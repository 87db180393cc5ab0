"""A network that is run otherwise than as it is: seamlessly, or told whole timesteps."""

from copy import copy
from typing import Any

from torch import Tensor

from fromnoise.models.unet import Conditioning
from fromnoise.runtime.prepare import Prepared, Step
from fromnoise.runtime.tiling import tile

# diffusers cuts what its fp32 tables give: on Stable Diffusion's schedule, T − 1 lies just below
# itself
NEARLY = 1e-4


def vary(unet: Prepared, tiling: str, timesteps: str) -> Prepared:
    """The same network, seamless along the axes of `tiling`, and told `timesteps`: "exact",
    "rounded" to the nearest whole one, or "cut" to the lower."""
    unet = unet if tiling == "none" else tile(unet, tiling)
    return unet if timesteps == "exact" else tell_whole_timesteps(unet, timesteps)


def tell_whole_timesteps(unet: Prepared, how: str) -> Prepared:
    def bind(conditioning: Conditioning) -> Step:
        step = unet.bind(conditioning)

        def told(x: Tensor, t: Tensor, *more: Any, **named: Any) -> Tensor:
            whole = t.round() if how == "rounded" else (t - NEARLY).floor().clamp(min=0)
            return step(x, whole, *more, **named)

        return told

    other = copy(unet)
    other.bind = bind
    return other
