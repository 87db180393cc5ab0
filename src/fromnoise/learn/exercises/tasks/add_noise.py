"""Exercise: add noise to a clean picture."""

import math
import random

from fromnoise.learn.exercises.exercise import Exercise, Misconception


def add_noise(x0: list[float], noise: list[float], alpha_bar: float) -> list[float]:
    """The noisy picture that a network is shown at alpha_bar."""
    signal, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    return [signal * x + sigma * n for x, n in zip(x0, noise, strict=True)]


def cases(chance: random.Random) -> tuple:
    n = chance.randint(2, 6)
    x0, noise = ([chance.gauss(0, 1) for _ in range(n)] for _ in range(2))
    return x0, noise, chance.uniform(0.05, 0.95)


def weigh(signal, share):
    """The formula with other weights, each a function of alpha_bar."""
    return lambda x0, noise, alpha_bar: [
        signal(alpha_bar) * x + share(alpha_bar) * n for x, n in zip(x0, noise, strict=True)
    ]


EXERCISE = Exercise(
    title="Destroy a picture",
    chapter="order-from-chaos",
    task="""Write `add_noise(x0, noise, alpha_bar)`. `x0` holds the values of a clean picture,
`noise` holds as many Gaussian random numbers of variance 1. `alpha_bar` (ᾱ) is a number between
0 and 1: the share of the picture's variance that is left. Return the noisy picture as a list.""",
    formula=r"x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon",
    code="src/fromnoise/diffusion/forward.py:add_noise",
    reference=add_noise,
    cases=cases,
    misconceptions=(
        Misconception(
            "no_square_root",
            "ᾱ is a share of the variance. A value is scaled by the root of that share: if the "
            "picture is multiplied by √ᾱ, its variance is multiplied by ᾱ.",
            weigh(lambda a: a, lambda a: 1 - a),
        ),
        Misconception(
            "weights_add_to_one",
            "You let the two weights add up to 1, as in a crossfade. Here their squares add up to "
            "1, so that the variance stays 1: the noise gets √(1 − ᾱ), not 1 − √ᾱ.",
            weigh(math.sqrt, lambda a: 1 - math.sqrt(a)),
        ),
        Misconception(
            "swapped",
            "Your weights have changed places. ᾱ near 1 means that nearly all of the picture is "
            "left, so √ᾱ belongs to x0.",
            weigh(lambda a: math.sqrt(1 - a), math.sqrt),
        ),
        Misconception(
            "noise_not_scaled",
            "The noise is added at full strength whatever ᾱ is. At ᾱ = 1 nothing may be added: "
            "scale it by √(1 − ᾱ).",
            weigh(math.sqrt, lambda a: 1.0),
        ),
        Misconception(
            "signal_not_faded",
            "You add noise to a picture that keeps its full strength. The forward process also "
            "fades the picture: scale x0 by √ᾱ.",
            weigh(lambda a: 1.0, lambda a: math.sqrt(1 - a)),
        ),
        Misconception(
            "variance_exploding",
            "That is the samplers' way of writing it, x0 + σ·n with σ = √((1 − ᾱ)/ᾱ). What the "
            "network is shown is that, multiplied by √ᾱ.",
            weigh(lambda a: 1.0, lambda a: math.sqrt((1 - a) / a)),
        ),
        Misconception(
            "root_of_alpha_bar_only",
            "The roots are half there: the picture has its √ᾱ, and the noise still has 1 − ᾱ "
            "without a root.",
            weigh(math.sqrt, lambda a: 1 - a),
        ),
    ),
    hints=(
        "Two things happen: the picture fades and the noise grows. What are they at ᾱ = 1, "
        "and what at ᾱ = 0?",
        "Variances of independent things add up. The picture's share is ᾱ, the noise's is 1 − ᾱ; "
        "values are scaled by the roots of these shares.",
        "Return `[math.sqrt(alpha_bar) * x + … * n for x, n in zip(x0, noise)]`.",
    ),
)
