"""Points, hits and pages with vectors can be compared."""

import operator
import pickle

import numpy as np
from vectordb_client.model.results import Hit, Hits, Page, Point

VECTORS = {"v": np.array([1.0, 2.0], np.float32), "s": (np.array([3, 4], np.uint64), np.array([0.5, 1.0], np.float32))}
OTHERS = {"v": np.array([1.0, 3.0], np.float32), "s": VECTORS["s"]}


def _hit(vectors):
    return Hit(1, 0.5, {"n": 1}, None, {}, vectors, {})


def test_points_are_equal_if_all_of_them_is():
    one, same, other = Point(1, VECTORS), Point(1, pickle.loads(pickle.dumps(VECTORS))), Point(1, OTHERS)
    assert one == same and one != other and one != Point(2, VECTORS) and one != 1 and same in [other, one]
    assert Page((one,), None) == Page((same,), None) and Page((one,), None) != Page((other,), None)


def test_hits_are_equal_if_all_of_them_is():
    one, same, other = _hit(VECTORS), pickle.loads(pickle.dumps(_hit(VECTORS))), _hit(OTHERS)
    assert one == same and one != other and same in [other, one]
    assert not operator.ne(one, same) and not operator.eq(one, other)  # both are defined
    assert one != 1 and one == tuple(same)
    assert Hits([one]) == Hits([same]) and Hits([one]) != Hits([other]) and Hits([one]) != Hits([])
