"""Background maintenance of an open directory: builds, merges and repairs index segments, and compacts chunks."""

from .maintainer import Maintainer, attach

__all__ = ["Maintainer", "attach"]
