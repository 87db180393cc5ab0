"""Data whose denoiser and whose exact solution are known, and what samplers are run on it with."""

import torch

from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.samplers.base import Answer
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import make_sigmas

SD = NoiseSchedule.scaled_linear()


def grid(steps, final="none", top=20.0):
    return make_sigmas(SD, steps, "karras", final, sigma_min=0.05, sigma_max=top)


def silent(sigma, sigma_next, image=None):
    return torch.zeros(())


def unit_noise(batch):
    """The same unit noises, in float64, at every run that is handed a new one."""
    source = Noise(list(range(batch)), (1, 1, 1))
    return lambda s, t, image=None: source(s, t).double()


class Mixture:
    """Data of one dimension: a mixture of Gaussians. Noise of deviation sigma widens each
    component."""

    def __init__(self, weights, means, deviations):
        self.w, self.m, self.c = (
            torch.tensor(v, dtype=torch.float64) for v in (weights, means, deviations)
        )

    def parts(self, x, sigma):
        spread = torch.sqrt(self.c**2 + sigma**2)
        return (x[..., None] - self.m) / spread, spread

    def denoise(self, query):
        """E[x0 | x], each component's own Gaussian answer weighed by how likely it made x."""
        z, spread = self.parts(query.x, query.sigma)
        likely = torch.softmax(torch.log(self.w / spread) - z**2 / 2, -1)
        x0 = (likely * (self.m + z * self.c**2 / spread)).sum(-1)
        return Answer(x0, x0)

    def quantile_of(self, x, sigma):
        return (self.w * torch.special.ndtr(self.parts(x, sigma)[0])).sum(-1)

    def exact(self, x, start, end):
        """The probability-flow ODE from start to end. It moves every point along with the density,
        and in one dimension that keeps its quantile: so the end is where that quantile is, found by
        bisection."""
        quantile = self.quantile_of(x, start)
        low, high = torch.full_like(x, -100.0), torch.full_like(x, 100.0)
        for _ in range(60):  # 200 / 2⁶⁰: all of float64
            middle = (low + high) / 2
            below = self.quantile_of(middle, end) < quantile
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


MIXTURE = Mixture([0.3, 0.45, 0.25], [-1.2, 0.4, 1.5], [0.4, 0.5, 0.3])
GAUSS = Mixture([1.0], [0.3], [0.6])
START = 20 * torch.special.ndtri(torch.linspace(0.05, 0.95, 37, dtype=torch.float64)).view(
    -1, 1, 1, 1
)


def distance(x):
    """Wasserstein-1 distance of the values x from MIXTURE, in its standard deviations: the mean gap
    of quantiles."""
    values = x.flatten().sort().values
    at = (torch.arange(len(values), dtype=torch.float64) + 0.5) / len(values)
    low, high = torch.full_like(at, -20.0), torch.full_like(at, 20.0)
    for _ in range(50):  # 40 / 2⁵⁰: all that matters
        middle = (low + high) / 2
        below = MIXTURE.quantile_of(middle, 0.0) < at
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    mean = (MIXTURE.w * MIXTURE.m).sum()
    deviation = (MIXTURE.w * (MIXTURE.c**2 + MIXTURE.m**2)).sum() - mean**2
    return float((values - (low + high) / 2).abs().mean() / deviation.sqrt())
