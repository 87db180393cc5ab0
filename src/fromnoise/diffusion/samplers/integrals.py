"""Weights of multistep methods: integrals of the polynomial through past values, in float64."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from operator import mul

import torch

# Adams-Bashforth's weights for even steps, newest first
FIXED = (
    (1,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@cache
def compute_gauss_legendre(n: int) -> tuple[list[float], list[float]]:
    """(nodes, weights) in [−1, 1] of the rule that is exact to degree 2n − 1: the eigenvalues of
    the Jacobi matrix, and the squares of its eigenvectors' first components (Golub & Welsch 1969).
    """
    k = torch.arange(1, n, dtype=torch.float64)
    off = k / (4 * k**2 - 1).sqrt()  # the two diagonals beside the main one
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes.tolist(), (2 * vectors[0] ** 2).tolist()


def integrate(
    f: Callable[[float], Sequence[float]], a: float, b: float, n: int = 24
) -> list[float]:
    """∫ f from a to b, for each of f's values. Plain Python, as all of this file: for so few
    numbers it is faster than tensors."""
    nodes, weights = compute_gauss_legendre(n)
    middle, half = (a + b) / 2, (b - a) / 2
    columns = zip(*(f(middle + half * node) for node in nodes), strict=True)
    return [half * sum(map(mul, weights, column)) for column in columns]


def solve_vandermonde(places: Sequence[float], values: Sequence[float]) -> list[float]:
    """w_j with Σ w_j·places[j]^p = values[p] for p = 0 … n − 1 (Björck & Pereyra 1970; Golub & Van
    Loan 2013, algorithm 4.6.2)."""
    w, n = list(values), len(places)
    for k in range(n - 1):
        for i in range(n - 1, k, -1):
            w[i] -= places[k] * w[i - 1]
    for k in range(n - 2, -1, -1):
        for i in range(k + 1, n):
            w[i] /= places[i] - places[i - k - 1]
        for i in range(k, n - 1):
            w[i] -= w[i + 1]
    return w


def compute_adams_weights(
    sigmas: Sequence[float], s: float, t: float, of: Callable[[float], float] | None = None
) -> list[float]:
    """w_j = ∫ L_j(of(σ)) dσ from s to t. L_j is the Lagrange polynomial that is 1 at of(sigmas[j])
    and 0 at the others: Adams-Bashforth for uneven steps, in the variable `of`(σ), or in σ itself.
    """
    n, h = len(sigmas), t - s
    if of is None:
        return [
            h * w
            for w in solve_vandermonde(
                [(x - s) / h for x in sigmas], [1 / (p + 1) for p in range(n)]
            )
        ]
    origin, powers = of(s), range(n)

    def terms(sigma: float) -> list[float]:
        offset = of(sigma) - origin
        return [offset**p for p in powers]

    return solve_vandermonde([of(x) - origin for x in sigmas], integrate(terms, s, t))


def compute_moments(h: float, n: int) -> list[float]:
    """∫ h·e^(−h·(1 − u))·u^p du from 0 to 1 for p = 0 … n − 1: by parts, or by the series where
    that loses digits."""
    if abs(h) < 1:
        terms = [math.exp(-h) * h ** (j + 1) / math.factorial(j) for j in range(20)]
        return [sum(term / (p + 1 + j) for j, term in enumerate(terms)) for p in range(n)]
    moments = [-math.expm1(-h)]
    for p in range(1, n):
        moments.append(1 - p / h * moments[-1])
    return moments


def compute_exponential_weights(places: Sequence[float], h: float) -> list[float]:
    """w_j with Σ w_j·p(places[j]) = ∫ h·e^(−h·(1 − u))·p(u) du from 0 to 1 for every polynomial p
    that the places fix. These are the weights of x0 at the places (0: the step's start, 1: its end,
    in log sigma) in a step that keeps e^(−h) of x (the exponential Adams methods: Hochbruck &
    Ostermann 2010, section 2.5)."""
    return solve_vandermonde(places, compute_moments(h, len(places)))
