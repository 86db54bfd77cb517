"""What a search is going to read is asked for before, where it isn't in memory: the system then reads it while the search goes on.

As in ESPN (Shrestha et al., 2024), the candidates are guessed from what is known of them before they have all been found: byte codes from
the lists that are read first, vectors from the candidates whose byte codes are scored first. All pages are asked for in the order of their
addresses. What is asked for needlessly costs time, so it is done only after searches that had to read files.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...common import mapping
from ...kernels import AUX, COUNT, DATA, EXTRA, FIRST, ITEMS, NORMS
from ..base import Chunks

# Constants: unit and meaning. Chosen, not measured.
SEARCHES = 64  # searches of a segment that go on to ask after one that had to read a file
FIRST_LISTS = 0.8  # share of the lists from which the candidates are guessed
FIRST_SCORED = 0.5  # share of the candidates, those with the best sums, from which the ones that are scored exactly are guessed
ENABLED = True
CODES, VECTORS = range(2)  # kinds of what is asked for
_NUMBER = 4  # bytes of the norm or the step of a vector


@dataclass
class Ahead:
    """What a segment's searches ask for. left: searches that still ask. wanted, met: rows that were scored by byte codes and exactly, and
    those of them that had been asked for before they were known, by kind.
    """

    left: int = SEARCHES
    wanted: list[int] = field(default_factory=lambda: [0, 0])
    met: list[int] = field(default_factory=lambda: [0, 0])

    @property
    def asks(self) -> bool:
        return ENABLED and self.left > 0

    def learn(self, read: int) -> None:
        """read: blocks that a search read from disk (``blocks_read``)."""
        self.left = SEARCHES if read else max(self.left - 1, 0)

    def count(self, kind: int, guessed: np.ndarray, rows: np.ndarray) -> None:
        """Count how many of the rows that a search needed had been guessed. kind: CODES or VECTORS."""
        self.wanted[kind] += len(rows)
        self.met[kind] += int(np.isin(rows, guessed).sum())


def blocks_read() -> int:
    """Blocks that this thread has read from disk so far; 0 if the system doesn't say."""
    if not mapping.SUPPORTED:
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


def ask_codes(codes: np.ndarray, starts: np.ndarray, rows: np.ndarray) -> None:
    """Ask for the byte codes of some rows. codes, starts: as in ``MultiSegment``."""
    width = codes.strides[0]
    mapping.ask(codes.ctypes.data + starts[rows] * width, (starts[rows + 1] - starts[rows]) * width)


def ask_vectors(chunks: Chunks, docids: np.ndarray, starts: np.ndarray, size: int, rows: np.ndarray) -> None:
    """Ask for the vectors of some rows in the field's chunks. docids, starts: of the segment. size: bytes of a vector.

    Where a row's vectors are in its chunk is counted, not read: rows that the segment lacks would come in between. Then the place is wrong,
    and what is asked for is of no use.
    """
    table = chunks.rows[np.searchsorted(chunks.rows[:, FIRST], docids[rows], "right") - 1]
    first = starts[rows] - starts[np.searchsorted(docids, table[:, FIRST])]
    count = starts[rows + 1] - starts[rows]
    inside = (first >= 0) & (first + count <= table[:, ITEMS])
    asked = [(table[:, DATA], 4 * (table[:, COUNT] + 1))]
    for column, item in ((AUX, size), (NORMS, _NUMBER), (EXTRA, _NUMBER)):
        there = inside & (table[:, column] != 0)
        asked.append(((table[:, column] + first * item)[there], (count * item)[there]))
    mapping.ask(*(np.concatenate(each) for each in zip(*asked, strict=True)))
