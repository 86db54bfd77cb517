"""Tests start some hundreds of processes. If Python is told to keep no bytecode, each would compile the package anew, which takes a second:
then it is kept in a folder that is removed at the end."""

import atexit
import os
import shutil
import sys
import tempfile


def _keep_bytecode() -> None:
    owner, folder = os.getpid(), tempfile.mkdtemp(prefix="vectordb-bytecode-")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = folder  # processes that are started inherit it
    sys.dont_write_bytecode, sys.pycache_prefix = False, folder
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))


if sys.dont_write_bytecode:
    _keep_bytecode()
