"""Exercise: one step of Heun's sampler."""

import random

from fromnoise.learn.exercises.exercise import Exercise, Misconception


def heun_step(x: list[float], denoise, sigma: float, sigma_next: float) -> list[float]:
    """x moved from sigma to sigma_next by the mean of the slopes at both ends of Euler's step."""
    d = [(a - b) / sigma for a, b in zip(x, denoise(x, sigma), strict=True)]
    x2 = [a + k * (sigma_next - sigma) for a, k in zip(x, d, strict=True)]
    if sigma_next == 0:
        return x2
    d2 = [(a - b) / sigma_next for a, b in zip(x2, denoise(x2, sigma_next), strict=True)]
    mean = [(k + k2) / 2 for k, k2 in zip(d, d2, strict=True)]
    return [a + k * (sigma_next - sigma) for a, k in zip(x, mean, strict=True)]


class Gaussian:
    """The exact denoiser of Gaussian data of one mean and deviation: E[x0 | x]."""

    def __init__(self, mean: float, deviation: float):
        self.mean, self.variance = mean, deviation**2

    def __call__(self, x: list[float], sigma: float) -> list[float]:
        keep = self.variance / (self.variance + sigma**2)
        return [self.mean + keep * (a - self.mean) for a in x]


def cases(chance: random.Random) -> tuple:
    sigma = chance.uniform(0.5, 14)
    x = [chance.gauss(0, sigma) for _ in range(chance.randint(2, 5))]
    denoise = Gaussian(chance.gauss(0, 1), chance.uniform(0.3, 1.5))
    # half of the cases are last steps: all 16 leave them out once in 65,536 checks
    return x, denoise, sigma, sigma * chance.choice([0.0, chance.uniform(0.1, 0.8)])


def step(second=lambda x2, t: (x2, t), divide=lambda s, t: t, mean=None, start=None, last=None):
    """Heun's step with one thing changed: where the second question is asked (second), what its
    slope is divided by, how slopes become one (mean), where the step starts, and what a step to 0
    does (None: Euler's)."""
    mean = mean or (lambda k, k2: (k + k2) / 2)

    def formula(x, denoise, sigma, sigma_next):
        d = [(a - b) / sigma for a, b in zip(x, denoise(x, sigma), strict=True)]
        x2 = [a + k * (sigma_next - sigma) for a, k in zip(x, d, strict=True)]
        if sigma_next == 0 and last is None:
            return x2
        at, level = second(x2, sigma_next) if second else (x, sigma_next)
        level = sigma if level is None else level
        by = divide(sigma, sigma_next)
        d2 = [(a - b) / by for a, b in zip(at, denoise(at, level), strict=True)]
        begin = x2 if start else x
        both = zip(begin, d, d2, strict=True)
        return [a + mean(k, k2) * (sigma_next - sigma) for a, k, k2 in both]

    return formula


EXERCISE = Exercise(
    title="Make it Heun",
    chapter="prompts-and-sampling",
    task="""`denoise(x, sigma)` is the network: it returns the clean picture behind `x` at noise
level `sigma`. Write `heun_step(x, denoise, sigma, sigma_next)`. Take Euler's step first. Ask
again where it lands, and average the two slopes. Then take the step once more, from the start,
with the mean slope. A step to `sigma_next` = 0 stays Euler's, because the slope at 0 is not
defined. Return the new `x` as a list.""",
    formula=r"x' = x + \tfrac12\,(d + d_2)\,(\sigma'-\sigma),\quad "
    r"d_2 = \frac{x_2-\hat x_0(x_2,\sigma')}{\sigma'}",
    code="src/fromnoise/diffusion/samplers/heun.py:heun",
    reference=heun_step,
    cases=cases,
    misconceptions=(
        Misconception(
            "still_euler",
            "This is Euler's step. Heun asks a second time, at the place where Euler lands, and "
            "averages both slopes.",
            step(mean=lambda k, k2: k),
        ),
        Misconception(
            "no_last_step",
            "You divide by sigma_next, and in the last step it is 0. There Euler's step is the "
            "whole step: return it before the second question.",
            step(last=True),
        ),
        Misconception(
            "second_at_old_level",
            "Your second question says the old sigma, but x2 has only sigma_next of noise in it. "
            "Ask `denoise(x2, sigma_next)`.",
            step(second=lambda x2, t: (x2, None)),
        ),
        Misconception(
            "second_at_old_level",
            "Your second question and its slope use the old sigma. x2 is at sigma_next: ask there "
            "and divide by it.",
            step(second=lambda x2, t: (x2, None), divide=lambda s, t: s),
        ),
        Misconception(
            "second_at_old_place",
            "You ask twice about the same x. The second question is about x2, where Euler's step "
            "lands.",
            step(second=None),
        ),
        Misconception(
            "only_second_slope",
            "You use the second slope alone. That is another first-order method; Heun takes the "
            "mean of both.",
            step(mean=lambda k, k2: k2),
        ),
        Misconception(
            "sum_of_slopes",
            "You add the slopes. Their mean is wanted: your step is twice as long as it should be.",
            step(mean=lambda k, k2: k + k2),
        ),
        Misconception(
            "corrects_from_x2",
            "You start the final step at x2, so you walk the way twice. Go back to x and walk "
            "once, with the mean slope.",
            step(start=True),
        ),
        Misconception(
            "divided_by_old_sigma",
            "The second slope lies at sigma_next, so its noise is divided by sigma_next.",
            step(divide=lambda s, t: s),
        ),
    ),
    hints=(
        "Euler looks once, at the start of the step. What would it see at the end?",
        "Four lines: slope d at x; Euler's x2; slope d2 at x2 and sigma_next; x + (d + d2)/2 × the "
        "change of σ.",
        "Before the second question: `if sigma_next == 0: return x2`.",
    ),
)
