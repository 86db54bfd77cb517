"""The contracts of an index: what a kind of index file, a plan and a codec must provide.

``INDEX_KINDS`` maps the name in a file's header to the class that opens it, so a field can have files of several kinds at a time. Which
kind a new file gets is decided by the field's options and the number of rows (``kind_for``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
from vectordb_client.errors import CorruptionError, StorageError

from .exact import Found
from .file import IndexFile, damaged, stale
from .mask import SegmentMask

if TYPE_CHECKING:
    from .model import Corrections, PlanModel
    from .saturation import Saturation
    from .tail import TailCodes

Progress = Callable[[str, float], None]  # called with a stage and the share of it that is done, 0 … 1
INDEX_KINDS: dict[str, type[IndexKind]] = {}  # name in a file's header → class; filled by ``vectordb.index``
_NO_ROWS = np.empty(0, np.uint32)


class Cancelled(Exception):
    """The build was cancelled."""


class Unbuildable(StorageError):
    """A library failed to build a part of an index. Another attempt with the same rows would fail too."""


@dataclass(frozen=True)
class Plan:
    """A way to search a segment.

    id: written in the settings of index files, so it is frozen: a plan keeps its id for ever, a new one gets a number that no plan ever
    had, and one that is given up leaves a gap. settings: (parameter, parameter) of each variant that a calibration measures, by rising
    effort. needs: "graph", "filter" (it is of no use without one), or the names of codecs. terminates: it finds min(k, matches) rows
    whatever the query, so it can take over from another plan. exact: it finds the true best rows. kernel: a Python function that runs the
    plan (see the kind for its arguments); None if it is part of the kind's compiled search. describe: (setting, k, depth) → the parameters
    that ``explain`` shows.
    """

    id: int
    name: str
    settings: Sequence[tuple[float, float]] = ((0, 0),)
    needs: frozenset[str] = frozenset()
    terminates: bool = False
    exact: bool = False
    kernel: Callable | None = None
    describe: Callable[[tuple[float, float], int, int], dict[str, float]] = lambda setting, k, depth: {}


class Codec(Protocol):
    """A compact form of dense vectors. An index file names its codecs in its header. An instance encodes the rows of one file.

    name: in the header. sections: of the file, that hold the codes; large: those of them whose checksums are verified in the background.
    of_graph: it serves searches of a graph, so files without one don't have it. encode_query: from a query to (state, error bound): a score
    by codes is at most the bound off, mostly. score: (state, row) → score. Both belong to a plan's kernel: those of compiled plans are
    compiled functions, those of others are plain ones.
    """

    name: ClassVar[str]
    sections: ClassVar[frozenset[str]]
    large: ClassVar[frozenset[str]]
    of_graph: ClassVar[bool] = False
    encode_query: ClassVar[Callable]
    score: ClassVar[Callable]

    @classmethod
    def train(cls, frame: Any, rows: int) -> Codec | None:
        """A codec for ``rows`` rows; None where it is of no use for the data. frame: the learned rotation, and a rotated sample
        (``dense.frame.Frame``).
        """
        ...

    def encode_rows(self, low: int, rotated: np.ndarray) -> None:
        """Encode rows from ``low`` on. rotated: float32 ``(n, dim)``."""
        ...

    def arranged(self, order: np.ndarray, sections: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(sections, header entries) of the rows ``order``. sections: those of the codecs before this one."""
        ...


class RowSource(Protocol):
    """The rows of a build, read in blocks in one read transaction (``fields.base.RowSource``).

    docids: uint32 ascending, at least one. saturation: of a BM25 field, else None. blocks: (index in docids of a block's first row, column
    of its vectors). release: ends the transaction; call it once all rows are copied.
    """

    docids: np.ndarray
    saturation: Saturation | None

    def blocks(self) -> Iterator[tuple[int, Any]]: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class SegmentTarget:
    """A segment to search and the mask of its rows that may be returned. free: there is no filter; the mask excludes dead rows only."""

    segment: Any  # an open file: an instance of an IndexKind
    allowed: SegmentMask
    free: bool = False


