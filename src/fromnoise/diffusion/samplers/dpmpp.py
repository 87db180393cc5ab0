"""DPM-Solver++ 2M and 2M SDE: exponential integrators in log sigma that remember the previous x0."""

import math
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import NoiseSource, Query, Sampling, at_least_0, levels
from fromnoise.errors import UnknownName

SOLVERS = ("midpoint", "heun")


def dpmpp_2m(x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Sampling:
    """Second order from one question a step: x0 is extrapolated along log sigma from this one and the last
    (Lu et al. 2022 "DPM-Solver++", algorithm 2). The first step and one to sigma 0 are of first order."""
    last, h_last = None, 0.0
    for i, (s, t) in enumerate(pairwise(levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        h = math.log(s / t) if t else math.inf
        d = x0 if last is None or t == 0 else x0 + (x0 - last) * (h / (2 * h_last))
        x = x * (t / s) + d * (1 - t / s)
        last, h_last = x0, h
    return x


def dpmpp_2m_sde(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 1.0, s_noise: float = 1.0, solver: str = "midpoint"
) -> Sampling:
    """The same idea on the reverse SDE, eta scaling its noise (Lu et al. 2022 "DPM-Solver++", section 5 and appendix
    B.5). solver: how the slope of x0 enters, "midpoint" (eta 0 is then `dpmpp_2m`) or "heun". A step to sigma 0 is x0.
    """
    at_least_0(eta=eta, s_noise=s_noise)
    if solver not in SOLVERS:
        raise UnknownName("solver", solver, SOLVERS)
    last, h_last = None, 0.0
    for i, (s, t) in enumerate(pairwise(levels(sigmas))):
        x0 = (yield Query(x, s, i)).x0
        if t == 0:
            x = x0
            break
        h = math.log(s / t)
        decay = (1 + eta) * h
        gain = -math.expm1(-decay)  # what x0 contributes over the step
        x = x * math.exp(-decay) + x0 * gain
        if last is not None:
            x = x + (x0 - last) * (h / h_last * (gain / 2 if solver == "midpoint" else 1 - gain / decay))
        if eta:
            x = x + noise(s, t).to(x) * (t * math.sqrt(-math.expm1(-2 * eta * h)) * s_noise)
        last, h_last = x0, h
    return x
