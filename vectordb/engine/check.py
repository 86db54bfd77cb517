"""The check of a directory with the field types of this version."""

from __future__ import annotations

import os

from ..fields import FIELD_TYPES
from ..storage import check as storage_check
from ..storage.check import IntegrityReport


def check(path: str | os.PathLike, untouched: bool = False) -> IntegrityReport:
    """Check every invariant of a directory in one read transaction; see ``storage.check.check``."""
    return storage_check.check(path, FIELD_TYPES, untouched)
