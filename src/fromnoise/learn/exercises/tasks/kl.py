"""Exercise: the KL term of the autoencoder."""

import math
import random

from fromnoise.learn.exercises.exercise import Exercise, Misconception


def kl(mean: list[float], log_var: list[float]) -> float:
    """The Kullback–Leibler divergence of N(mean, exp(log_var)) from N(0, 1), summed."""
    return sum((m * m + math.exp(v) - 1 - v) / 2 for m, v in zip(mean, log_var, strict=True))


def cases(chance: random.Random) -> tuple:
    n = chance.randint(2, 6)
    return [chance.gauss(0, 1.5) for _ in range(n)], [chance.uniform(-3, 2) for _ in range(n)]


def total(term, divide=False):
    """The sum over values of another term, of mean and log variance; divided by their number."""

    def formula(mean, log_var):
        terms = [term(m, v) for m, v in zip(mean, log_var, strict=True)]
        return sum(terms) / (len(terms) if divide else 1)

    return formula


EXERCISE = Exercise(
    title="A price for information",
    chapter="latent-diffusion",
    task="""The encoder gives each latent value a mean and the logarithm of a variance. Write
`kl(mean, log_var)`: how far these Gaussians are from N(0, 1), as the Kullback–Leibler
divergence, added up over all values. Return one number. It is 0 where every mean and every log
variance is 0.""",
    formula=r"\tfrac12\sum_i\bigl(\mu_i^2 + \sigma_i^2 - 1 - \ln\sigma_i^2\bigr)",
    code="src/fromnoise/models/vae_encoder.py:Posterior.kl",
    reference=kl,
    cases=cases,
    misconceptions=(
        Misconception(
            "log_var_is_var",
            "`log_var` is the logarithm of the variance. The variance itself is "
            "`math.exp(log_var)`.",
            total(lambda m, v: (m * m + v - 1 - math.log(v)) / 2),
        ),
        Misconception(
            "log_var_is_var",
            "`log_var` stands where the variance belongs: use `math.exp(log_var)` there.",
            total(lambda m, v: (m * m + v - 1 - v) / 2),
        ),
        Misconception(
            "log_of_deviation",
            "You took `log_var` as the logarithm of the deviation. It is that of the variance: no "
            "factor 2.",
            total(lambda m, v: (m * m + math.exp(2 * v) - 1 - 2 * v) / 2),
        ),
        Misconception(
            "no_half",
            "The ½ before the sum is missing.",
            total(lambda m, v: m * m + math.exp(v) - 1 - v),
        ),
        Misconception(
            "no_minus_one",
            "At mean 0 and variance 1 the divergence must be 0. Yours is ½ for each value: the −1 "
            "is missing.",
            total(lambda m, v: (m * m + math.exp(v) - v) / 2),
        ),
        Misconception(
            "sign_of_log",
            "The logarithm is subtracted: a very small variance must cost a lot. Yours makes it "
            "cheap.",
            total(lambda m, v: (m * m + math.exp(v) - 1 + v) / 2),
        ),
        Misconception(
            "negative",
            "Your sign is reversed. A divergence is never negative.",
            total(lambda m, v: (1 + v - m * m - math.exp(v)) / 2),
        ),
        Misconception(
            "mean_not_squared",
            "The mean comes in squared: being off to the left costs as much as to the right.",
            total(lambda m, v: (m + math.exp(v) - 1 - v) / 2),
        ),
        Misconception(
            "averaged",
            "You average over the values. The divergence of independent values is the sum of "
            "theirs.",
            total(lambda m, v: (m * m + math.exp(v) - 1 - v) / 2, divide=True),
        ),
    ),
    hints=(
        "Write one value's term first and try it with mean 0 and log_var 0: it must give 0.",
        "The term of one value is ½(μ² + σ² − 1 − ln σ²), with σ² = exp(log_var).",
        "Return `sum(… for m, v in zip(mean, log_var))`.",
    ),
)
