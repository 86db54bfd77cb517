"""A value that stands for "leave it as it is", where None means something else."""

from __future__ import annotations


class _Unset:
    """The value of a field that an update leaves as it is."""

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self):
        return "UNSET"


UNSET = _Unset()
