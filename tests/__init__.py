"""Tests start hundreds of processes. If Python is told to keep no bytecode, each of them compiles the package anew, which takes a second: here
it is kept, in the usual places.
"""

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # processes that are started inherit it
sys.dont_write_bytecode = False
