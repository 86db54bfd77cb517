"""Concepts found by a sparse autoencoder (Cunningham et al. 2023; with signs: AbsTopK): codes, families, labels, what a later fit keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..common import deadline
from .base import Parts
from .pieces import multiplied
from .sparse import CSRMethod, activations, trained, units

ALIKE = 0.7  # cosine of two directions from which they are taken for one concept
TOP_ROWS = 20  # of the sample that have most of a concept, from which its label is made
LEAST_ROWS = 3  # of these that have a word of a label
LABEL_WORDS = 3
LABEL_CHARACTERS = 40  # of a word of a label, at most
_BLOCK = 512  # directions compared at a time


class SAEMethod(CSRMethod):
    name = "sae"

    def _codes(self, given: Any, spec: Any, parts: Parts, rows: np.ndarray) -> Iterator[np.ndarray]:
        return (codes for _, codes in activations(parts, rows, given.k, given.signed))

    def fit(self, given: Any, spec: Any, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        made = trained(units(rows), given.width(rows.shape[1]), given.k, given.seed, given.signed)
        parts = {"encoder": made.encoder, "bias": made.bias, "decoder": made.decoder, "centre": made.centre}
        codes = self.derive(given, spec, parts, rows)
        used = np.bincount(codes.terms.astype(np.int64), minlength=len(made.bias))
        parts["frequency"] = (used / max(len(rows), 1)).astype(np.float32)
        return parts, {"explained": round(1.0 - made.lost, 4), "dead": round(float((used == 0).mean()), 4)}

    def residual(self, given: Any, parts: Parts, rows: np.ndarray) -> float:
        """The share of the squared length of vectors, each scaled to length 1, that their codes don't explain."""
        lost, n = 0.0, 0
        whole = units(rows)
        for _, codes in activations(parts, whole, given.k, given.signed):
            unit = whole[n : n + len(codes)]
            lost += float(np.square(unit - multiplied(codes, parts["decoder"]) - parts["centre"], dtype=np.float64).sum())
            n += len(codes)
        return lost / max(n, 1)


def moved(given: Any, parts: Parts, query: np.ndarray, targets: Mapping[int, float]) -> tuple[np.ndarray, dict[int, float]]:
    """(a query whose activations of some latents were brought to targets, of the same length; these activations before).

    With u, the query scaled to length 1, it is u + Σ (t − z) d, scaled to the query's length, where z is the activation of a latent and d
    its row of the decoder, which has length 1. query: float32 ``(dim,)``, not all zeros. All zeros are returned where nothing is left.
    """
    wide = np.asarray(query, np.float64)
    size = float(np.linalg.norm(wide))
    ((_, (codes,)),) = activations(parts, np.ascontiguousarray(wide[None], np.float32), given.k, given.signed)
    before = {latent: float(codes[latent]) for latent in targets}
    whole = wide / size
    for latent, target in sorted(targets.items()):
        whole = whole + (target - before[latent]) * parts["decoder"][latent].astype(np.float64)
    length = float(np.linalg.norm(whole))
    return (whole * (size / length) if length > 1e-6 else np.zeros_like(whole)).astype(np.float32), before


