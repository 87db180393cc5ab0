"""Latents that the caller gives in place of the seeds' noise."""

import torch
from torch import Tensor

from fromnoise.errors import BadInput


def fit_latents(latents: Tensor, shape: torch.Size) -> Tensor:
    """Unit noise (C, h, w), or one a picture, → (pictures, C, h, w) = `shape`, in fp32 on the CPU.
    Raises BadInput for another shape, and for NaN or infinite numbers."""
    if latents.ndim not in (3, 4) or latents.shape[-3:] != shape[1:]:
        raise BadInput(
            f"latents are {tuple(latents.shape)}",
            f"give (C, h, w) = {tuple(shape[1:])}, or one a picture",
        )
    if latents.ndim == 4 and len(latents) not in (1, shape[0]):
        raise BadInput(f"latents are of {len(latents)} pictures", f"give them for {shape[0]}")
    if not latents.isfinite().all():
        raise BadInput("latents hold NaN or infinite numbers", "give finite ones: unit noise")
    return latents.to("cpu", torch.float32).expand(shape)
