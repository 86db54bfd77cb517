"""What files of all kinds have in common that are made from earlier ones: which rows change, and when a file is built anew instead.

A file that is made so keeps what the earlier one has learned, so the work follows the number of rows that changed. Some rows serve as
queries of a check: where searches find less than the calibration says, it is measured again; where they find much less than after the last
build, the file is built anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .base import IndexKind

# Constants: unit and meaning. Chosen, not measured.
ADDED_MOST = 0.5  # rows that are added, relative to those that stay: with more a build costs little more
KEPT_LEAST = 0.5  # share of the earlier file's rows that stay, at least
APART_MOST = 0.01  # share of the added rows that are outliers, at most, or twice that of the earlier file
CHECKED = (0.85, 0.95, 0.98)  # recalls: the settings are checked that are predicted to reach them with the least effort
TOLERANCE = 0.005  # recall less than predicted, beyond doubt, from which the calibration is measured again
WORSE = 0.02  # recall less than after the last build, beyond doubt, from which the file is built anew
SURE = 2.0  # standard errors that count as doubt
CALIBRATED = 1.25  # times as many rows as were calibrated, or as few: then the calibration is measured again
USUAL = 0.99  # quantile of the rows' distances from their centroids after a build; a row farther away is a stray
STRAYS_MOST = 0.04  # share of strays, from which the file is built anew: its clusters are those of other rows
COMPARED = 16_384  # rows of the earlier file whose distances are looked at, at most
TURNOVER = 1.0  # rows changed since the calibration, relative to all: likewise


class Unfit(Exception):
    """The file has to be built anew. The text says why, after "because"."""


@dataclass(frozen=True)
class Change:
    """What becomes of the rows of an earlier file. stay: its rows that are in the new file, int64 ascending. new: indexes of the vectors
    that are not in the earlier file, int64 ascending. apart: docids of outliers that stay, uint32. gone: how many rows do not stay.
    """

    stay: np.ndarray
    new: np.ndarray
    apart: np.ndarray
    gone: int

    @classmethod
    def of(cls, base: IndexKind, docids: np.ndarray) -> Change:
        """docids: of the new file, uint32 ascending."""
        known = np.isin(docids, base.docids) | np.isin(docids, base.apart)
        stay, apart = np.flatnonzero(np.isin(base.docids, docids)), base.apart[np.isin(base.apart, docids)]
        return cls(stay, np.flatnonzero(~known), apart, base.covered - len(stay) - len(apart))

    def check(self, base: IndexKind, least: int) -> None:
        """Raise Unfit if too many rows change, or fewer than ``least`` stay."""
        stay = len(self.stay)
        if stay < max(least, KEPT_LEAST * base.rows):
            raise Unfit(f"only {stay:,} of its {base.rows:,} rows stay")
        if len(self.new) > ADDED_MOST * stay:
            raise Unfit(f"{len(self.new):,} rows are added to {stay:,}")

    def check_apart(self, base: IndexKind, good: np.ndarray) -> None:
        """Raise Unfit if too many of the added rows are outliers. good: bool, those that aren't."""
        bad = int((~good).sum())
        if bad > max(APART_MOST * len(good), 2 * len(good) * len(base.apart) / base.covered, 1):
            raise Unfit(f"{bad:,} of {len(good):,} added rows are outliers")

    def check_strays(self, base: IndexKind, kept: np.ndarray, added: np.ndarray) -> float:
        """Raise Unfit if too many rows are far from all centroids, which no check of searches sees: its queries are like most rows. kept,
        added: float ``(n,)``, the distances of some rows of the earlier file, and of the added ones. Returns the usual distance.
        """
        usual = float(base.healed.get("usual", np.quantile(kept, USUAL)))
        strays = float((kept > usual).mean()) * len(self.stay) + int((added > usual).sum())
        share = strays / max(len(self.stay) + len(added), 1)
        if share > STRAYS_MOST:
            raise Unfit(f"{share:.1%} of the rows are far from all clusters")
        return usual

    def told(self) -> str:
        """What was done, as text."""
        return f"healed: {len(self.new):,} rows added, {self.gone:,} removed"


class Checked(NamedTuple):
    """again: whether the calibration has to be measured again. healed: the entry of the header, see ``entry_of``. said: what was done."""

    again: bool
    healed: dict[str, Any]
    said: str


def built_recalls(base: IndexKind, predicted: np.ndarray) -> np.ndarray:
    """The recall of each setting without a filter after the last build, float32. predicted: by the calibration of the earlier file."""
    return np.array(base.healed.get("recalls", predicted), np.float32)


def to_check(base: IndexKind, predicted: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Indexes of the settings to check, int64 ascending. predicted: as for ``checked``. among: those of one plan, by rising effort."""
    least = np.minimum(predicted, built_recalls(base, predicted))[among]
    return np.unique(np.concatenate([among[np.flatnonzero(least >= recall)[:1]] for recall in CHECKED]))


def checked(
    base: IndexKind, change: Change, rows: int, settings: np.ndarray, predicted: np.ndarray, found: np.ndarray, doubt: np.ndarray
) -> Checked:
    """What the check of a file of ``rows`` rows says. settings: indexes of those that were checked. predicted: the recall of every setting
    by the calibration of the earlier file. found, doubt: the mean recall of each checked one, and how much higher it may really be. Raises
    Unfit if it is much lower than after the last build.
    """
    built, earlier = built_recalls(base, predicted), base.healed
    lost = float((built[settings] - found - doubt).max(initial=0.0))
    if lost > WORSE:
        raise Unfit(f"searches of the healed file find {lost:.3f} less")
    less = float((predicted[settings] - found - doubt).max(initial=-1.0))
    changed, calibrated = earlier.get("changed", 0) + len(change.new) + change.gone, earlier.get("calibrated", base.rows)
    again = less > TOLERANCE or changed > TURNOVER * rows or not calibrated / CALIBRATED <= rows <= calibrated * CALIBRATED
    healed = {
        "times": earlier.get("times", 0) + 1,
        "built": earlier.get("built", base.rows),
        "added": earlier.get("added", 0) + len(change.new),
        "removed": earlier.get("removed", 0) + change.gone,
        "calibrated": rows if again else calibrated,
        "changed": 0 if again else changed,
        "recalls": built.tolist(),
    }
    return Checked(again, healed, change.told() + (", calibrated anew" if again else ""))
