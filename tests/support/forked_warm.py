"""Imported by the fork server before it forks (``forked``), so that packages and kernels are loaded only once."""

# What test modules import, and what ``vectordb`` imports with the first database: each child would spend half a second on it.
import hypothesis  # noqa: F401
import pytest  # noqa: F401

import vectordb.database
import vectordb.engine.check
import vectordb.maintenance.backup  # noqa: F401
from vectordb.warm import warm

warm()
