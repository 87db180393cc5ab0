"""CFG++: a step to the guided picture, with the noise of the unconditional prediction.

Chung et al. 2024 "CFG++: manifold-constrained classifier free guidance", algorithm 2. x0 of an
Answer is here x0_uncond + λ·(x0_cond − x0_uncond); the paper's λ lies in [0, 1]. A1111 divides its
CFG scale by 12.5 to get λ. ComfyUI uses its CFG scale as λ, as fromnoise does. With x0 = x0_uncond
each of these equals the sampler in its name."""

import math
from itertools import pairwise

from torch import Tensor

from fromnoise.diffusion.samplers.base import Answer, NoiseSource, Query, Sampling, check_levels
from fromnoise.diffusion.samplers.integrals import compute_exponential_weights
from fromnoise.diffusion.samplers.stochastic import check_nonnegative, split_step
from fromnoise.errors import BadInput


def unpack_answer(answer: Answer) -> tuple[Tensor, Tensor]:
    """(x0, x0_uncond). Raises BadInput for an answer without x0_uncond."""
    if answer.x0_uncond is None:
        raise BadInput(
            "CFG++ needs the unconditional picture, but the run has none",
            "give a guidance scale; for CFG++ 0.6 is usual and 1 the largest",
        )
    return answer.x0, answer.x0_uncond


def euler_cfg_pp(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 0.0, s_noise: float = 1.0
) -> Sampling:
    """`ddim` with the noise of the unconditional picture; so `euler` with eta 0 and `euler_a` with
    eta 1."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0, uncond = unpack_answer((yield Query(x, s, i)))
        down, up = split_step(s, t, eta)
        x = x0 + down * ((x - uncond) / s)
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x


def dpmpp_2m_cfg_pp(x: Tensor, sigmas: Tensor, noise: NoiseSource, exact: bool = False) -> Sampling:
    """`dpmpp_2m` of the unconditional picture, plus the guidance at its full length, as ComfyUI
    published it. Its slope of x0 goes from the guided picture now to the unconditional one before,
    which adds a part of the guidance again. `exact` takes the slope between two unconditional ones.
    """
    last, h_last = None, 0.0
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0, uncond = unpack_answer((yield Query(x, s, i)))
        h = math.log(s / t) if t else math.inf
        x = x0 + (x - uncond) * (t / s)
        if last is not None and t > 0:
            now = uncond if exact else x0
            x = x + (now - last) * ((1 - t / s) * h / (2 * h_last))
        last, h_last = uncond, h
    return x


def dpmpp_2s_a_cfg_pp(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """`dpmpp_2s_a` of the unconditional picture, plus the first question's guidance at its full
    length."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        down, up = split_step(s, t, eta)
        x0, uncond = unpack_answer((yield Query(x, s, i)))
        guidance = x0 - uncond
        if down > 0:
            middle = math.sqrt(s * down)
            x2 = x * (middle / s) + uncond * (1 - middle / s)
            _, uncond = unpack_answer((yield Query(x2, middle, i, stage=1)))
        x = x * (down / s) + uncond * (1 - down / s) + guidance
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x


def res_multistep_cfg_pp(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float = 0.0, s_noise: float = 1.0
) -> Sampling:
    """`res_multistep` of the unconditional picture. The guidance is added to x before the step,
    which keeps e^−h of it. The first step and one to sigma 0 add all of it (as ComfyUI published
    it)."""
    check_nonnegative(eta=eta, s_noise=s_noise)
    # (length of the last step's deterministic part in log sigma, x0_uncond)
    last: tuple[float, Tensor] | None = None
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0, uncond = unpack_answer((yield Query(x, s, i)))
        down, up = split_step(s, t, eta)
        if down == 0 or last is None:
            x = x0 + (x - uncond) * (down / s)
        else:
            h = math.log(s / down)
            now, then = compute_exponential_weights([0.0, -last[0] / h], h)
            x = (x + (x0 - uncond)) * (down / s) + uncond * now + last[1] * then
        if down > 0:
            last = math.log(s / down), uncond
        if up:
            x = x + noise(s, t).to(x) * (up * s_noise)
    return x


def gradient_estimation_cfg_pp(
    x: Tensor, sigmas: Tensor, noise: NoiseSource, gamma: float = 2.0
) -> Sampling:
    """`gradient_estimation` with the slopes of the unconditional picture."""
    if not 1 <= gamma <= 5:
        raise BadInput(
            f"gamma {gamma} cannot be used", "give a number from 1 (Euler) to 5; 2 is usual"
        )
    last = None
    for i, (s, t) in enumerate(pairwise(check_levels(sigmas))):
        x0, uncond = unpack_answer((yield Query(x, s, i)))
        d = (x - uncond) / s
        x = x0 + d * t
        if last is not None and t > 0:
            x = x + (d - last) * ((gamma - 1) * (t - s))
        last = d
    return x
