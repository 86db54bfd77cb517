"""Products of rows with a matrix: compiled, interpreted and by numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.interpreted import both
from vectordb.kernels.projection import project_rows


@pytest.mark.parametrize(("n", "dim", "target"), [(0, 3, 2), (1, 1, 1), (2, 4, 3), (3, 7, 17), (5, 33, 16)])
def test_products(n, dim, target):
    rng = np.random.default_rng(dim)
    rows, matrix = rng.standard_normal((n, dim)).astype(np.float32), rng.standard_normal((dim, target)).astype(np.float32)
    around = np.full((n + 2, target), 7, np.float32)
    project_rows(rows, matrix, around[1 : n + 1])
    np.testing.assert_allclose(around[1 : n + 1], rows @ matrix, rtol=1e-5, atol=1e-5)
    assert (around[0] == 7).all() and (around[-1] == 7).all()  # nothing is written around it
    for _, (_, _, result) in both("projection.project_rows", rows, matrix, np.zeros((n, target), np.float32)):
        np.testing.assert_allclose(result, rows @ matrix, rtol=1e-5, atol=1e-5)


def test_a_row_has_the_same_bits_wherever_it_stands():
    rng = np.random.default_rng(1)
    rows, matrix = rng.standard_normal((70, 385)).astype(np.float32), rng.standard_normal((385, 130)).astype(np.float32)
    whole = np.empty((70, 130), np.float32)
    project_rows(rows, matrix, whole)
    for row in range(70):
        one = np.empty((1, 130), np.float32)
        project_rows(rows[row : row + 1], matrix, one)
        assert one.tobytes() == whole[row].tobytes()
