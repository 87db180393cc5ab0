"""Exercise: from predicted noise back to the clean picture."""

import math
import random

from fromnoise.learn.exercises.exercise import Exercise, Misconception


def x0_from_eps(x: list[float], eps: list[float], alpha_bar: float) -> list[float]:
    """The clean picture that a prediction of the noise implies."""
    signal, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    return [(value - sigma * e) / signal for value, e in zip(x, eps, strict=True)]


def cases(chance: random.Random) -> tuple:
    n = chance.randint(2, 6)
    x, eps = ([chance.gauss(0, 1) for _ in range(n)] for _ in range(2))
    return x, eps, chance.uniform(0.05, 0.95)


def each(formula):
    """A formula of one value as one of lists; it is given x, eps, √ᾱ and √(1 − ᾱ)."""
    return lambda x, eps, alpha_bar: [
        formula(a, e, math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar))
        for a, e in zip(x, eps, strict=True)
    ]


EXERCISE = Exercise(
    title="What the noise says about the picture",
    chapter="order-from-chaos",
    task="""A network was shown `x` = √ᾱ·x0 + √(1 − ᾱ)·noise and answered `eps`, what it
believes the noise to be. Write `x0_from_eps(x, eps, alpha_bar)`: solve that equation for `x0`
and return it as a list.""",
    formula=r"\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}}",
    code="src/fromnoise/diffusion/parameterization.py:compute_coefficients",
    reference=x0_from_eps,
    cases=cases,
    misconceptions=(
        Misconception(
            "not_divided",
            "You took the noise away, and what is left is √ᾱ·x0, a faded picture. Divide by √ᾱ.",
            each(lambda x, e, s, n: x - n * e),
        ),
        Misconception(
            "divided_too_early",
            "Only x is divided by √ᾱ. The division is the last step: it belongs to the whole "
            "difference, so the noise is divided too.",
            each(lambda x, e, s, n: x / s - n * e),
        ),
        Misconception(
            "no_square_root",
            "ᾱ and 1 − ᾱ are shares of variance. The equation holds their roots.",
            each(lambda x, e, s, n: (x - n * n * e) / (s * s)),
        ),
        Misconception(
            "noise_added",
            "The noise was added to make x. To go back it is subtracted.",
            each(lambda x, e, s, n: (x + n * e) / s),
        ),
        Misconception(
            "noise_not_scaled",
            "x holds √(1 − ᾱ) of the noise, so take away that much of it and not all.",
            each(lambda x, e, s, n: (x - e) / s),
        ),
        Misconception(
            "swapped",
            "The two roots have changed places: √(1 − ᾱ) goes with the noise, √ᾱ with the picture.",
            each(lambda x, e, s, n: (x - s * e) / n),
        ),
        Misconception(
            "sigma_form",
            "x − σ·eps with σ = √((1 − ᾱ)/ᾱ) is right where x is x0 + σ·n. This x was scaled by "
            "√ᾱ, so it must be divided by √ᾱ first.",
            each(lambda x, e, s, n: x - n / s * e),
        ),
    ),
    hints=(
        "Write the equation of x on paper and put eps in the place of the noise. Which operations "
        "stand around x0, and in which order do they come off?",
        "First subtract √(1 − ᾱ)·eps. What is left is √ᾱ·x0.",
        "Return `[(value - … * e) / … for value, e in zip(x, eps)]`.",
    ),
)
