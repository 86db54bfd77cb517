"""Background maintenance of an open directory: builds, merges and repairs index segments, and compacts chunks."""

from .scheduler import Maintainer

__all__ = ["Maintainer"]
