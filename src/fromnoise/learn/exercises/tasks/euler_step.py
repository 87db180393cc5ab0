"""Exercise: one step of Euler's sampler."""

import random

from fromnoise.learn.exercises.exercise import Exercise, Misconception


def euler_step(x: list[float], x0: list[float], sigma: float, sigma_next: float) -> list[float]:
    """x moved from noise level sigma to sigma_next along the slope (x − x0) / sigma."""
    return [a + (a - b) / sigma * (sigma_next - sigma) for a, b in zip(x, x0, strict=True)]


def cases(chance: random.Random) -> tuple:
    n = chance.randint(2, 6)
    sigma = chance.uniform(0.5, 14)
    x = [chance.gauss(0, sigma) for _ in range(n)]
    x0 = [chance.gauss(0, 1) for _ in range(n)]
    return x, x0, sigma, sigma * chance.choice([0.0, chance.uniform(0.1, 0.9)])


def each(formula):
    """A formula of one value as one of lists; it is given x, x0, sigma and sigma_next."""
    return lambda x, x0, sigma, sigma_next: [
        formula(a, b, sigma, sigma_next) for a, b in zip(x, x0, strict=True)
    ]


EXERCISE = Exercise(
    title="One step of Euler",
    chapter="prompts-and-sampling",
    task="""`x` is a noisy picture, x0 + σ·n, and `x0` is what the network believes the clean
picture to be. Write `euler_step(x, x0, sigma, sigma_next)`: take the slope (x − x0)/σ of x with
respect to σ, and follow it in a straight line from `sigma` down to `sigma_next`, which may be
0. Return the new `x` as a list.""",
    formula=r"x' = x + \frac{x-\hat x_0}{\sigma}\,(\sigma' - \sigma)",
    code="src/fromnoise/diffusion/samplers/euler.py:euler",
    reference=euler_step,
    cases=cases,
    misconceptions=(
        Misconception(
            "wrong_direction",
            "Your step adds noise. σ falls, so sigma_next − sigma is negative, and that sign "
            "belongs in the formula.",
            each(lambda x, x0, s, t: x + (x - x0) / s * (s - t)),
        ),
        Misconception(
            "slope_not_divided",
            "x − x0 is σ·n, all of the noise. The slope is the noise per unit of σ: divide by "
            "sigma.",
            each(lambda x, x0, s, t: x + (x - x0) * (t - s)),
        ),
        Misconception(
            "jumps_to_x0",
            "You return the guess itself. A guess made under much noise is a mean of many "
            "pictures; only go as far towards it as σ falls.",
            each(lambda x, x0, s, t: x0),
        ),
        Misconception(
            "not_the_difference",
            "Your step has the length sigma_next. The length of the step is the change of σ, "
            "sigma_next − sigma.",
            each(lambda x, x0, s, t: x + (x - x0) / s * t),
        ),
        Misconception(
            "divided_by_sigma_next",
            "The slope is taken where you stand: divide by sigma, not by sigma_next, which may "
            "even be 0.",
            each(lambda x, x0, s, t: x + (x - x0) / t * (t - s)),
        ),
        Misconception(
            "starts_at_x0",
            "You start at x0 and not at x. The step begins where the sampler stands now.",
            each(lambda x, x0, s, t: x0 + (x - x0) / s * (t - s)),
        ),
        Misconception(
            "proportion_reversed",
            "You keep the share of the noise that should go. At sigma_next = sigma nothing may "
            "change, and at 0 only x0 is left.",
            each(lambda x, x0, s, t: x0 + (x - x0) * (1 - t / s)),
        ),
    ),
    hints=(
        "The step is a straight line: new x = x + slope × change of σ.",
        "Check the ends: sigma_next = sigma must give x, and sigma_next = 0 must give x0.",
        "Return `[a + (a - b) / sigma * (…) for a, b in zip(x, x0)]`.",
    ),
)
