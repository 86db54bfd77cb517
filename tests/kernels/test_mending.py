"""Links around rows that are gone, compared with the same by numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.test_linking import Case, listed
from vectordb.kernels import mending


def beyond(case: Case, gone: np.ndarray, lost: int, seen: set[int]) -> list[int]:
    """The rows that a lost one leads to, through lost ones only where there is no other."""
    found: list[int] = []
    queue = [lost]
    for row in queue:
        if found:
            break
        for other in case.graph[row][case.graph[row] >= 0].tolist():
            if other in seen:
                continue
            seen.add(other)
            if not gone[other]:
                found.append(other)
            elif len(queue) < case.graph.shape[1]:
                queue.append(other)
    return found


def expected(case: Case, gone: np.ndarray, x: int, count: int, alpha: float) -> list[int]:
    own = case.graph[x][case.graph[x] >= 0].tolist()
    kept, passed = [row for row in own if not gone[row]], {x, *own}
    for lost in own:
        if gone[lost]:
            before = {row for row in passed if gone[row]} | {x, *own, *kept}
            found = beyond(case, gone, lost, before)
            passed |= {row for row in before if gone[row]}
            kept += sorted(found, key=lambda row: (case.far[x, row], row))[:count]
    if len(kept) == len(own) or len(kept) <= case.graph.shape[1]:
        return kept
    return case.pruned(x, case.nearest(x, np.array(kept)), case.graph.shape[1], alpha)


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize(("share", "count"), [(0.1, 1), (0.3, 3), (0.9, 2)])
def test_a_lost_link_is_replaced_by_the_nearest_rows_that_it_led_to(share, count, lifted):
    for seed in range(5):
        case = Case(seed, lifted=lifted)
        gone = (np.random.default_rng(seed).random(120) < share).astype(np.uint8)
        torn = np.array([x for x in range(120) if not gone[x] and gone[case.graph[x][case.graph[x] >= 0]].any()], np.int32)
        graph = case.graph.copy()
        given = *case.rows, graph, np.append(gone, np.uint8(0)), torn
        half = len(torn) // 2
        for low, high in ((half, len(torn)), (0, half)):  # the order of the calls doesn't matter
            mending.mend(*given, low, high, count, np.float32(1.1))
        for x in torn.tolist():
            assert listed(graph[x]) == expected(case, gone, x, count, 1.1)
        others = np.setdiff1d(np.arange(120), torn)
        np.testing.assert_array_equal(graph[others], case.graph[others])
