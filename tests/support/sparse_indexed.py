"""Sparse index segments over chunk tables in memory, and vectors like those of learned encoders."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from vectordb_client.model.fields import SparseColumn
from vectordb_client.model.schema import Sparse

from tests.support import calibration
from tests.support.indexed import Chunks, ask
from vectordb.fields import FIELD_TYPES
from vectordb.index import exact as flat
from vectordb.index import file
from vectordb.index.base import SegmentMask, SegmentRequest, SegmentTarget, TailRange, open_file
from vectordb.index.impact import build as sparse_build
from vectordb.index.impact.kind import ImpactFile
from vectordb.index.saturation import Saturation
from vectordb.kernels import impact_layout
from vectordb.storage import chunks, format

Query = tuple[np.ndarray, np.ndarray]


def texts(seed: int, n: int, terms: int = 2_000, size: float = 40, topics: int = 8) -> SparseColumn:
    """Vectors like those of a learned encoder. Half of a row's terms are common, half are of its topic; weights are exponential."""
    return columns(*_rows_of_texts(seed, n, terms, size, topics))  # new arrays, which tests may write to


@functools.cache
def _rows_of_texts(seed: int, n: int, terms: int, size: float, topics: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    orders = np.stack([np.random.default_rng(1_000 + topic).permutation(terms) for topic in range(topics)])
    found, weights = [], []
    for topic in rng.integers(0, topics, n):  # the same topics as in ``topics_of``
        ranks = np.minimum((20 * (terms / 20 + 1) ** rng.random(max(int(rng.poisson(size)), 1)) - 20).astype(int), terms - 1)
        own = np.unique(np.where(rng.random(len(ranks)) < 0.5, ranks, orders[topic, ranks]))
        found.append(own)
        weights.append(0.05 + 0.6 * rng.standard_exponential(len(own)))
    return found, weights


def topics_of(seed: int, n: int, topics: int = 8) -> np.ndarray:
    """The topics of the rows of ``texts``."""
    return np.random.default_rng(seed).integers(0, topics, n)


def columns(terms: Sequence, weights: Sequence) -> SparseColumn:
    """A sparse column from the terms (ascending) and weights of each row."""
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in terms])])
    flat_terms = np.concatenate([np.asarray(row, np.uint64) for row in terms] or [np.empty(0, np.uint64)])
    return SparseColumn(indptr, flat_terms, np.concatenate([np.asarray(row, np.float32) for row in weights] or [np.empty(0, np.float32)]))


def saturation_of(column: SparseColumn, longer: float, lengths=None) -> Saturation:
    """BM25's saturation for rows of term frequencies, with an average text length of ``longer`` × that of these rows. lengths: a table."""
    words = int(longer * column.sums().sum())
    return Saturation(1.2, 0.75, len(column), words, *([] if lengths is None else [lengths]))


def query_of(column: SparseColumn, row: int, share: float = 1.0, seed: int = 0) -> Query:
    """A query with a share of a row's terms."""
    low, high = column.indptr[row], column.indptr[row + 1]
    size = int(np.ceil(share * (high - low)))
    kept = low + np.sort(np.random.default_rng([seed, row]).choice(high - low, size, replace=False))
    return column.terms[kept], column.weights[kept]


