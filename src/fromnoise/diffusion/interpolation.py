"""Timesteps and noise levels between those of a schedule's table."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fromnoise.errors import BadInput


def find_sigmas(log_sigmas: Tensor, t: Tensor | Sequence[float] | float) -> Tensor:
    """sigma at timestep t ∈ [0, T − 1], also a fraction: linear in log sigma between neighbours.
    log_sigmas (T,), increasing. float64, shape of t. Raises BadInput outside of the range."""
    t, last = torch.as_tensor(t, dtype=torch.float64, device="cpu"), len(log_sigmas) - 1
    if not bool(((t >= 0) & (t <= last)).all()):
        raise BadInput(
            f"timestep {t.tolist()} is outside of [0, {last}]", "use fewer steps or no offset"
        )
    low = t.floor().long().clamp(max=last - 1)
    return torch.lerp(log_sigmas[low], log_sigmas[low + 1], t - low).exp()


def find_timesteps(log_sigmas: Tensor, sigma: Tensor | Sequence[float] | float) -> Tensor:
    """The timestep at sigma, a fraction: the inverse of `find_sigmas`. Beyond the table it is the
    nearest end. float64, shape of sigma."""
    log = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").log()
    last = len(log_sigmas) - 1
    low = torch.searchsorted(log_sigmas, log.contiguous(), right=True) - 1
    low = low.clamp(0, last - 1)
    share = (log - log_sigmas[low]) / (log_sigmas[low + 1] - log_sigmas[low])
    return (low + share).clamp(0, last)
