"""Products of rows with a matrix whose bits don't depend on the rows beside them, as those of matrix libraries may."""

from __future__ import annotations

from .jit import kernel


@kernel
def project_rows(rows, matrix, result):
    """``result = rows @ matrix``. rows: float32 ``(n, dim)``; matrix: float32 ``(dim, target)``; result: float32 ``(n, target)``.

    Each number of a result is the sum over the dimensions in order, so equal rows give equal results.
    """
    dim, target = matrix.shape
    for i in range(len(rows)):
        row, sums = rows[i], result[i]
        for j in range(target):
            sums[j] = 0.0
        whole = dim - dim % 4
        for d in range(0, whole, 4):
            a, b, c, e = row[d], row[d + 1], row[d + 2], row[d + 3]
            first, second, third, fourth = matrix[d], matrix[d + 1], matrix[d + 2], matrix[d + 3]
            for j in range(target):
                sums[j] += (a * first[j] + b * second[j]) + (c * third[j] + e * fourth[j])
        for d in range(whole, dim):
            a, first = row[d], matrix[d]
            for j in range(target):
                sums[j] += a * first[j]