class Indexed:
    """Rows in chunks of postings, and a segment with the docids ``inside``, by default all. saturation: for weights that are term
    frequencies, with the table ``lengths``. calibrated: calibrate with as many queries as a database does, for tests of recall; to do so
    takes longer than all else of a build.
    """

    def __init__(
        self,
        column: SparseColumn,
        docids=None,
        inside=None,
        binary: bool = False,
        options=None,
        idf: bool = False,
        saturation=None,
        calibrated: bool = False,
    ):
        self.count = len(column)
        self.docids = np.arange(self.count, dtype=np.uint32) if docids is None else docids
        self.spec = Sparse(binary=binary)
        self.values, self.also = [], []
        for low in range(0, self.count, 700):
            high = min(low + 700, self.count)
            start, end = column.indptr[low], column.indptr[high]
            part = SparseColumn(column.indptr[low : high + 1] - start, column.terms[start:end], column.weights[start:end])
            made = FIELD_TYPES["sparse"].encode(self.spec, part, self.docids[low:high], bm25=saturation is not None)
            self.values.append(np.frombuffer(bytes(chunks.encode(made[format.POSTINGS])), np.uint8))
            if saturation is not None:
                self.also.append(np.frombuffer(bytes(chunks.encode(made[format.LENGTHS])), np.uint8))
        self.table = np.array([chunks.table_row(value, "test") for value in self.values], np.int64)
        self.chunks = Chunks(self.table)
        self.lengths = np.array([chunks.table_row(value, "test") for value in self.also], np.int64)
        self.inside = self.docids if inside is None else inside
        kept = np.flatnonzero(np.isin(self.docids, self.inside))
        sizes = np.diff(column.indptr)
        items = np.repeat(np.isin(np.arange(self.count), kept), sizes)
        self.folder = tempfile.TemporaryDirectory(prefix="vectordb-test-")
        self.path = Path(self.folder.name, "segment.index")
        with calibration.queries(full=calibrated):
            sparse_build.build(
                self.path,
                np.concatenate([[0], np.cumsum(sizes[kept])]),
                column.terms[items],
                None if binary else column.weights[items],
                self.docids[kept],
                idf,
                options or sparse_build.Options(),
                saturation=saturation,
            )
        self.segment = open_file(self.path)

    def search(
        self, queries: Sequence[Query], k: int, rows=None, target: float = 0.95, forced: int = -1, trace=None, saturation=None
    ) -> list[flat.Found]:
        """Search through the segment, and exactly over rows outside of it. rows: docids that may be found."""
        wanted = self.docids if rows is None else rows
        outside = np.setdiff1d(wanted, self.inside).astype(np.uint32)
        part = SegmentTarget(self.segment, SegmentMask(self.segment, None if rows is None else rows))
        rest = [TailRange(0, len(self.table), outside)] if len(outside) else []
        return ask(ImpactFile, SegmentRequest([part], rest, self.chunks, queries, self.spec, k, target, saturation, forced), trace)

    def exact(self, queries: Sequence[Query], k: int, rows=None, saturation=None) -> list[flat.Found]:
        """Exact search, for comparison."""
        return [flat.search_sparse(self.table, terms, weights, k, rows, saturation) for terms, weights in queries]


def earlier(path: Path, out: Path) -> Path:
    """The file of a segment without negative weights as earlier versions wrote it: with a list of each term for each block of rows."""
    opened = open_file(path)
    sections = dict(opened.sections)
    run_at, runs = sections.pop("run_at").tolist(), sections.pop("runs").tolist()
    blocks = -(-opened.rows // impact_layout.BLOCK_ROWS)
    lists: list[list[list[int]]] = [[[] for _ in run_at[1:]] for _ in range(blocks)]
    for term, (begin, end) in enumerate(pairwise(run_at)):
        at = begin + 1 + 3 * runs[begin] if end > begin else end
        for level, low, high in zip(runs[begin + 1 : at : 3], runs[begin + 2 : at : 3], runs[begin + 3 : at : 3], strict=True):
            stop = at + low + 65_536 * high
            while at < stop:
                block, count = runs[at : at + 2]
                lists[block][term] += [level, count, *runs[at + 2 : at + 2 + count]]
                at += 2 + count
    every = [own for block in lists for own in block]
    sections["list_at"] = np.cumsum([0, *map(len, every)]).astype(np.uint32)
    sections["lists"] = np.array([number for own in every for number in own], np.uint16)
    file.write(out, opened.meta, sections)
    return out


@functools.cache
def large() -> Indexed:
    """6,000 rows: ``texts(1, 6_000)``."""
    return Indexed(texts(1, 6_000), calibrated=True)


@functools.cache
def small() -> Indexed:
    """900 rows with gaps between their docids, a third of them not in the segment."""
    docids = np.flatnonzero(np.random.default_rng(1).random(2_000) < 0.6)[:900].astype(np.uint32)
    return Indexed(texts(2, 900, 300, 15), docids, inside=docids[:600])
