"""Classifier-free guidance on x0, its rescaling, and the noise interval in which it acts."""

import torch
from torch import Tensor


def cfg(x0: Tensor, x0_uncond: Tensor, scale: float) -> Tensor:
    """x0_uncond + scale·(x0 − x0_uncond) (Ho & Salimans 2022, eq. 6, with w = scale − 1). Since x0 is affine in every
    prediction, this is the same as guiding eps or v. scale 1 gives x0."""
    return torch.lerp(x0_uncond, x0, scale)


def rescale(guided: Tensor, x0: Tensor, phi: float) -> Tensor:
    """Guided x0 (B, …) brought back towards the standard deviation of the unguided conditional x0, by phi in [0, 1]
    (Lin et al. 2023, eq. 15 and 16, on x0). An image without any deviation is left as it is."""
    dims = tuple(range(1, x0.ndim))
    std, std_guided = x0.std(dims, keepdim=True), guided.std(dims, keepdim=True)
    ratio = torch.where(std_guided > 0, std / std_guided, 1.0)
    return guided * (phi * ratio + (1 - phi))


def in_interval(sigma: float, low: float = 0.0, high: float = float("inf")) -> bool:
    """Whether guidance acts at this noise level: low < sigma ≤ high (Kynkäänniemi et al. 2024, eq. 5)."""
    return low < sigma <= high
