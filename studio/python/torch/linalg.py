"""Eigenvalues of small symmetric matrices."""

import math
from array import array

from torch import Tensor


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(eigenvalues, increasing; eigenvectors, one a column) of a symmetric matrix, by Jacobi's
    rotations until no entry beside the diagonal counts (Golub & Van Loan 2013, algorithm 8.5.3)."""
    n = len(matrix)
    a = matrix.tolist()
    vectors = [[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)]
    for _ in range(50):  # sweeps; about 8 are enough
        rest = sum(a[i][j] ** 2 for i in range(n) for j in range(i))
        if rest < 1e-32 * sum(a[i][i] ** 2 for i in range(n)) + 1e-300:
            break
        for p in range(n - 1):
            for q in range(p + 1, n):
                if a[p][q] == 0:
                    continue
                tau = (a[q][q] - a[p][p]) / (2 * a[p][q])
                t = math.copysign(1, tau) / (math.fabs(tau) + math.hypot(1, tau))
                c = 1 / math.hypot(1, t)
                s = t * c
                for row in (*a, *vectors):
                    row[p], row[q] = c * row[p] - s * row[q], s * row[p] + c * row[q]
                for k in range(n):
                    a[p][k], a[q][k] = c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]
    order = sorted(range(n), key=lambda i: a[i][i])
    values = array(matrix.dtype, [a[i][i] for i in order])
    columns = array(matrix.dtype, [row[i] for row in vectors for i in order])
    return Tensor(values, (n,)), Tensor(columns, (n, n))
