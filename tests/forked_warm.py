"""Imported by the fork server before it forks (``forked``): packages and kernels are loaded once, not once a process."""

import pytest  # noqa: F401 - test modules import it

from vectordb.warm import warm

warm()