@dataclass(frozen=True)
class TailRange:
    """A range of rows without an index: chunks [low, high) of the table, and the docids to scan in them (uint32, ascending).

    codes: of the rows from docid ``begin`` on, whose chunks are verified up to the last of ``docids``; None: there are none.
    """

    low: int
    high: int
    docids: np.ndarray
    codes: TailCodes | None = None
    begin: int = 0


class Chunks(Protocol):
    """The chunk table of a field (``storage.tables.ChunkTable``). A kernel marks unverified chunks that it reads with 2 in ``verified``;
    ``confirm()`` checks their checksums. ``verify_rows(docids)`` checks those of the chunks of some rows before they are read.
    """

    rows: np.ndarray
    verified: np.ndarray
    confirm: Callable[[], None]
    verify_rows: Callable[[np.ndarray], None]


class SegmentRequest(NamedTuple):
    """A search of the segments of one field, all of one kind, and of its tail.

    queries: as the field type's kernels take them. spec: the field's definition. k: results of each query. recall: the mean recall to plan
    for. saturation: of a BM25 field. forced: the index of a setting (a row of the segments' settings) to run instead of the planner's
    choice; −1: none. recorded: return a report. timed: time each segment, on one thread; needs ``recorded``.
    """

    targets: Sequence[SegmentTarget]
    tail: Sequence[TailRange]
    chunks: Chunks
    queries: Any
    spec: Any
    k: int
    recall: float
    saturation: Saturation | None = None
    forced: int = -1
    recorded: bool = False
    timed: bool = False


class Run(NamedTuple):
    """How the first query of a request searched one segment.

    setting: the setting that ran, −1 if nothing matched. local: the selectivity near the query, or without a filter how far what was found
    is (``dense.far``); −1 if it wasn't measured. scored: rows. microseconds, recall: as predicted, without corrections. fallback: 1 if
    another plan ran before and was stopped, 2 if one with less effort ran before, else 0. elapsed: microseconds of each query, None if they
    weren't measured. postings: that were read, None where there are none.
    """

    setting: float
    local: float
    scored: float
    microseconds: float
    recall: float
    fallback: float
    elapsed: float | None = None
    postings: int | None = None


@dataclass
class Report:
    """How a request was answered. runs: one of each target. tail_microseconds: of each query. tail_read: rows of the tail that the first
    query scored at full precision; None: all.
    """

    targets: Sequence[SegmentTarget]
    k: int
    runs: list[Run] = field(default_factory=list)
    tail_microseconds: float = 0.0
    tail_read: int | None = None

    def plan_names(self) -> list[str]:
        """The name of the plan by which each segment was searched."""
        return [target.segment.model(self.k).plan_name(run) for target, run in zip(self.targets, self.runs, strict=True)]

    def judged(self) -> list[tuple[int, float] | None]:
        """(plan, predicted recall) of each segment; None where an audit can't judge the plan: nothing matched, or it fell back."""
        return [
            None if run.setting < 0 or run.fallback == 1 else (target.segment.model(self.k).plan_of(run).id, run.recall)
            for target, run in self._pairs()
        ]

    def explained(self) -> list[dict[str, Any]]:
        """How each segment was searched, as plain data: the entries of ``segments`` in a plan (``vectordb_client.plan.Plan``)."""
        return [target.segment.model(self.k).explained(target, run, self.k) for target, run in self._pairs()]

    def _pairs(self) -> list[tuple[SegmentTarget, Run]]:
        return list(zip(self.targets, self.runs, strict=True))


def joined(reports: Sequence[Report]) -> Report:
    """One report of several kinds' segments, by their first docids."""
    pairs = [pair for report in reports for pair in report._pairs()]
    pairs.sort(key=lambda pair: pair[0].segment.first)
    tail = sum(report.tail_microseconds for report in reports)
    read = next((report.tail_read for report in reports if report.tail_read is not None), None)  # one of them has the tail
    return Report([target for target, _ in pairs], reports[0].k, [run for _, run in pairs], tail, read)


class Bounds(NamedTuple):
    """Upper bounds of the scores of one query, for linear fusion.

    upper_bound: of all scores. search(request, threshold): the k rows with the highest upper bounds: ((docids, bounds), slack). The true
    score of row i is in [bounds[i] − slack[i], bounds[i]]. A row that isn't returned scores less than ``threshold`` or, if k rows are
    returned, no more than the last bound. plan: the name that ``explain`` shows.
    """

    upper_bound: float
    search: Callable[[SegmentRequest, float], tuple[Found, np.ndarray]]
    plan: str


