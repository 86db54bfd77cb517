"""Make a file of lists from an earlier one that covers most of its rows (after SPFresh: Xu et al. 2023, arXiv 2410.14452).

Added rows join the nearest lists. A list that becomes too long is divided; its rows, and those of the lists near it, move where another
centroid is nearer now. A list that becomes too short gives its rows to others. Only rows whose list has changed are coded again, and the
calibration is kept, after a check. Where the file would be worse, it is built anew instead (``index/renewal.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from vectordb_client.errors import CorruptionError

from ...common import background
from ...common.failpoints import reach
from ...kernels.lists import LISTS
from .. import renewal
from ..base import Progress, RowSource, stepper
from ..dense.pieces import copied, in_pieces
from ..file import write
from ..model import settings_of
from ..renewal import Change, Unfit
from . import build, calibrate, segment
from .clusters import ROWS_A_LIST, TOO_LONG, means_of, nearest_of
from .codecs import LONGER, Coding, OneBit, RaBitQ
from .frame import Frame, codable
from .plans import PLANS
from .segment import ListsSegment

STEPS = ("relist.assigned", "relist.divided", "relist.coded", "relist.checked")  # failpoints, see ``common/failpoints.py``
# Unit and meaning. [paper]: of SPFresh. [chosen]: chosen, not measured.
TOO_SHORT = 0.125  # times the usual length; the rows of a shorter list go to others [chosen]
NEIGHBOURS = 64  # lists near one that is divided, whose rows may move [paper]
CHECKED = 128  # queries of the check [chosen]
AT_ONCE = 4_096  # rows compared or coded at a time [chosen]
CALIBRATION = ("settings", "levels", "recalls", "costs", "scan", "far_usual", "far_distances", "far_recalls")


def renew_rows(path: Path, rows: RowSource, spec: Any, earlier: Any, progress: Progress, cancelled: Callable[[], bool]) -> str:
    """``IndexKind.renew``."""
    step, options = stepper(progress, cancelled), build.options_of(spec)
    vectors = copied(rows, spec.dim, step)
    try:
        return heal(path, vectors, rows.docids, earlier, options, options.threads or background.cores(), step)
    except (Unfit, CorruptionError) as error:
        why = error.message if isinstance(error, CorruptionError) else str(error)
    build.build(path, vectors, rows.docids, spec.metric, options, progress, cancelled)
    return f"built anew, because {why}"


def heal(
    path: Path, vectors: np.ndarray, docids: np.ndarray, base: ListsSegment, options: build.Options, threads: int, step: Progress
) -> str:
    """Write the file of rows ``docids`` (uint32, ascending; ``vectors``: float32 ``(n, dim)``) from an earlier one. Returns what was done,
    as text. Raises Unfit, Cancelled, OSError, and CorruptionError if the earlier file is damaged.
    """
    change, meta = Change.of(base, docids), base.meta
    if meta["options"] != options.kept() or meta["codecs"] != [OneBit.name, LONGER[options.bits].name]:
        raise Unfit("the earlier file is of another form")
    if not np.array_equal(base.sections["settings"], settings_of(PLANS)):
        raise Unfit("the earlier file is calibrated for other plans")
    change.check(base, segment.LEAST // 2)
    base.verify()  # what is damaged in it must not get a right checksum in another file
    sections = base.sections
    frame = Frame(base.metric, meta["scale"], sections["mean"].copy(), sections["flips"].copy())
    good = codable(vectors[change.new], base.metric)
    good[good] = frame.near(vectors[change.new[good]])
    change.check_apart(base, good)
    stay = np.searchsorted(docids, base.docids[change.stay])  # indexes in ``vectors``
    inside = np.sort(np.concatenate([stay, change.new[good]]))
    apart = np.setdiff1d(docids, docids[inside])
    stay = np.searchsorted(inside, stay)
    if len(apart):
        vectors, docids = vectors[inside], docids[inside]
    own = np.full(len(docids), -1, np.int32)
    own[stay] = np.repeat(np.arange(base.lists, dtype=np.int32), np.diff(base.offsets))[change.stay]
    lists = Lists(frame, vectors, sections["centroids"].copy(), own, options.seed, threads, step)
    again = lists.changed(own)
    reach("relist.divided")
    order = np.argsort(lists.assigned, kind="stable")
    arranged, entries = build.arranged(frame, docids[order].astype(np.uint32), lists.assigned, lists.centroids)
    kept = {name: meta[name] for name in ("kind", "dim", "metric", "codecs", "options")}
    meta = kept | entries | {"rows": len(docids), "first": int(docids[0])}
    for codec in (OneBit, LONGER[options.bits]):
        encoded, entries = _coded(codec, base, change, stay, lists, again, threads, step).arranged(order, arranged)
        arranged |= encoded
        meta |= entries
    reach("relist.coded")
    if len(apart):
        arranged["apart"] = apart.astype(np.uint32)
    step("calibration", 0.0)
    predicted = sections["recalls"][0, 0, 0]  # without a filter
    settings = renewal.to_check(base, predicted, np.flatnonzero(sections["settings"][:, 0] == LISTS))
    given = ListsSegment(meta, arranged), frame, vectors, docids, order
    queries = np.sort(np.random.default_rng(options.seed).permutation(len(docids))[:CHECKED])
    found, errors = calibrate.unfiltered_recalls(*given, queries, options.seed, settings)
    check = renewal.checked(base, change, len(docids), settings, predicted, found, renewal.SURE * errors)
    reach("relist.checked")
    model = {name: sections[name] for name in CALIBRATION if name in sections}
    if check.again:
        every = np.arange(len(docids))
        model = calibrate.calibrate(*given, every, options.seed, threads, lambda share: step("calibration", share))
    write(path, meta | {"healed": check.healed}, arranged | model)
    return check.said


class Lists:
    """The lists of a file after its rows have changed.

    vectors: float32 ``(n, dim)``, those of the new file. centroids: float32 ``(lists, dim)``, in the frame. assigned: int32 ``(n,)``, the
    list of each row. moved: bool, of each list: whether its centroid is another one than before.
    """

    def __init__(self, frame: Frame, vectors, centroids: np.ndarray, own: np.ndarray, seed: int, threads: int, step: Progress):
        """centroids: of the earlier file. own: the list of each row in it, int32, −1 for an added one."""
        self.frame, self.vectors, self.seed, self.threads, self.step = frame, vectors, seed, threads, step
        self.centroids, self.assigned = centroids, own.copy()
        self._numbers = np.arange(len(centroids))  # of the lists in the earlier file, −1 for a new centroid
        new = np.flatnonzero(own < 0)
        self._move(new)
        reach("relist.assigned")
        grown = np.bincount(self.assigned[new], minlength=len(centroids)) > 0
        self._divide(np.flatnonzero((self._sizes() > TOO_LONG * ROWS_A_LIST) & grown))
        self._dissolve()

    def changed(self, own: np.ndarray) -> np.ndarray:
        """bool ``(n,)``: the rows whose codes are no longer right: their centroid is another one."""
        return self._numbers[self.assigned] != np.where(own < 0, -2, own)

    def _sizes(self) -> np.ndarray:
        return np.bincount(self.assigned, minlength=len(self.centroids))

    def _move(self, rows: np.ndarray, among: np.ndarray | None = None) -> None:
        """Bring rows (indexes) to the nearest of all lists, or of some."""
        if not len(rows):
            return
        centroids = self.centroids if among is None else self.centroids[among]
        halves = np.einsum("ij,ij->i", centroids, centroids) / 2

        def move(low: int, high: int) -> None:
            found = nearest_of(self.frame.rotated(self.vectors[rows[low:high]]), centroids, halves)
            self.assigned[rows[low:high]] = found if among is None else among[found]

        in_pieces(len(rows), AT_ONCE, self.threads, move, lambda high: self.step("lists", high / len(rows)))

    def _divide(self, long: np.ndarray) -> None:
        """Divide lists, and move rows of these and of the lists near them to new centroids that are nearer."""
        if not len(long):
            return
        before, divided, added = self.centroids, [], [self.centroids.copy()]
        count = len(self.centroids)
        for one in long.tolist():
            rows = np.flatnonzero(self.assigned == one)
            parts = means_of(self.frame.rotated(self.vectors[rows]), max(round(len(rows) / ROWS_A_LIST), 2), self.seed)
            added[0][one] = parts[0]
            added.append(parts[1:])
            divided += [one, *range(count, count + len(parts) - 1)]
            count += len(parts) - 1
            self.step("clusters", 0.0)
        self.centroids = np.concatenate(added)
        self._numbers = np.concatenate([self._numbers, np.full(count - len(before), -1)])
        self._numbers[long] = -1
        fresh = np.array(divided)
        near = np.zeros(count, np.bool_)
        squares = np.einsum("ij,ij->i", before, before)
        for one in long.tolist():
            far = squares - 2 * before @ before[one]
            near[np.argsort(far, kind="stable")[: NEIGHBOURS + 1]] = True
        near[long] = False
        self._move(np.flatnonzero(np.isin(self.assigned, long)))
        rows = np.flatnonzero(near[self.assigned])
        centroids, halves = self.centroids[fresh], np.einsum("ij,ij->i", self.centroids, self.centroids) / 2

        def compare(low: int, high: int) -> None:
            some = rows[low:high]
            rotated, own = self.frame.rotated(self.vectors[some]), self.assigned[some]
            present = halves[own] - np.einsum("ij,ij->i", rotated, self.centroids[own])
            other = halves[fresh] - rotated @ centroids.T
            best = other.argmin(axis=1)
            better = other[np.arange(len(some)), best] < present
            self.assigned[some[better]] = fresh[best[better]]

        in_pieces(len(rows), AT_ONCE, self.threads, compare, lambda high: self.step("lists", high / max(len(rows), 1)))

    def _dissolve(self) -> None:
        """Give the rows of lists that are too short to others, and leave out lists without rows."""
        sizes = self._sizes()
        short = (sizes < TOO_SHORT * min(ROWS_A_LIST, sizes.mean())) & (sizes > 0)
        kept = np.flatnonzero((sizes > 0) & ~short)
        self._move(np.flatnonzero(short[self.assigned]), kept)
        kept = np.flatnonzero(self._sizes() > 0)
        places = np.full(len(self.centroids), -1, np.int32)
        places[kept] = np.arange(len(kept), dtype=np.int32)
        self.assigned, self._numbers = places[self.assigned], self._numbers[kept]
        self.centroids = np.ascontiguousarray(self.centroids[kept])


def _coded(codec: type[RaBitQ], base: ListsSegment, change: Change, stay: np.ndarray, lists: Lists, again: np.ndarray, threads: int, step):
    """The codes of all rows: those of the earlier file, and new ones of the rows of which ``again`` says so. stay: the index of each row
    that stays, as ``change.stay`` has them.
    """
    rows = np.flatnonzero(again)
    new = codec.train(Coding(lists.frame, lists.centroids, lists.assigned[rows]), len(rows))
    if len(rows):
        in_pieces(
            len(rows),
            AT_ONCE,
            threads,
            lambda low, high: new.encode_rows(low, lists.frame.rotated(lists.vectors[rows[low:high]])),
            lambda high: step("codes", high / len(rows)),
        )
    whole = codec.train(Coding(lists.frame, lists.centroids, lists.assigned), len(again))
    codes, factors, lost = codec.held(base.sections, base.meta, base.rows)
    whole.codes[stay], whole.factors[:, stay] = codes[change.stay], factors[:, change.stay]
    whole.codes[rows], whole.factors[:, rows] = new.codes, new.factors
    whole.weigh(lost, len(again) - len(rows))
    if len(rows):
        whole.weigh(new.lost, len(rows))
    return whole
