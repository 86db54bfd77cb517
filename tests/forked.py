"""New processes for tests, forked from one that has loaded vectordb and its kernels: each takes milliseconds instead of seconds.

They are real processes of their own, without open databases or threads of the test. Their environment is that of the test session's start.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver

_HERE = os.path.dirname(__file__)
_ENVIRONMENT = dict(os.environ)


def context() -> multiprocessing.context.ForkServerContext:
    """A context of ``multiprocessing`` whose fork server runs, with ``forked_warm`` imported."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["forked_warm"])
    before = dict(os.environ)
    try:
        # The server imports before it knows this process's sys.path, and would skip a module that it doesn't find.
        path = os.pathsep.join(filter(None, [_HERE, _ENVIRONMENT.get("PYTHONPATH")]))
        os.environ.clear()
        os.environ.update(_ENVIRONMENT | {"PYTHONPATH": path})
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return made