class IndexKind:
    """A kind of index. The class is the kind; an instance is an open file.

    name: in the file's header. field: the kind of the fields that it indexes. options: the class of their ``index`` option that asks for
    this kind of index. plans: id → plan. needed: the ids of the plans that every file must be calibrated for. codecs: name → codec.
    default_codecs: of a file that names none. own_sections: the sections of a file beside its codecs' and its calibration's. large: the
    sections whose checksums are verified in the background; damage of one can only cost recall. depths: the number of models in a file.
    tiers: sections by how much searches need them: those of the first set first; all that no set names come before it. A memory budget is
    spent in this order. scattered: sections that searches read in random order.
    seal_rows: rows of a tail from which it is indexed in the background; None: as for other kinds (``maintenance/policy.py``).

    direct: from (targets, k, recall) to what a direct search needs: the columns of a block (int64, TARGET_WIDTH of ``kernels/direct.py``
    for each target), sizes of the scratch space, and what must live as long as the columns; None where these can't be searched so.
    direct_scratch: from the sizes to a thread's scratch space; None: it needs none. direct_few: from (target, k) to how a segment is
    searched of which few rows match. direct and direct_few are None for a kind that has no direct search. chosen_ahead: plans are chosen
    when a block is made, so that it must be made anew now and then.

    Of an open file: rows, those with an entry in the index. docids: uint32 ``(rows,)``, in the segment's own order. first: the lowest
    docid. inverse: int32, docid − first → row, −1 where there is none. offsets: int32, the first row of each cluster, and the end. apart:
    uint32 ascending, docids that the file covers without an entry (outliers); searches score them exactly. corrections: what searches
    learned about its predictions.
    """

    name: ClassVar[str]
    field: ClassVar[str]
    options: ClassVar[type]
    plans: ClassVar[Mapping[int, Plan]] = {}
    needed: ClassVar[frozenset[int]] = frozenset()
    codecs: ClassVar[Mapping[str, type[Codec]]] = {}
    default_codecs: ClassVar[tuple[str, ...]] = ()
    own_sections: ClassVar[frozenset[str]]
    large: ClassVar[frozenset[str]] = frozenset()
    depths: ClassVar[int] = 0
    tiers: ClassVar[Sequence[frozenset[str]]] = ()
    scattered: ClassVar[frozenset[str]] = frozenset()
    seal_rows: ClassVar[int | None] = None
    direct: ClassVar[Callable[[Sequence[Any], int, float], tuple[np.ndarray, tuple[int, ...], Any] | None] | None] = None
    direct_scratch: ClassVar[Callable[[tuple[int, ...]], Any] | None] = None
    direct_few: ClassVar[Callable[[SegmentTarget, int], Run] | None] = None
    chosen_ahead: ClassVar[bool] = False
    corrections: Corrections
    verified = False  # whether the checksums of the whole file have been verified
    memory: Mapping[str, Sequence[str]] | None = None  # with a memory budget: the sections that are "kept", and those only "mapped"
    chosen: str | None = None  # why a file is of this kind, if that does not follow from the field's definition

    def __init__(self, meta: dict[str, Any], sections: dict[str, np.ndarray], file: IndexFile | None = None):
        """file: None for a draft, which a build calibrates before it is written."""
        self.meta, self.sections = meta, sections
        self.file: Any = file
        self.rows, self.first = meta["rows"], meta["first"]
        self.docids, self.inverse = sections["docids"], sections["inverse"]
        self.offsets = sections.get("offsets", np.array([0, self.rows], np.int32))
        self.apart = sections.get("apart", _NO_ROWS)
        self.all_allowed = SegmentMask(self, None)

    # The kind

    @classmethod
    def serves(cls, options: Any) -> bool:
        """Whether files of a field with this ``index`` option may be of this kind."""
        return type(options) is cls.options

    @classmethod
    def suits(cls, spec: Any, rows: int) -> bool:
        """Whether a new file of ``rows`` rows of a field should be of this kind."""
        return True

    @classmethod
    def max_rows(cls, spec: Any) -> int:
        """The largest number of rows of a file."""
        raise NotImplementedError

    @classmethod
    def needs(cls, spec: Any, rows: int) -> int:
        """About how many bytes of a new file must be in memory for fast searches."""
        return 0

    @classmethod
    def check_options(cls, field: str, options: Any) -> None:
        """Raise SchemaError if a file can't be built here with the ``index`` option of a field, such as for a missing library."""

    @staticmethod
    def build(path: Path, rows: RowSource, spec: Any, progress: Progress, cancelled: Callable[[], bool]) -> None:
        """Index rows (at least one) into a new file and sync it. Raises Cancelled soon after ``cancelled()`` returns true, Unbuildable when
        a library fails, and OSError.
        """
        raise NotImplementedError

    @staticmethod
    def renew(path: Path, rows: RowSource, spec: Any, earlier: Any, progress: Progress, cancelled: Callable[[], bool]) -> str:
        """``build``, from an open file of this kind that covers many of the rows and is ``renewable``. Builds the file anew where that
        makes a better one. Returns what was done, as text.
        """
        raise NotImplementedError

    @staticmethod
    def build_options(spec: Any) -> dict[str, Any]:
        """The options of a build, for the registry's record."""
        return {}

    @staticmethod
    def usable(segments: Sequence[Any], queries: Any, k: int, exact: bool, saturation: Saturation | None) -> bool:
        """Whether these files can answer queries for k results. exact: the answer must be the exact one. Others as in SegmentRequest."""
        return not exact

    @staticmethod
    def search(request: SegmentRequest) -> tuple[list[Found], Report | None]:
        """(the best k rows of each query with full-precision scores, the report if it was asked for), at a predicted mean recall of
        ``request.recall`` or more. Raises CorruptionError.
        """
        raise NotImplementedError

    @staticmethod
    def bounds(segments: Sequence[Any], tail: Sequence[Any], spec: Any, query: Any) -> Bounds | None:
        """Upper bounds of all scores for a query; None if this kind or one of the files has none, so that a scan is needed. tail: the
        ranges of rows that no file covers.
        """
        return None

    # An open file

    def follow(self) -> None:
        """Correct the predictions by what searches have found. Called once in MEASURED_EVERY searches."""

    def model(self, k: int) -> PlanModel:
        """The measurements that plans for k results are made from."""
        raise NotImplementedError

    def fits(self, spec: Any) -> bool:
        """Whether the file is an index of a field with this definition."""
        return spec.kind == self.field

    def facts(self) -> dict[str, Any]:
        """Entries of ``info()`` about this file, beside those of every kind."""
        return {"kind": self.name}

    def drift(self, texts: Any) -> float:
        """Factor, at least 1, by which the statistics that the file was built with have changed. texts: the counters of a BM25 field."""
        return 1.0

    @property
    def renewable(self) -> bool:
        """Whether ``renew`` can make another file from this one."""
        return False

    @property
    def healed(self) -> dict[str, Any]:
        """How the file was made from earlier ones, since the last one that was built of rows alone: "times", and how many rows were "added"
        and "removed". Empty if it was built.
        """
        return self.meta.get("healed", {})

    @property
    def covered(self) -> int:
        """The number of rows that the file covers, outliers included."""
        return self.rows + len(self.apart)

    def verify(self) -> None:
        """Check the checksum of every section. Raises CorruptionError, which names the section that fails."""
        self.file.verify(() if self.memory is None else self.memory["mapped"])

    def placement(self) -> dict[str, Any]:
        """Entries of ``info()`` and of explained searches: where the sections are, with a memory budget; why the file is of its kind."""
        facts: dict[str, Any] = {}
        if self.memory is not None:
            nbytes = {part: sum(self.sections[name].nbytes for name in names) for part, names in self.memory.items()}
            facts["memory"] = {"kept_bytes": nbytes["kept"], "mapped_bytes": nbytes["mapped"], "mapped": list(self.memory["mapped"])}
        return facts if self.chosen is None else facts | {"chosen": self.chosen}


