"""Exercise: CLIP's contrastive loss."""

import math
import random

from fromnoise.learn.exercises.exercise import Exercise, Misconception


def info_nce(images: list[list[float]], texts: list[list[float]], temperature: float) -> float:
    """CLIP's loss: how hard it is to find each picture's caption, and each caption's picture."""

    def unit(vector: list[float]) -> list[float]:
        length = math.sqrt(sum(v * v for v in vector))
        return [v / length for v in vector]

    def cross_entropy(rows: list[list[float]]) -> float:
        losses = []
        for i, row in enumerate(rows):
            top = max(row)
            losses.append(top + math.log(sum(math.exp(v - top) for v in row)) - row[i])
        return sum(losses) / len(losses)

    a, b = [unit(v) for v in images], [unit(v) for v in texts]
    logits = [[sum(p * q for p, q in zip(x, y, strict=True)) / temperature for y in b] for x in a]
    columns = [list(column) for column in zip(*logits, strict=True)]
    return (cross_entropy(logits) + cross_entropy(columns)) / 2


def cases(chance: random.Random) -> tuple:
    n, dim = chance.randint(2, 5), chance.randint(2, 4)
    images, texts = ([[chance.gauss(0, 1) for _ in range(dim)] for _ in range(n)] for _ in range(2))
    return images, texts, chance.choice([0.07, 0.2, 0.5])


def unit(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def loss(
    normalize=True,
    scale=lambda v, t: v / t,
    sides=(1, 1),
    others=False,
    total=False,
    by=2,
    stable=True,
):
    """The loss with one thing changed: vectors left as they are, cosines scaled otherwise, weights
    of the two sides, the right pair left out of the sum (others), sums in place of means, what the
    two sides are divided by, no largest logit taken off before exp."""

    def formula(images, texts, temperature):
        prepare = unit if normalize else list
        a, b = [prepare(v) for v in images], [prepare(v) for v in texts]
        rows = [
            [scale(sum(p * q for p, q in zip(x, y, strict=True)), temperature) for y in b]
            for x in a
        ]

        def entropy(rows):
            found = 0.0
            for i, row in enumerate(rows):
                known = [v for j, v in enumerate(row) if not (others and i == j)]
                top = max(known) if stable else 0.0
                found += top + math.log(sum(math.exp(v - top) for v in known)) - row[i]
            return found / (1 if total else len(rows))

        columns = [list(column) for column in zip(*rows, strict=True)]
        return (sides[0] * entropy(rows) + sides[1] * entropy(columns)) / by

    return formula


EXERCISE = Exercise(
    title="CLIP's loss",
    chapter="clip-the-bridge",
    task="""`images` and `texts` hold equally many vectors: picture i belongs to caption i. Write
`info_nce(images, texts, temperature)`. Bring every vector to length 1. The logit of a picture
and a caption is their cosine divided by the temperature. For each picture take the
cross-entropy of its own caption among all captions, and average. Do the same for each caption
among all pictures. Return the mean of the two.""",
    formula=r"\mathcal L = \tfrac12\Bigl(-\tfrac1n\sum_i \ln\frac{e^{\ell_{ii}}}{\sum_j"
    r" e^{\ell_{ij}}}"
    r" - \tfrac1n\sum_i \ln\frac{e^{\ell_{ii}}}{\sum_j e^{\ell_{ji}}}\Bigr)",
    code="src/fromnoise/train/stages/clip.py:ClipTask.loss",
    reference=info_nce,
    cases=cases,
    misconceptions=(
        Misconception(
            "not_normalized",
            "Your vectors keep their lengths, so long ones always win. Divide each by its "
            "length: then the product is the cosine.",
            loss(normalize=False),
        ),
        Misconception(
            "one_direction",
            "You only ask which caption belongs to a picture. Ask the other way round too and take "
            "the mean.",
            loss(sides=(1, 0), by=1),
        ),
        Misconception(
            "other_direction",
            "You only ask which picture belongs to a caption. Ask the other way round too and take "
            "the mean.",
            loss(sides=(0, 1), by=1),
        ),
        Misconception(
            "temperature_multiplied",
            "You multiply by the temperature. A low temperature must make differences larger: "
            "divide.",
            loss(scale=lambda v, t: v * t),
        ),
        Misconception(
            "no_temperature",
            "The temperature is not used. Cosines lie between −1 and 1, too near to each other for "
            "a clear choice.",
            loss(scale=lambda v, t: v),
        ),
        Misconception(
            "right_pair_left_out",
            "The sum under the fraction holds all captions, the right one too.",
            loss(others=True),
        ),
        Misconception(
            "summed",
            "You add up the losses of a batch. Take the mean, so that the loss does not grow with "
            "the batch.",
            loss(total=True),
        ),
        Misconception(
            "sides_added",
            "You add the two directions. Take their mean.",
            loss(by=1),
        ),
    ),
    hints=(
        "Make the table of logits first: a row for each picture, a column for each caption. The "
        "right pairs are its diagonal.",
        "The loss of row i is log Σ exp(row) − row[i]. Columns are the rows of "
        "`list(zip(*logits))`.",
        "Return `(cross_entropy(logits) + cross_entropy(columns)) / 2`, where `cross_entropy` "
        "averages over the rows.",
    ),
)
