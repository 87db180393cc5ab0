"""Exercise: cross-attention, by which a picture reads a prompt."""

import math
import random

from fromnoise.learn.exercises.exercise import Exercise, Misconception


def cross_attention(
    queries: list[list[float]], keys: list[list[float]], values: list[list[float]]
) -> list[list[float]]:
    """Each place of the picture takes a mean of what the words say."""
    d, out = len(queries[0]), []
    for q in queries:
        scores = [sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(d) for k in keys]
        top = max(scores)
        weights = [math.exp(s - top) for s in scores]
        total = sum(weights)
        columns = zip(*values, strict=True)
        out.append([sum(w * v for w, v in zip(weights, c, strict=True)) / total for c in columns])
    return out


def cases(chance: random.Random) -> tuple:
    d = chance.randint(2, 4)
    large = chance.choice([1.0, 60.0])  # scores of thousands, whose exp overflows

    def vectors(n, size):
        return [[chance.gauss(0, size) for _ in range(d)] for _ in range(n)]

    words = chance.randint(2, 4)
    return vectors(words + chance.randint(1, 2), large), vectors(words, large), vectors(words, 1)


def attend(divide=math.sqrt, over_words=True, weigh="softmax", read="values", top=max):
    """Attention with one thing changed: what scores are divided by, softmax over places instead of
    words, weights of another kind, keys read instead of values, exp without the largest score
    taken off."""

    def softmax(row):
        peak = top(row)
        parts = [math.exp(s - peak) for s in row]
        return [p / sum(parts) for p in parts]

    def formula(queries, keys, values):
        by = divide(len(queries[0]))
        scores = [
            [sum(a * b for a, b in zip(q, k, strict=True)) / by for k in keys] for q in queries
        ]
        if weigh == "scores":
            weights = scores
        elif weigh == "hardest":
            weights = [[float(s == max(row)) for s in row] for row in scores]
        elif weigh == "shares":
            weights = [[s / sum(row) for s in row] for row in scores]
        elif over_words:
            weights = [softmax(row) for row in scores]
        else:
            columns = [softmax(list(column)) for column in zip(*scores, strict=True)]
            weights = [list(row) for row in zip(*columns, strict=True)]
        said = [list(c) for c in zip(*(values if read == "values" else keys), strict=True)]
        return [[sum(w * v for w, v in zip(row, c, strict=True)) for c in said] for row in weights]

    return formula


EXERCISE = Exercise(
    title="Where each place looks",
    chapter="clip-the-bridge",
    task="""`queries` holds a vector for each place of the picture; `keys` and `values` hold one
for each word. Write `cross_attention(queries, keys, values)`. The score of a place and a word
is the product of query and key, divided by √d, where d is the length of a query. A softmax over
the words makes weights that add up to 1 for each place; the answer is the mean of the values
with these weights. Return a list of vectors, one for each place. Scores may be in the thousands,
so subtract the largest score of a place before `exp`.""",
    formula=r"\operatorname{softmax}\!\bigl(QK^{\mathsf T}/\sqrt d\bigr)\,V",
    code="src/fromnoise/models/attention.py:compute_attention_map",
    reference=cross_attention,
    cases=cases,
    misconceptions=(
        Misconception(
            "overflow",
            "exp of a large score is more than a float can hold. Subtract the row's largest score "
            "first. The weights stay the same.",
            attend(top=lambda row: 0.0),
        ),
        Misconception(
            "not_scaled",
            "The scores are not divided by √d. Products of long vectors are large, and the softmax "
            "then gives nearly all weight to one word.",
            attend(divide=lambda d: 1.0),
        ),
        Misconception(
            "divided_by_d",
            "You divide by d. A sum of d random products grows like √d.",
            attend(divide=float),
        ),
        Misconception(
            "softmax_over_places",
            "Your weights add up to 1 over the places. Each place must share its attention among "
            "the words: the softmax runs over the words.",
            attend(over_words=False),
        ),
        Misconception(
            "keys_read",
            "You average the keys. A key says where to look, the value says what is found there.",
            attend(read="keys"),
        ),
        Misconception(
            "no_softmax",
            "Raw scores may be negative and do not add up to 1. The softmax makes weights of them.",
            attend(weigh="scores"),
        ),
        Misconception(
            "hardest",
            "You take the best word alone. Attention is a weighted mean, which has a gradient for "
            "every word.",
            attend(weigh="hardest"),
        ),
        Misconception(
            "shares",
            "You divide scores by their sum, which may be 0 or negative. The softmax divides their "
            "exponentials.",
            attend(weigh="shares"),
        ),
    ),
    hints=(
        "Work place by place: one query, a score for each word, weights, a mean of values.",
        "Weights of one place: exp(score − largest), each divided by their sum.",
        "The mean of values: `[sum(w * v for w, v in zip(weights, c)) for c in zip(*values)]`.",
    ),
)
