"""Weights of multistep methods: integrals of the polynomial through past values, in float64."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor


@cache
def gauss_legendre(n: int) -> tuple[Tensor, Tensor]:
    """(nodes, weights) in [−1, 1] of the rule that is exact to degree 2n − 1: eigenvalues of the Jacobi matrix, and the
    squares of its eigenvectors' first components (Golub & Welsch 1969)."""
    k = torch.arange(1, n, dtype=torch.float64)
    beside = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes, 2 * vectors[0] ** 2


def integral(f: Callable[[Tensor], Tensor], a: float, b: float, n: int = 24) -> Tensor:
    """∫ f from a to b, f (…, n) of its nodes (n,)."""
    nodes, weights = gauss_legendre(n)
    return (b - a) / 2 * (f((a + b) / 2 + (b - a) / 2 * nodes) * weights).sum(-1)


def vandermonde(places: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """w_j with Σ w_j·places[j]^p = wanted[p] for p = 0 … n − 1 (Björck & Pereyra 1970; Golub & Van Loan 2013, algorithm
    4.6.2), in plain Python: for so few places a matrix solver's call takes several times as long."""
    w, n = list(wanted), len(places)
    for k in range(n - 1):
        for i in range(n - 1, k, -1):
            w[i] -= places[k] * w[i - 1]
    for k in range(n - 2, -1, -1):
        for i in range(k + 1, n):
            w[i] /= places[i] - places[i - k - 1]
        for i in range(k, n - 1):
            w[i] -= w[i + 1]
    return w


def adams(sigmas: Sequence[float], s: float, t: float, of: Callable[[Tensor], Tensor] | None = None) -> list[float]:
    """w_j = ∫ L_j(of(σ)) dσ from s to t, L_j the Lagrange polynomial that is 1 at of(sigmas[j]) and 0 at the others:
    Adams-Bashforth for uneven steps, in the variable `of`(σ), or in σ itself."""
    n, h = len(sigmas), t - s
    if of is None:
        return [h * w for w in vandermonde([(x - s) / h for x in sigmas], [1 / (p + 1) for p in range(n)])]
    origin, powers = of(torch.tensor(s, dtype=torch.float64)), torch.arange(n)[:, None]
    wanted = integral(lambda sigma: (of(sigma) - origin) ** powers, s, t).tolist()
    return vandermonde((of(torch.tensor(sigmas, dtype=torch.float64)) - origin).tolist(), wanted)


def moments(h: float, n: int) -> list[float]:
    """∫ h·e^(−h·(1 − u))·u^p du from 0 to 1 for p = 0 … n − 1: by parts, or by the series where that would cancel."""
    if h < 1:
        terms = [math.exp(-h) * h ** (j + 1) / math.factorial(j) for j in range(20)]
        return [sum(term / (p + 1 + j) for j, term in enumerate(terms)) for p in range(n)]
    found = [-math.expm1(-h)]
    for p in range(1, n):
        found.append(1 - p / h * found[-1])
    return found


def exponential(places: Sequence[float], h: float) -> list[float]:
    """w_j with Σ w_j·p(places[j]) = ∫ h·e^(−h·(1 − u))·p(u) du from 0 to 1 for every polynomial p that the places fix:
    what x0 known at places (0: the step's start, 1: its end, in log sigma) adds to x over a step that keeps e^(−h)
    of it (the exponential Adams methods: Hochbruck & Ostermann 2010, section 2.5)."""
    return vandermonde(places, moments(h, len(places)))
