"""Exercise: the noise levels of Karras' schedule."""

import math
import random

from fromnoise.learn.exercises.exercise import Exercise, Misconception


def karras_sigmas(n: int, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    """n noise levels from sigma_max down to sigma_min, even in sigma^(1/rho)."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(high + i / (n - 1) * (low - high)) ** rho for i in range(n)]


def cases(chance: random.Random) -> tuple:
    low, high = chance.uniform(0.2, 0.9), chance.uniform(3, 10)
    return chance.randint(3, 9), low, high, chance.choice([2.0, 3.0, 4.0])


def ramp(n: int) -> list[float]:
    return [i / (n - 1) for i in range(n)]


def between(there, back):
    """Levels that are even after `there(sigma, rho)`, brought back by `back(value, rho)`."""

    def formula(n, sigma_min, sigma_max, rho):
        low, high = there(sigma_min, rho), there(sigma_max, rho)
        return [back(high + u * (low - high), rho) for u in ramp(n)]

    return formula


def by_n(n, sigma_min, sigma_max, rho):
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(high + i / n * (low - high)) ** rho for i in range(n)]


def upwards(n, sigma_min, sigma_max, rho):
    return karras_sigmas(n, sigma_min, sigma_max, rho)[::-1]


def ends_in_zero(n, sigma_min, sigma_max, rho):
    return [*karras_sigmas(n, sigma_min, sigma_max, rho), 0.0]


EXERCISE = Exercise(
    title="Where to look",
    chapter="prompts-and-sampling",
    task="""Write `karras_sigmas(n, sigma_min, sigma_max, rho)`: `n` noise levels, the first
`sigma_max`, the last `sigma_min`. Their roots σ^(1/ρ) lie at equal distances, so that the
levels are denser where σ is small. Return them highest first. (A sampler adds the final 0
itself.)""",
    formula=r"\sigma_i = \Bigl(\sigma_{\max}^{1/\rho} + \tfrac{i}{n-1}\bigl(\sigma_{\min}^{1/\rho}"
    r" - \sigma_{\max}^{1/\rho}\bigr)\Bigr)^{\rho}",
    code="src/fromnoise/diffusion/spacing.py:karras",
    reference=karras_sigmas,
    cases=cases,
    misconceptions=(
        Misconception(
            "linear",
            "Your levels are even in σ itself. Then nearly all of them are high, and the fine "
            "details get one step. Make the roots σ^(1/ρ) even.",
            between(lambda s, rho: s, lambda v, rho: v),
        ),
        Misconception(
            "not_raised_back",
            "You return the roots. Raise each of them to the power ρ to have σ again.",
            between(lambda s, rho: s ** (1 / rho), lambda v, rho: v),
        ),
        Misconception(
            "exponents_exchanged",
            "The exponents have changed places: first the root 1/ρ, at the end the power ρ. Your "
            "levels crowd at high noise.",
            between(lambda s, rho: s**rho, lambda v, rho: v ** (1 / rho)),
        ),
        Misconception(
            "exponential",
            "Your levels are even in log σ. That is the exponential schedule, which Karras' comes "
            "near to when ρ is very large.",
            between(lambda s, rho: math.log(s), lambda v, rho: math.exp(v)),
        ),
        Misconception(
            "divided_by_n",
            "Your last level is not sigma_min: n levels have n − 1 gaps between them, so divide i "
            "by n − 1.",
            by_n,
        ),
        Misconception(
            "upwards",
            "A sampler goes down: the first level is sigma_max.",
            upwards,
        ),
        Misconception(
            "ends_in_zero",
            "n levels are wanted, and you give n + 1. The final 0 is added by the sampler.",
            ends_in_zero,
        ),
    ),
    hints=(
        "Take the ρ-th root of both ends, go from one to the other in equal steps, and come back.",
        "The i-th of n even steps from a to b is a + i/(n − 1)·(b − a).",
        "Return `[(high + i / (n - 1) * (low - high)) ** rho for i in range(n)]` with the roots "
        "`low` and `high`.",
    ),
)
