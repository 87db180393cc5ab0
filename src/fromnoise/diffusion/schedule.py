"""NoiseSchedule: float64 tables of beta → alpha_bar → sigma, and of timestep ↔ sigma."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The share of signal at each of the T training timesteps, least noisy first.

    All code after this table is variance exploding: x = x0 + sigma·n, sigma = √((1 − ᾱ) / ᾱ). The
    network's input is x scaled by √ᾱ (`kind` "vp") or by 1 − s = 1 / (1 + sigma) (`kind` "flow").
    Raises BadInput for a table that is not strictly decreasing inside [0, 1]."""

    alpha_bar: Tensor  # (T,) float64 on the CPU
    kind: str = "vp"  # "vp": √ᾱ·x0 + √(1 − ᾱ)·n; "flow": (1 − s)·x0 + s·n

    def __post_init__(self):
        a = torch.as_tensor(self.alpha_bar, dtype=torch.float64, device="cpu")
        table = a.ndim == 1 and len(a) > 1
        if not table or not bool((a[1:] < a[:-1]).all() and a[0] < 1 and a[-1] >= 0):
            from fromnoise.diffusion.refusals import refuse_schedule

            refuse_schedule()
        object.__setattr__(self, "alpha_bar", a)

    @classmethod
    def from_betas(cls, betas: Tensor | Sequence[float]) -> "NoiseSchedule":
        """ᾱ_t = Π (1 − β_i) (Ho et al. 2020, eq. 4). betas (T,) in (0, 1]."""
        return cls((1 - torch.as_tensor(betas, dtype=torch.float64)).cumprod(0))

    @classmethod
    def scaled_linear(
        cls, beta_start: float = 0.00085, beta_end: float = 0.012, T: int = 1000
    ) -> "NoiseSchedule":
        """√β is linear in t: Stable Diffusion's schedule, and its constants (Rombach 2022)."""
        roots = torch.linspace(beta_start**0.5, beta_end**0.5, T, dtype=torch.float64)
        return cls.from_betas(roots**2)

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @property
    def has_infinite_sigma(self) -> bool:
        """Whether the last timestep is pure noise (ᾱ = 0, sigma = ∞): "zero terminal SNR"."""
        return bool(self.alpha_bar[-1] == 0)

    @property
    def snr(self) -> Tensor:
        """(T,) signal-to-noise ratio ᾱ / (1 − ᾱ) = 1 / sigma²; 0 where sigma is infinite."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @cached_property
    def sigmas(self) -> Tensor:
        """(T,) √((1 − ᾱ) / ᾱ), increasing. An infinite last one becomes that of ᾱ = 2⁻²⁴, as in
        diffusers: 4096, or 1.5 times its neighbour if that is more; x0 there is lost in x."""
        sigmas = self.snr.rsqrt()
        if self.has_infinite_sigma:
            sigmas[-1] = max((2**24 - 1) ** 0.5, 1.5 * float(sigmas[-2]))
        return sigmas

    @cached_property
    def log_sigmas(self) -> Tensor:
        """ln of `sigmas`; every step of a sampler needs it."""
        return self.sigmas.log()

    @cached_property
    def _logs(self) -> list[float]:
        return self.log_sigmas.tolist()

    def t_to_sigma(self, t: Tensor | Sequence[float] | float) -> Tensor:
        """sigma at timestep t ∈ [0, T − 1], also a fraction: see `interpolation.find_sigmas`."""
        from fromnoise.diffusion.interpolation import find_sigmas

        return find_sigmas(self.log_sigmas, t)

    def sigma_to_t(self, sigma: Tensor | Sequence[float] | float) -> Tensor:
        """The timestep at sigma, a fraction: the inverse of `t_to_sigma`. Beyond the table it is
        the nearest end, 0 or T − 1 (networks know no other timesteps). float64, shape of sigma."""
        if isinstance(sigma, float) and sigma > 0:  # each step's case: ten times as fast
            log, table = math.log(sigma), self._logs
            i = min(max(bisect_right(table, log) - 1, 0), len(table) - 2)
            t = i + (log - table[i]) / (table[i + 1] - table[i])
            return torch.tensor(min(max(t, 0), len(table) - 1), dtype=torch.float64)
        from fromnoise.diffusion.interpolation import find_timesteps

        return find_timesteps(self.log_sigmas, sigma)

    def find_time(self, sigma: float) -> Tensor:
        """What the network is told at sigma, () in fp32: the timestep, and on a flow schedule T·s
        with s = sigma / (1 + sigma), which a shift moves too (Esser et al. 2024, eq. 23)."""
        if self.kind == "flow":
            s = 1.0 if sigma >= self.sigmas[-1] else sigma / (1 + sigma)  # the last one is infinite
            return torch.tensor(len(self) * s, dtype=torch.float32)
        return self.sigma_to_t(sigma).float()
