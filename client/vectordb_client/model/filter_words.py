"""The node of a filter for words that need not be spelt exactly."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import FilterError, shown
from .checks import check_flag, check_fuzzy
from .filter_nodes import Filter, check_field, text_value


@dataclass(frozen=True, eq=False)
class MatchNear(Filter):
    """The text contains any of the words of ``text``, or all of them, or words near them.

    mode: "any" or "all". fuzzy: 0, 1 or 2, how many letters of a word may differ: left out, added, replaced, or swapped with the next.
    Words of less than 3 characters never differ, those of less than 6 by one. wildcards: ``*`` stands for any characters of a word, ``?``
    for one.
    """

    field: str
    mode: str
    text: str
    fuzzy: int
    wildcards: bool

    def __post_init__(self):
        check_field(self.field)
        if self.mode not in ("any", "all"):
            what = f"mode of {self.field!r} with fuzzy words or wildcards must be any or all, not {shown(self.mode)}"
            raise FilterError(what, field=self.field, value=self.mode)
        fuzzy = check_fuzzy(f"fuzzy of {self.field!r}", self.fuzzy, FilterError)
        wildcards = check_flag(f"wildcards of {self.field!r}", self.wildcards, FilterError)
        self._set(text=text_value(self.field, self.text), fuzzy=fuzzy, wildcards=wildcards)
