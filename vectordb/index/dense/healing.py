"""Make the file of a dense segment from an earlier one that covers most of its rows: a merge, or a file without its dead rows.

What the earlier file has learned is kept: the quantisation, the clusters, the codes of its rows, its graph and its calibration. The graph
is mended around rows that are gone (``kernels.mending``), new rows are linked by searches, as in a build. So the work follows the number of
rows that changed. Where it would be worse, the file is built anew instead (``index/renewal.py``).

Some rows serve as queries that check the calibration, as in a build: they are in the graph only after the check.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from vectordb_client.errors import CorruptionError

from ...common import background
from ...common.failpoints import reach
from ...kernels import linking as linking_kernel
from ...kernels import planner
from ...kernels.codes import ZERO
from ...kernels.mending import mend
from .. import renewal
from ..base import Progress, RowSource, inverse_of, stepper
from ..file import write
from ..renewal import Change, Unfit
from ..scratch import aligned, aligned_copy
from . import build, calibrate
from .codecs import ByteCodes, SignBits
from .frame import Frame, usable
from .linking import REFINEMENTS, Layout, Linker
from .model import NEVER
from .pieces import copied, in_pieces
from .principal import PrincipalCodes
from .segment import DenseSegment

STEPS = ("heal.encoded", "heal.mended", "heal.inserted", "heal.checked", "heal.linked")  # failpoints, see ``common/failpoints.py``
# Constants: unit and meaning, then the source in brackets. [churn]: merges, each of which replaced a tenth of 45,000 of Debian's package
# texts, December 2026: recall at fixed settings, and rows scored. [chosen]: chosen, not measured.
COARSER = 1.25  # times the mean error of the earlier file's codes that the added rows' codes may have [chosen]
LONGER = 3.0  # times the longest cluster, or the mean if that is more, that a cluster may have [chosen]
NEIGHBOURS = 1  # links in place of one that is lost: with more, searches score more rows and find hardly more [churn]
STARVED = 4  # links; a row that keeps fewer is linked like a new one [chosen]


def check_fit(base: DenseSegment, change: Change, options: build.Options) -> None:
    """Raise Unfit if a file can't be made from an earlier one, by its header and the number of rows that change."""
    meta, known = base.meta, {ByteCodes.name, SignBits.name, PrincipalCodes.name}
    if not base.renewable or meta["options"] != options.kept() or not {*meta["codecs"]} <= known or {*build.CODECS} != known:
        raise Unfit("the earlier file is of another form")
    if not np.array_equal(base.sections["settings"], calibrate.Settings.now().table):
        raise Unfit("the earlier file is calibrated for other plans")
    change.check(base, build.GRAPH_ROWS)


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
    path: Path, vectors: np.ndarray, docids: np.ndarray, base: DenseSegment, options: build.Options, threads: int, step: Progress
) -> str:
    """Write the file of rows ``docids`` (uint32, ascending; ``vectors``: float32 ``(n, dim)``) from an earlier one. Returns what was done,
    as text. Raises Unfit, Cancelled, OSError, and CorruptionError if the earlier file is damaged.
    """
    change = Change.of(base, docids)
    check_fit(base, change, options)
    base.verify()  # what is damaged in it must not get a right checksum in another file
    return _Healing(vectors, docids, base, change, options, threads, step).run(path)


