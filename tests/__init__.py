"""Tests start hundreds of processes, each of which compiles the package for a second where no bytecode is kept: so it is kept here, also if
Python is told not to.
"""

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # processes that are started inherit it
sys.dont_write_bytecode = False