def open_file(path: Path) -> IndexKind:
    """Open an index file by the kind named in its header, and check everything but its large sections.

    Raises FileNotFoundError, Stale, and CorruptionError if it is damaged.
    """
    file = IndexFile(path)
    try:
        return _opened(file)
    except CorruptionError:
        raise
    except Exception as error:  # the header's checksum is right, but an entry is missing or has a wrong type
        raise damaged(path, f"has an invalid header: {type(error).__name__}: {error}") from error


def _opened(file: IndexFile) -> IndexKind:
    name = file.meta.get("kind", "dense")
    kind = INDEX_KINDS.get(name)
    if kind is None:
        raise stale(file.path, f"is an index of kind {name!r}, which this version of vectordb doesn't know")
    codecs = file.meta.get("codecs", kind.default_codecs)
    if unknown := [each for each in codecs if each not in kind.codecs]:
        raise stale(file.path, f"has codes of kind {unknown[0]!r}, which this version of vectordb doesn't know")
    own = [kind.codecs[each] for each in codecs]
    names = kind.own_sections.union(*(codec.sections for codec in own))
    sections = file.read(names, kind.large.union(*(codec.large for codec in own)))
    if kind.depths:
        _check_settings(file.path, kind, sections)
    return kind(file.meta, sections, file)


