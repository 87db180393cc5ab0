"""Noise schedules beside Stable Diffusion's own, which is `NoiseSchedule.scaled_linear`."""

import math

import torch

from fromnoise.diffusion.schedule import NoiseSchedule


def make_linear(beta_start: float = 1e-4, beta_end: float = 0.02, T: int = 1000) -> NoiseSchedule:
    """β is linear in t (Ho et al. 2020, section 4)."""
    return NoiseSchedule.from_betas(torch.linspace(beta_start, beta_end, T, dtype=torch.float64))


def make_cosine(T: int = 1000) -> NoiseSchedule:
    """ᾱ is a squared cosine, β clipped at 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
    share = torch.arange(T + 1, dtype=torch.float64) / T
    f = ((share + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    return NoiseSchedule.from_betas((1 - f[1:] / f[:-1]).clamp(max=0.999))


def make_flow(T: int = 1000, shift: float = 1.0) -> NoiseSchedule:
    """Rectified flow: x = (1 − s)·x0 + s·n with s = (i + 1) / T (Liu et al. 2022), shifted to
    shift·s / (1 + (shift − 1)·s) (Esser et al. 2024, eq. 23). The last sigma = s / (1 − s) is
    infinite."""
    s = torch.arange(1, T + 1, dtype=torch.float64) / T
    s = shift * s / (1 + (shift - 1) * s)
    return NoiseSchedule((1 - s) ** 2 / ((1 - s) ** 2 + s**2), "flow")


def rescale_zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """√ᾱ shifted and scaled: the last becomes 0, the first stays (Lin et al. 2023, algorithm 1)."""
    a = schedule.alpha_bar.sqrt()
    return NoiseSchedule(((a - a[-1]) * a[0] / (a[0] - a[-1])) ** 2, schedule.kind)
