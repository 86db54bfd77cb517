"""Imported by the fork server before it forks (``forked``), so that packages and kernels are loaded only once."""

# What test modules import, and what ``vectordb`` imports with the first database: each child would spend half a second on it.
import contextlib

import hypothesis  # noqa: F401
import pytest  # noqa: F401

import vectordb.database
import vectordb.engine.check
import vectordb.maintenance.backup  # noqa: F401
from vectordb.warm import warm

with contextlib.suppress(ImportError):  # it isn't there where wheels are tried
    import faiss  # noqa: F401
    import scipy.sparse  # noqa: F401

    import bench.worker  # noqa: F401

warm()
