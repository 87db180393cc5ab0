"""Classifier-free guidance on x0, its rescaling and projection, and the noise levels at which it
acts."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fromnoise.errors import BadInput


@dataclass(frozen=True)
class Guidance:
    """How the conditional and the unconditional picture become one.

    Raises BadInput for values out of their ranges.
    """

    scale: float = 1.0  # see `cfg`; 1: the conditional picture alone
    rescale: float = 0.0  # φ of `rescale`, in [0, 1]
    low: float = 0.0  # guidance acts where low < sigma ≤ high (Kynkäänniemi et al. 2024, eq. 5)
    high: float = math.inf
    # below this sigma every second step goes without ("NGMS" in A1111, its s_min_uncond)
    skip_below: float = 0.0
    apg: bool = False  # adaptive projected guidance, see projection.project
    apg_parallel: float = 0.0  # η there: the share kept of what points along x0
    apg_norm: float = (
        math.inf
    )  # r there: the most that the guidance may measure, an RMS over the image
    apg_momentum: float = 0.0  # β there

    def __post_init__(self):
        fine = {
            "scale": 0 <= self.scale < math.inf,
            "rescale": 0 <= self.rescale <= 1,
            "interval": 0 <= self.low < self.high,
            "skip_below": 0 <= self.skip_below < math.inf,
            "apg_parallel": 0 <= self.apg_parallel <= 1,
            "apg_norm": self.apg_norm > 0,
            "apg_momentum": -1 < self.apg_momentum < 1,
        }
        if wrong := [name for name, ok in fine.items() if not ok]:
            raise BadInput(
                f"guidance with {', '.join(wrong)} out of range cannot be used: {self}",
                "scale from 0, rescale in [0, 1], 0 ≤ low < high, apg_norm above 0, apg_momentum in (−1, 1)",
            )

    def acts(self, sigma: float, step: int) -> bool:
        """Whether the unconditional picture is needed at this level and step for `mix`."""
        skipped = step % 2 and sigma < self.skip_below
        return self.scale != 1 and self.low < sigma <= self.high and not skipped

    def mix(
        self, x0: Tensor, x0_uncond: Tensor, last: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(guided x0 of one image, what to hand in as `last` at the image's next question)."""
        if self.apg:
            from fromnoise.diffusion.projection import project  # only where it is asked for

            difference = (
                x0 - x0_uncond if last is None else x0 - x0_uncond + self.apg_momentum * last
            )
            guided = x0 + (self.scale - 1) * project(
                difference, x0, self.apg_parallel, self.apg_norm
            )
        else:
            difference, guided = None, apply_cfg(x0, x0_uncond, self.scale)
        return rescale(guided, x0, self.rescale) if self.rescale else guided, difference


def apply_cfg(x0: Tensor, x0_uncond: Tensor, scale: float) -> Tensor:
    """x0_uncond + scale·(x0 − x0_uncond) (Ho & Salimans 2022, eq. 6, with w = scale − 1). Since x0
    is affine in every prediction, this is the same as guiding eps or v. scale 1 gives x0."""
    return torch.lerp(x0_uncond, x0, scale)


def rescale(guided: Tensor, x0: Tensor, phi: float) -> Tensor:
    """Guided x0 (B, …) brought back towards the standard deviation of the unguided conditional x0,
    by phi in [0, 1] (Lin et al. 2023, eq. 15 and 16, on x0). An image without any deviation is left
    as it is."""
    dims = tuple(range(1, x0.ndim))
    std, std_guided = x0.std(dims, keepdim=True), guided.std(dims, keepdim=True)
    ratio = torch.where(std_guided > 0, std / std_guided, 1.0)
    return guided * (phi * ratio + (1 - phi))
