"""Upkeep of an open directory in the background: index segments are sealed, merged and repaired, chunks are compacted."""

from .maintainer import Maintainer, attach

__all__ = ["Maintainer", "attach"]
