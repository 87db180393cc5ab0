"""Classifier-free guidance on x0: its scale, rescaling, projection and range of noise levels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """How the conditional and the unconditional picture become one. Raises BadInput."""

    scale: float = 1.0  # see `apply_cfg`; 1: the conditional picture alone
    rescale: float = 0.0  # φ of `rescale`, in [0, 1]
    low: float = 0.0  # guidance acts where low < sigma ≤ high (Kynkäänniemi et al. 2024, eq. 5)
    high: float = math.inf
    skip_below: float = 0.0  # below it every second step has none ("NGMS", s_min_uncond in A1111)
    apg: bool = False  # adaptive projected guidance, see projection.project
    apg_parallel: float = 0.0  # η there: the share that stays of the component along x0
    apg_norm: float = math.inf  # r there: the largest RMS of the guidance over an image
    apg_momentum: float = 0.0  # β there

    def __post_init__(self):
        checks = {
            "scale": 0 <= self.scale < math.inf,
            "rescale": 0 <= self.rescale <= 1,
            "interval": 0 <= self.low < self.high,
            "skip_below": 0 <= self.skip_below < math.inf,
            "apg_parallel": 0 <= self.apg_parallel <= 1,
            "apg_norm": self.apg_norm > 0,
            "apg_momentum": -1 < self.apg_momentum < 1,
        }
        if wrong := [name for name, valid in checks.items() if not valid]:
            from fromnoise.diffusion.refusals import refuse_guidance

            refuse_guidance(self, wrong)

    def acts(self, sigma: float, step: int) -> bool:
        """Whether `mix` needs the unconditional picture at this noise level and step."""
        skipped = step % 2 and sigma < self.skip_below
        return self.scale != 1 and self.low < sigma <= self.high and not skipped

    def mix(
        self, x0: Tensor, x0_uncond: Tensor, last: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(guided x0 of one image, the value of `last` for the next call for this image)."""
        if self.apg:
            from fromnoise.diffusion.projection import apply_apg  # most runs do not need it

            options = self.apg_parallel, self.apg_norm, self.apg_momentum
            guided, last = apply_apg(x0, x0_uncond, self.scale, last, *options)
        else:
            guided, last = apply_cfg(x0, x0_uncond, self.scale), None
        if self.rescale:
            from fromnoise.diffusion.projection import rescale

            guided = rescale(guided, x0, self.rescale)
        return guided, last


def apply_cfg(x0: Tensor, x0_uncond: Tensor, scale: float) -> Tensor:
    """x0_uncond + scale·(x0 − x0_uncond) (Ho & Salimans 2022, eq. 6, with w = scale − 1). x0 is
    affine in every prediction, so this equals guidance of eps or v. Scale 1 gives x0."""
    return torch.lerp(x0_uncond, x0, scale)
