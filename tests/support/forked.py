"""New processes for tests, forked from one that has loaded vectordb and its kernels, so that each starts in milliseconds.

They have no open databases and no threads of the test. Their environment variables are those at the start of the test session.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver

from tests.support.paths import ROOT

_ENVIRONMENT = dict(os.environ)


def context() -> multiprocessing.context.ForkServerContext:
    """A ``multiprocessing`` context with a running fork server that has imported ``forked_warm``."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tests.support.forked_warm"])
    before = dict(os.environ)
    try:
        # The server imports before it gets this process's sys.path, and silently skips a module that it doesn't find.
        path = os.pathsep.join(filter(None, [str(ROOT), _ENVIRONMENT.get("PYTHONPATH")]))
        os.environ.clear()
        os.environ.update(_ENVIRONMENT | {"PYTHONPATH": path})
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return made
