"""How many queries calibrate the indexes of tests: as many as a user's, or few, which takes a tenth of the time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vectordb.index.dense import calibrate as dense
from vectordb.index.impact import calibrate as impact
from vectordb.index.multi import calibrate as multi

_FEW = {
    dense: {"QUERIES": 24, "FEW_QUERIES": 24, "FILTERED": 16, "REQUESTS": (24, 12), "OTHERS": (24, 12)},
    impact: {"QUERIES": 6, "FEWEST_QUERIES": 6},
    multi: {"QUERIES": 8, "FEWEST_QUERIES": 8},
}
_FULL = {module: {name: getattr(module, name) for name in few} for module, few in _FEW.items()}


_current = True


def use(full: bool) -> None:
    """Calibrate from now on with all queries, as a user does, or with few."""
    global _current
    _current = full
    for module, values in (_FULL if full else _FEW).items():
        for name, value in values.items():
            setattr(module, name, value)


@contextlib.contextmanager
def queries(full: bool) -> Iterator[None]:
    """``use`` for what is built inside: for indexes that several tests share, whichever comes first."""
    before = _current
    use(full)
    try:
        yield
    finally:
        use(before)
