"""What tames high guidance scales: projection, and the contrast of before."""

import torch
from torch import Tensor


def project(difference: Tensor, x0: Tensor, parallel: float, norm: float) -> Tensor:
    """x0 − x0_uncond of images (B, …), with a length of at most `norm` and with only the share
    `parallel` of its component along x0. That component makes colours glare (Sadat et al. 2024
    "Eliminating oversaturation and artifacts of high guidance scales", eq. 8 to 10, algorithm 1;
    their r is `norm` times the root of an image's size)."""
    dims = tuple(range(1, x0.ndim))
    length = difference.square().mean(dims, keepdim=True).sqrt()
    difference = difference * (norm / length.clamp(min=1e-20)).clamp(max=1)
    square = x0.square().sum(dims, keepdim=True).clamp(min=1e-20)
    along = (difference * x0).sum(dims, keepdim=True) / square * x0
    return difference - (1 - parallel) * along


def apply_apg(
    x0: Tensor,
    x0_uncond: Tensor,
    scale: float,
    last: Tensor | None,
    parallel: float,
    norm: float,
    momentum: float,
) -> tuple[Tensor, Tensor]:
    """(guided x0 of images (B, …), the difference of this call): `project` in place of the plain
    difference of `guidance.apply_cfg`. last: the difference of the call before, of which the share
    `momentum` stays."""
    difference = x0 - x0_uncond
    if last is not None:
        difference = difference + momentum * last
    return x0 + (scale - 1) * project(difference, x0, parallel, norm), difference


def rescale(guided: Tensor, x0: Tensor, phi: float) -> Tensor:
    """Guided x0 (B, …) with its standard deviation moved towards that of the conditional x0, by phi
    in [0, 1] (Lin et al. 2023, eq. 15 and 16, on x0). An image of standard deviation 0 stays as it
    is."""
    dims = tuple(range(1, x0.ndim))
    std, std_guided = x0.std(dims, keepdim=True), guided.std(dims, keepdim=True)
    ratio = torch.where(std_guided > 0, std / std_guided, 1.0)
    return guided * (phi * ratio + (1 - phi))
