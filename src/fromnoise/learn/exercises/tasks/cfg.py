"""Exercise: classifier-free guidance."""

import random

from fromnoise.learn.exercises.exercise import Exercise, Misconception


def cfg(cond: list[float], uncond: list[float], scale: float) -> list[float]:
    """The guided picture: from the one without the prompt towards the one with it, and beyond."""
    return [u + scale * (c - u) for c, u in zip(cond, uncond, strict=True)]


def cases(chance: random.Random) -> tuple:
    n = chance.randint(2, 6)
    cond, uncond = ([chance.gauss(0, 1) for _ in range(n)] for _ in range(2))
    return cond, uncond, chance.choice([0.5, 2.0, 4.0, 7.5, chance.uniform(1.1, 9)])


def each(formula):
    """A formula of one value as one of lists; it is given cond, uncond and the scale."""
    return lambda cond, uncond, scale: [
        formula(c, u, scale) for c, u in zip(cond, uncond, strict=True)
    ]


EXERCISE = Exercise(
    title="Follow the prompt more",
    chapter="prompts-and-sampling",
    task="""The network was asked twice about the same noisy picture. `cond` is its clean
picture with the prompt, `uncond` the one without. Write `cfg(cond, uncond, scale)`, the guided
picture: a scale of 0 gives `uncond`, 1 gives `cond`, and more goes on in the same direction.
Return a list.""",
    formula=r"\hat x = \hat x_\varnothing + s\,(\hat x_c - \hat x_\varnothing)",
    code="src/fromnoise/diffusion/guidance.py:apply_cfg",
    reference=cfg,
    cases=cases,
    misconceptions=(
        Misconception(
            "starts_at_cond",
            "You start at the picture with the prompt, so that a scale of 0 already follows it. "
            "That is the paper's w = scale − 1. Here the start is `uncond`.",
            each(lambda c, u, s: c + s * (c - u)),
        ),
        Misconception(
            "clamped",
            "You stop at the picture with the prompt. Guidance does not mix two pictures, it "
            "extrapolates: a scale above 1 goes beyond `cond`.",
            each(lambda c, u, s: u + min(max(s, 0.0), 1.0) * (c - u)),
        ),
        Misconception(
            "reversed",
            "You walk away from the prompt: the direction is `cond − uncond`, not the reverse.",
            each(lambda c, u, s: u + s * (u - c)),
        ),
        Misconception(
            "swapped",
            "The two answers have changed places: a scale of 0 must give `uncond`.",
            each(lambda c, u, s: c + s * (u - c)),
        ),
        Misconception(
            "weighted_mean",
            "You divide by the sum of the weights, which makes a mean of the two pictures. A mean "
            "can never go beyond `cond`.",
            each(lambda c, u, s: (u + s * c) / (1 + s)),
        ),
        Misconception(
            "only_cond",
            "You scale the whole picture with the prompt, which makes it glaring. Scale only the "
            "difference that the prompt makes.",
            each(lambda c, u, s: s * c),
        ),
        Misconception(
            "difference_only",
            "You return the step and forgot where it starts: add it to `uncond`.",
            each(lambda c, u, s: s * (c - u)),
        ),
    ),
    hints=(
        "What does the prompt change? That difference is the direction to walk in.",
        "Start at `uncond` and walk `scale` times the difference `cond − uncond`.",
        "Return `[u + … for c, u in zip(cond, uncond)]`.",
    ),
)