class _Healing:
    """A file that is made from an earlier one, ``base``.

    Rows of ``base`` have its numbers. Others are those of the new file, in cluster order: ``place`` has the new number of each row that
    stays, then of each that is added. ``inside``: the index of each row's vector, int64.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        docids: np.ndarray,
        base: DenseSegment,
        change: Change,
        options: build.Options,
        threads: int,
        step: Progress,
    ):
        self.vectors, self.docids, self.base, self.change = vectors, docids, base, change
        self.options, self.threads, self.step = options, threads, step
        self.rng = np.random.default_rng(options.seed)

    def run(self, path: Path) -> str:
        base, change, step = self.base, self.change, self.step
        sections, meta = self._encoded()
        reach("heal.encoded")
        n, stay = meta["rows"], len(change.stay)
        held = self._held(n)
        medoids = sections["medoids"] = self._medoids(sections, held)
        (codes, width), lifts = build.linked_by(sections, meta), np.zeros(0, np.float32)
        if base.metric == "dot":
            lifts = (build.lifts_of(self.vectors[self.inside]) / width).astype(np.float32)
        step("graph", 0.0)
        unlinked = np.zeros(n, np.bool_)
        unlinked[held] = True
        mended = self._mended(lifts, unlinked, n)
        reach("heal.mended")
        linker = self._linker(Layout(codes, sections["offsets"], medoids, self.centroids, lifts), mended)
        new = np.sort(self.place[stay:])
        starved = np.sort(self.place[:stay])
        starved = starved[((mended[starved] >= 0).sum(axis=1) < STARVED) & ~unlinked[starved]]
        if len(starved):
            linker.link_anew(starved)
        linker.insert(self.rng.permutation(new[~unlinked[new]]), n - len(new))
        reach("heal.inserted")
        step("calibration", 0.0)
        model, entries, said = self._model(meta, sections | linker.sections(), linker.entries(), held)
        reach("heal.checked")
        linker.step = lambda stage, share: step("calibration", 1.0)  # few rows: not worth telling
        linker.insert(held, n - len(held))
        linker.adopt()
        reach("heal.linked")
        write(path, meta | entries | linker.entries(), sections | linker.sections() | model)
        return said

    # Rows

    def _encoded(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(sections, header) of the new file, but for what depends on the graph. Raises Unfit if the added rows differ from the others."""
        base, change, old, step = self.base, self.change, self.base.sections, self.step
        frame = _frame_of(base)
        self.centroids = (old["centroids"][:, : base.dim].astype(np.float32)) - np.float32(ZERO)
        added = np.ascontiguousarray(self.vectors[change.new])
        good = usable(added, base.metric == "cosine")
        _check_constants(frame, added[good])
        safe = np.where(good[:, None], added, 0) if not good.all() else added
        byte = ByteCodes.train(frame, len(added))
        codecs: list[Any] = [byte]
        if PrincipalCodes.name in base.meta["codecs"]:
            steps = base.meta["axis_step"], base.meta["principal_step"]
            codecs.append(PrincipalCodes(frame, old["axes"], *steps, len(added)))
        assigned, _ = build.code_all(frame, safe.astype(np.float32), self.centroids, codecs, self.threads, step)
        good &= byte.lengths <= frame.limit
        change.check_apart(base, good)
        if good.any() and float(byte.residual_norms[good].mean()) > COARSER * float(base.sections["lacking"].mean()):
            raise Unfit("the codes of the earlier file don't fit the added rows")
        self.usual = change.check_strays(base, *_distances(base, change, self.centroids, byte.codes[good], assigned[good]))
        self.new = change.new[good]  # indexes of vectors
        cluster = np.repeat(np.arange(base.clusters), np.diff(base.offsets))
        cluster = np.concatenate([cluster[change.stay], assigned[good]])
        sizes = np.bincount(cluster, minlength=base.clusters)
        if sizes.max() > LONGER * max(np.diff(base.offsets).max(), sizes.mean()):
            raise Unfit("most of the added rows are near one another")
        docids = np.concatenate([base.docids[change.stay], self.docids[self.new]]).astype(np.uint32)
        order = np.lexsort((docids, cluster))
        self.place = np.empty(len(order), np.int32)
        self.place[order] = np.arange(len(order), dtype=np.int32)
        docids = docids[order]
        self.inside = np.searchsorted(self.docids, docids)
        step("codes", 1.0)

        def joined(name: str, more: np.ndarray) -> np.ndarray:
            return np.concatenate([old[name][change.stay], more])[order]

        same = ("mean", "flips", "centroids", "centroid_bias", "principal_centroids", "axes")
        sections = {name: old[name] for name in same if name in old} | {
            "docids": docids,
            "inverse": inverse_of(docids),
            "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
            **{name: aligned_copy(joined(name, codec.codes[good])) for name, codec in zip(("codes", "principal"), codecs, strict=False)},
            "lacking": joined("lacking", byte.residual_norms[good]),
        }
        if base.metric == "l2":
            sections["bias"] = joined("bias", -np.square(byte.lengths[good]).astype(np.float32))
        sections |= SignBits.train(frame, len(order)).arranged(order, sections)[0]
        longest = max(base.meta["longest"], float(byte.lengths[good].max(initial=0.0)))
        same = ("dim", "metric", "codecs", "options", "step", "code_error", "reach", "limit", "axis_step", "principal_step")
        meta = {name: base.meta[name] for name in same if name in base.meta} | {
            "rows": len(order),
            "first": int(docids.min()),
            "longest": longest,
        }
        apart = np.concatenate([change.apart, self.docids[change.new[~good]]])
        if len(apart):
            sections["apart"] = np.sort(apart).astype(np.uint32)
            lengths = np.sqrt(np.einsum("ij,ij->i", added[~good], added[~good], dtype=np.float64))
            meta["apart_longest"] = max(base.meta.get("apart_longest", 0.0), float(lengths.max(initial=0.0)))
        return sections, meta

    def _held(self, rows: int) -> np.ndarray:
        """The rows that serve as queries of the check, int32 ascending: no medoids, and none alike."""
        free = np.ones(rows, np.bool_)
        numbers = np.full(self.base.rows + 1, -1, np.int64)
        numbers[self.change.stay] = self.place[: len(self.change.stay)]
        medoids = numbers[self.base.sections["medoids"]]
        free[medoids[medoids >= 0]] = False
        count = min(calibrate.QUERIES, rows // build.UNSEEN)
        vectors = build.different(self.vectors, self.inside[np.flatnonzero(free)], count, self.rng)
        where = np.full(len(self.vectors), -1, np.int32)
        where[self.inside] = np.arange(rows, dtype=np.int32)
        return np.sort(where[vectors])

    def _medoids(self, sections: dict[str, np.ndarray], held: np.ndarray) -> np.ndarray:
        """The medoid of each cluster, int32, −1 for none: that of the earlier file if it stays, else the nearest row, by codes, to the
        centroid.
        """
        base, stay, offsets, codes = self.base, self.change.stay, sections["offsets"], sections["codes"]
        numbers = np.full(base.rows + 1, -1, np.int32)
        numbers[stay] = self.place[: len(stay)]
        medoids = numbers[base.sections["medoids"]]
        free = np.ones(len(codes), np.bool_)
        free[held] = False
        for cluster in np.flatnonzero(medoids < 0):
            rows = np.arange(offsets[cluster], offsets[cluster + 1])
            rows = rows[free[rows]]
            if len(rows):
                away = codes[rows, : base.dim].astype(np.float32) - np.float32(ZERO) - self.centroids[cluster]
                medoids[cluster] = rows[np.argmin(np.einsum("ij,ij->i", away, away))]
        return medoids

    # The graph

    def _mended(self, lifts: np.ndarray, unlinked: np.ndarray, rows: int) -> np.ndarray:
        """The graph of the earlier file without the rows that are gone and those that serve as queries, int32 ``(rows, width)``, in the new
        numbers.
        """
        base, stay, step = self.base, self.change.stay, self.step
        codes, places = build.linked_by(base.sections, base.meta)[0], self.place[: len(self.change.stay)]
        alive = stay[~unlinked[places]]
        gone = np.ones(base.rows + 1, np.uint8)  # the last element is that of −1, "no link"
        gone[alive] = gone[-1] = 0
        squares, totals = np.empty(base.rows, np.int32), np.empty(base.rows, np.int32)
        linking_kernel.code_norms(codes, squares, totals)
        lifted = np.zeros(base.rows if len(lifts) else 0, np.float32)
        if len(lifts):
            lifted[stay] = lifts[places]
        graph = aligned_copy(base.sections["graph"])
        torn = alive[gone[graph[alive]].any(axis=1)].astype(np.int32)
        alpha = _refinement(base)[1]
        given = codes, squares, totals, lifted, graph, gone, torn
        in_pieces(
            len(torn), 1_024, self.threads, lambda low, high: mend(*given, low, high, NEIGHBOURS, alpha), lambda high: step("graph", 0.0)
        )
        numbers = np.full(base.rows + 1, -1, np.int32)
        numbers[alive] = self.place[: len(stay)][~unlinked[places]]
        mended = aligned((rows, graph.shape[1]), np.int32)
        mended[...] = -1
        mended[numbers[alive]] = numbers[graph[alive]]
        return mended

    def _linker(self, layout: Layout, graph: np.ndarray) -> Linker:
        """A linker that goes on with a graph as the earlier build linked its last rows. The links among medoids are made anew."""
        linker = Linker(layout, *self.options.sizes(), self.threads, self.step)
        among = np.flatnonzero(layout.medoids >= 0)
        rows = np.sort(layout.medoids[among])
        few = np.arange(len(rows), dtype=np.int32)
        lifts = layout.lifts[rows] if len(layout.lifts) else layout.lifts
        # The upper layer is a graph of its own: each medoid is the only row of its cluster.
        codes = aligned_copy(layout.codes[rows])
        alone = Layout(codes, np.arange(len(rows) + 1, dtype=np.int32), few, self.centroids[: len(rows)], lifts)
        upper = Linker(alone, *self.options.sizes(), self.threads, self.step)
        upper.link_medoids()
        linker.resume(graph, _refinement(self.base)[0], np.where(upper.graph >= 0, rows[upper.graph], -1))
        return linker

    # The calibration

    def _model(self, meta: dict, sections: dict, graph: dict, held: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
        """(the sections of the calibration, entries of the header, what was done). Raises Unfit if searches find much less than in the
        graph that was built.
        """
        base, inside, vectors, docids = self.base, self.inside, self.vectors, self.docids
        if len(inside) < len(vectors):  # the others are outliers
            which = np.sort(inside)
            inside, vectors, docids = np.searchsorted(which, inside), vectors[which], docids[which]
        given = DenseSegment(meta | graph, sections), vectors, docids, inside, np.sort(inside[held]), self.options.seed
        predicted = _unfiltered(base)
        settings = renewal.to_check(base, predicted, _of_graph(base))
        found, errors = calibrate.unfiltered_recalls(*given, settings)
        check = renewal.checked(base, self.change, meta["rows"], settings, predicted, found, renewal.SURE * errors)
        model = {name: base.sections[name] for name in CALIBRATION if name in base.sections}
        cold = base.meta.get("cold", 1.0)
        if check.again:
            model, cold = calibrate.calibrate(*given, self.threads, lambda share: self.step("calibration", share))
        return model, {"cold": cold, "healed": check.healed | {"usual": self.usual}}, check.said


CALIBRATION = ("settings", "levels", "locals", "recalls", "lows", "costs", "distance_points", "alike", "far_recalls", "far_costs")


def _frame_of(base: DenseSegment) -> Frame:
    """The quantisation that a file was written with; without its sample."""
    meta, sections = base.meta, base.sections
    nothing = np.empty((0, base.dim), np.float32)
    known = meta["code_error"], meta["reach"], meta["limit"]
    mean, flips = sections["mean"].copy(), sections["flips"].copy()
    return Frame(base.metric, mean, flips, np.float32(meta["step"]), *known, nothing, np.empty(0, np.int64))


def _distances(
    base: DenseSegment, change: Change, centroids: np.ndarray, codes: np.ndarray, assigned: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The distances from their centroids, by codes, in steps: of some rows that stay, and of the added ones. codes, assigned: of these."""
    some = change.stay[:: len(change.stay) // renewal.COMPARED + 1]
    own = np.searchsorted(base.sections["offsets"], some, "right") - 1

    def apart(codes: np.ndarray, rows: np.ndarray, own: np.ndarray) -> np.ndarray:
        found = np.empty(len(rows))
        for low in range(0, len(rows), build.ENCODED):
            part = slice(low, low + build.ENCODED)
            away = codes[rows[part], : base.dim].astype(np.float32) - np.float32(ZERO) - centroids[own[part]]
            found[part] = np.sqrt(np.einsum("ij,ij->i", away, away))
        return found

    return apart(base.sections["codes"], some, own), apart(codes, np.arange(len(codes)), assigned)


def _check_constants(frame: Frame, added: np.ndarray) -> None:
    """Raise Unfit if added vectors differ in a dimension in which all were equal before: the codes leave it out."""
    constant = frame.flips[0] == 0
    if constant.any() and (added[:, constant] != frame.mean[constant]).any():
        raise Unfit("the added rows differ in a dimension in which all others are equal")


def _refinement(base: DenseSegment) -> tuple[Any, np.float32]:
    """(how the rows of a file were linked anew, None if they weren't; alpha of its links)."""
    name = base.meta.get("linking", {}).get("refined")
    how = next((each for each in REFINEMENTS if each.name == name), None)
    return how, np.float32(1.0 if how is None else how.alpha)


def _unfiltered(base: DenseSegment) -> np.ndarray:
    """The recall of each setting without a filter, as a file's calibration has it, float32 ``(settings,)``."""
    recalls = base.sections["recalls"][0]
    return recalls[calibrate.CORRELATIONS.index(0.0)]


def _of_graph(base: DenseSegment) -> np.ndarray:
    """Indexes of the settings of a file that search the graph without a filter, and were measured."""
    measured = base.sections["costs"][0][calibrate.CORRELATIONS.index(0.0)] < NEVER
    return np.flatnonzero(measured & (base.sections["settings"][:, 0] == planner.ADAPTIVE_BEAM))
