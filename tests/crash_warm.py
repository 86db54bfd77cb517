"""Preloaded where processes are forked that get killed: kernels are loaded once, not once a process."""

import crash_load

from vectordb.warm import warm

warm()
__all__ = ["crash_load"]
