"""Hashes of what a picture began with, where that is no seed."""

import hashlib

import torch
from torch import Tensor


def hash_latents(latents: Tensor, index: int) -> str:
    """The start of the SHA-256 of the latents that picture `index` began with, as float32."""
    own = latents[index % len(latents)] if latents.ndim == 4 else latents  # (C, h, w)
    values = own.detach().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.sha256(values.tobytes()).hexdigest()[:10]
