"""Imported by the fork server before it forks (``forked``), so that packages and kernels are loaded only once."""

import pytest  # noqa: F401 - test modules import it

from vectordb.warm import warm

warm()