def families(decoder: np.ndarray) -> list[list[int]]:
    """Groups of latents that are connected by cosines of at least ``ALIKE``, in either direction; those of one latent are left out."""
    root = list(range(len(decoder)))

    def top(latent: int) -> int:
        while root[latent] != latent:
            root[latent] = root[root[latent]]
            latent = root[latent]
        return latent

    for low in deadline.each(range(0, len(decoder), _BLOCK), 1):
        near = np.abs(multiplied(decoder[low : low + _BLOCK], np.ascontiguousarray(decoder.T))) >= ALIKE
        for one, other in zip(*np.nonzero(near), strict=True):
            a, b = top(low + int(one)), top(int(other))
            root[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for latent in range(len(decoder)):
        groups.setdefault(top(latent), []).append(latent)
    return [group for group in groups.values() if len(group) > 1]


class Match(NamedTuple):
    """An earlier latent, and the new one whose direction is nearest to its own. cosine: of both, below 0 where they are opposite."""

    old: int
    new: int
    cosine: float


def matched(old: np.ndarray, new: np.ndarray, latents: Sequence[int], opposite: bool) -> list[Match]:
    """Pair latents of an earlier fit with those of a new one by the cosine of their directions, the nearest first, down to ``ALIKE``.

    old, new: decoders, float32 ``(hidden, dim)``. latents: of the old one. opposite: a direction may also be turned around.
    """
    if not latents:
        return []
    cosines = multiplied(np.ascontiguousarray(old[list(latents)]), np.ascontiguousarray(new.T))
    sizes = np.abs(cosines) if opposite else cosines
    rows, columns = np.nonzero(sizes >= ALIKE)
    pairs, taken_old, taken_new = [], set(), set()
    for i in np.lexsort((columns, rows, -sizes[rows, columns])).tolist():
        one, other = int(latents[int(rows[i])]), int(columns[i])
        if one not in taken_old and other not in taken_new:
            taken_old.add(one)
            taken_new.add(other)
            pairs.append(Match(one, other, float(cosines[rows[i], columns[i]])))
    return pairs


def renumbered(parts: Mapping[str, np.ndarray], matches: Sequence[Match]) -> dict[str, np.ndarray]:
    """What was learned, with each new latent of a match at the number of the old one, and turned around where it is opposite.

    The codes are the same but for the numbers and signs of these latents.
    """
    hidden = len(parts["bias"])
    place = {match.old: match.new for match in matches}
    moving = set(place.values())
    rest = [latent for latent in range(hidden) if latent not in moving]
    kept = {latent for latent in rest if latent not in place}
    others = iter([latent for latent in rest if latent not in kept])
    order = np.array([place[number] if number in place else number if number in kept else next(others) for number in range(hidden)])
    signs = np.ones(hidden, np.float32)
    for match in matches:
        signs[match.old] = -1.0 if match.cosine < 0 else 1.0
    return {
        **parts,
        "encoder": np.ascontiguousarray(parts["encoder"][:, order] * signs),
        "bias": parts["bias"][order] * signs,
        "decoder": np.ascontiguousarray(parts["decoder"][order] * signs[:, None]),
        "frequency": parts["frequency"][order],
    }


def labels(codes: Any, hidden: int, words: Sequence[frozenset[str]]) -> list[str]:
    """A label for each latent: the words that are most frequent in the rows that have most of it, relative to all. "" where there are none.

    codes: a SparseColumn. words: of each of its first rows. The rank of a word is p · ln(p / q), where p is the share of the top rows that
    have it, and q that of all rows. Of a latent with two sides, the label has those of the positive one first.
    """
    n = len(words)
    everywhere = Counter(word for row in words for word in row)
    ends = int(codes.indptr[n])
    owners = np.repeat(np.arange(n), np.diff(codes.indptr[: n + 1]))
    terms, weights = codes.terms[:ends].astype(np.int64), codes.weights[:ends]
    order = np.lexsort((owners, -weights, terms))
    starts = np.searchsorted(terms[order], np.arange(hidden + 1))
    found = []
    for latent in deadline.each(range(hidden)):
        own = order[starts[latent] : starts[latent + 1]]
        high = [int(owners[i]) for i in own[:TOP_ROWS] if weights[i] > 0]
        low = [int(owners[i]) for i in own[::-1][:TOP_ROWS] if weights[i] < 0]
        label, against = (", ".join(_common(rows, words, everywhere, n)) for rows in (high, low))
        found.append(f"{label} (negative: {against})".lstrip() if against else label)
    return found


def _common(rows: Sequence[int], words: Sequence[frozenset[str]], everywhere: Mapping[str, int], n: int) -> list[str]:
    """The words that are most frequent in some rows, relative to all."""
    counts = Counter(word for row in rows for word in words[row])
    scored = []
    for word, count in counts.items():
        share, usual = count / len(rows), everywhere[word] / n
        if count >= LEAST_ROWS and share > 2 * usual:
            scored.append((-share * np.log(share / usual), word))
    return [word for _, word in sorted(scored)[:LABEL_WORDS]]
