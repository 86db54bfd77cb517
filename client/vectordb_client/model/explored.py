"""The results of operations on a vector field: neighbours, duplicates, health, clusters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from .explored_text import health_text
from .values import Id

Columns = dict[str, Any]  # name → an array whose first axis is that of rows, or a list of ids


@dataclass(frozen=True, eq=False)
class Explored:
    """A result. In a message it is a JSON object, and columns of one row for each of something."""

    forms: ClassVar[Mapping[str, str]] = {}  # column → "ids" or a dtype
    names: ClassVar[tuple[str, ...]] = ()  # attributes that travel as JSON

    def parts(self) -> tuple[dict[str, Any], Columns]:
        """(the JSON object, the columns)."""
        return {name: getattr(self, name) for name in self.names}, {name: getattr(self, name) for name in self.forms}

    @classmethod
    def joined(cls, facts: dict[str, Any], columns: Columns) -> Self:
        """The result of its parts."""
        return cls(**{name: facts[name] for name in cls.names}, **columns)


@dataclass(frozen=True, eq=False)
class Neighbours(Explored):
    """The nearest other points of each point. Iteration yields ``(id, [(id of a neighbour, score), …])``, nearest first.

    Attributes:
        ids: the points, n ids, in the order in which they were written.
        index: int32 ``(n, k)``, the neighbours as positions in ``ids``; −1 where there are fewer than k other points.
        scores: float32 ``(n, k)``, the scores of the neighbours as a search gives them; NaN where there is none.
    """

    ids: Sequence[Id]
    index: np.ndarray
    scores: np.ndarray
    forms = {"ids": "ids", "index": "int32", "scores": "float32"}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[Id, list[tuple[Id, float]]]]:
        for row, id in enumerate(self.ids):
            yield id, self.at(row)

    def at(self, row: int) -> list[tuple[Id, float]]:
        """The neighbours of the point at a position in ``ids``: (id, score), nearest first."""
        found = zip(self.index[row].tolist(), self.scores[row].tolist(), strict=True)
        return [(self.ids[other], score) for other, score in found if other >= 0]

    def __repr__(self) -> str:
        return f"Neighbours of {len(self.ids):,} points, {self.index.shape[1]} each"


@dataclass(frozen=True, eq=False)
class Duplicates(Explored):
    """Pairs of points that are alike. Iteration yields ``(id, id, score)``, the most alike first; of a pair the older point comes first.

    Attributes:
        first: the older points of the pairs.
        second: the newer ones.
        scores: float32 ``(pairs,)``.
        more: whether there are more pairs than ``limit``.
        points: the number of points that were compared.
    """

    first: Sequence[Id]
    second: Sequence[Id]
    scores: np.ndarray
    more: bool
    points: int
    forms = {"first": "ids", "second": "ids", "scores": "float32"}
    names = ("more", "points")

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[Id, Id, float]]:
        yield from zip(self.first, self.second, self.scores.tolist(), strict=True)

    def groups(self) -> list[list[Id]]:
        """The points of pairs that hang together, directly or through others. Larger groups come first; in a group the order of pairs."""
        leader: dict[Id, Id] = {id: id for pair in zip(self.first, self.second, strict=True) for id in pair}

        def lead(id: Id) -> Id:
            while leader[id] != id:
                leader[id] = leader[leader[id]]
                id = leader[id]
            return id

        for one, other in zip(self.first, self.second, strict=True):
            leader[lead(other)] = lead(one)
        groups: dict[Id, list[Id]] = {}
        for id in leader:
            groups.setdefault(lead(id), []).append(id)
        return sorted(groups.values(), key=len, reverse=True)

    def redundant(self) -> list[Id]:
        """The points that have an older point that is like them, directly: what to delete to keep one of each."""
        return list(dict.fromkeys(self.second))

    def __repr__(self) -> str:
        return f"{len(self.first):,}{' and more' if self.more else ''} pairs of duplicates among {self.points:,} points"


@dataclass(frozen=True, eq=False)
class Health(Explored):
    """What the vectors of a field are like. ``print`` shows it as a short text, with what to do. All of it describes the sample.

    Attributes:
        points: the points that have the field and match the filter. sample: those of them that were looked at.
        dim, metric: of the field.
        rank: the number of directions in which vectors vary by more than noise does.
        effective_rank: e to the power of the entropy of the shares of variance: ``dim`` if all directions vary alike.
        dims_for: share of the variance → the number of principal components that have it, for "0.9", "0.95" and "0.99".
        dead: the dimensions that are the same in all vectors.
        norms: "min", "mean", "max" and "deviation" of the lengths, and "zero", the number of vectors of length 0.
        duplicates: the number of vectors that equal an earlier one in the sample, bit for bit.
        hubness: the skewness of how often a point is among the k nearest of others: near 0 for even data, above 3 where few points are
            among the neighbours of very many.
        hub_k: that k. hub_sample: the points that were compared with one another for it.
        hub_counts: int64, how often the points ``hubs`` are among them.
        hubs: the ids of the ten points that are most often among the neighbours of others.
        lonely: the share of points that are among nobody's k nearest.
        outliers: ids of points that are unusually far from their nearest neighbours, the farthest first; at most 100.
        outlier_count: the number of them.
        advice: sentences that say what is unusual, and what to do about it.
    """

    points: int
    sample: int
    dim: int
    metric: str
    rank: int
    effective_rank: float
    dims_for: dict[str, int]
    dead: list[int]
    norms: dict[str, float]
    duplicates: int
    hubness: float
    hub_k: int
    hub_sample: int
    hub_counts: np.ndarray
    hubs: Sequence[Id]
    lonely: float
    outliers: Sequence[Id]
    outlier_count: int
    advice: list[str]
    forms = {"hubs": "ids", "hub_counts": "int64", "outliers": "ids"}
    names = (
        "points", "sample", "dim", "metric", "rank", "effective_rank", "dims_for", "dead", "norms", "duplicates",
        "hubness", "hub_k", "hub_sample", "lonely", "outlier_count", "advice",
    )  # fmt: skip

    def __str__(self) -> str:
        return health_text(self)


@dataclass(frozen=True, eq=False)
class Clusters(Explored):
    """The points of a field in groups. Clusters are numbered by falling size.

    Attributes:
        k: the number of clusters.
        ids: n ids, in the order in which they were written.
        labels: int32 ``(n,)``, the cluster of each.
        sizes: int64 ``(k,)``.
        explained: the share of the variance that lies between the clusters, 0 to 1.
        central: for each cluster the ids of its most central points, the nearest to its centre first.
        sample: the number of points that the centres were made of.
        centres: float32 ``(k, dim)`` with ``with_centres=True``, else None. For a cosine they have length 1.
    """

    k: int
    ids: Sequence[Id]
    labels: np.ndarray
    sizes: np.ndarray
    explained: float
    central: list[list[Id]]
    sample: int
    centres: np.ndarray | None = None
    forms = {"ids": "ids", "labels": "int32"}
    names = ("k", "explained", "sample")

    def members(self, cluster: int) -> list[Id]:
        """The ids of a cluster."""
        return [self.ids[row] for row in np.flatnonzero(self.labels == cluster).tolist()]

    def parts(self) -> tuple[dict[str, Any], Columns]:
        facts, columns = super().parts()
        columns |= {"sizes": self.sizes, "central": [id for some in self.central for id in some]}
        if self.centres is not None:
            columns["centres"] = self.centres
        return {**facts, "central_sizes": [len(some) for some in self.central]}, columns

    @classmethod
    def joined(cls, facts: dict[str, Any], columns: Columns) -> Self:
        ends = np.cumsum([0, *facts.pop("central_sizes")]).tolist()
        central = [list(columns["central"][low:high]) for low, high in pairwise(ends)]
        named: dict[str, Any] = {**facts, **columns, "central": central}
        return cls(**named)

    def __repr__(self) -> str:
        shown = ", ".join(f"{size:,}" for size in self.sizes[:10].tolist()) + (", …" if self.k > 10 else "")
        return f"{self.k} clusters of {len(self.ids):,} points: {shown}; {self.explained:.0%} of the variance lies between them"
