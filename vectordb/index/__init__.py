"""Indexes of vector fields. A new kind of index is one package here and one line in this table."""

from .base import INDEX_KINDS
from .dense.kind import HNSWFile
from .impact.kind import ImpactFile
from .lists.kind import ListsFile
from .multi.kind import MultiFile

INDEX_KINDS.update({kind.name: kind for kind in (HNSWFile, ImpactFile, ListsFile, MultiFile)})