def _check_settings(path: Path, kind: type[IndexKind], sections: dict[str, np.ndarray]) -> None:
    """Check that this version can run every plan in the file's table of settings. A file is searched by its own settings, which may differ
    from those that this version would calibrate. Raises Stale.
    """
    settings = sections["settings"]
    if settings.dtype != np.float64 or settings.ndim != 2 or settings.shape[1] != 3 or len(sections["recalls"]) != kind.depths:
        raise stale(path, "has a calibration in a form that this version of vectordb doesn't know")
    plans = set(settings[:, 0].tolist())
    if unknown := sorted(plans - set(kind.plans)):
        raise stale(path, f"is calibrated for plan {unknown[0]:g}, which this version of vectordb doesn't know")
    if missing := sorted(kind.needed - plans):
        raise stale(path, f"is not calibrated for plan {missing[0]}, which this version of vectordb needs")


def kinds_of(spec: Any) -> list[type[IndexKind]]:
    """The kinds that files of a field may have, by its ``index`` option; none if the field isn't indexed."""
    options = getattr(spec, "index", None)
    return [kind for kind in INDEX_KINDS.values() if kind.field == spec.kind and kind.serves(options)]


def kind_for(spec: Any, rows: int, room: int | None = None) -> type[IndexKind]:
    """The kind of a new file of ``rows`` rows of an indexed field: the one registered last that suits it. room: bytes of memory for it; if
    it needs more, the kind that needs least. None: no limit.
    """
    kinds = kinds_of(spec)
    usual = next(kind for kind in reversed(kinds) if kind.suits(spec, rows))
    if room is None or usual.needs(spec, rows) <= room:
        return usual
    return min(kinds, key=lambda kind: kind.needs(spec, rows))


def check_options(fields: Mapping[str, Any]) -> None:
    """Raise SchemaError if the index of a field (name → definition) can't be built here, such as for a missing library."""
    for name, spec in fields.items():
        for kind in kinds_of(spec):
            kind.check_options(name, spec.index)


@dataclass(frozen=True)
class BuildOptions:
    """The options of a build: a dataclass with ``seed`` and ``threads`` (0: all cores) among its fields."""

    def kept(self) -> dict[str, Any]:
        """The options that are recorded in the file: all but the number of threads."""
        return {name: value for name, value in asdict(self).items() if name != "threads"}


def stepper(progress: Progress, cancelled: Callable[[], bool]) -> Progress:
    """A function that reports the progress of a build, and raises Cancelled once it is cancelled."""

    def step(stage: str, share: float) -> None:
        if cancelled():
            raise Cancelled(stage)
        progress(stage, share)

    return step


def rows_of_bits(bits: np.ndarray, rows: int) -> np.ndarray:
    """bool ``(rows,)`` of a bitmap (uint64)."""
    return np.unpackbits(bits.view(np.uint8), bitorder="little")[:rows].view(np.bool_)


def inverse_of(docids: np.ndarray) -> np.ndarray:
    """int32, docid − lowest docid → index in ``docids`` (uint32, in any order, at least one), −1 where there is none."""
    first = int(docids.min())
    inverse = np.full(int(docids.max()) - first + 1, -1, np.int32)
    inverse[docids.astype(np.int64) - first] = np.arange(len(docids), dtype=np.int32)
    return inverse
