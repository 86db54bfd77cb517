"""Words near those of a query: by edit distance, and by patterns with ``*`` and ``?``.

The distance is that of optimal string alignment: letters left out, added, replaced, or swapped with their neighbour (Damerau and
Levenshtein, each part of a word edited once).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from . import tokenize
from .analyze import Plain

SHORT, MIDDLE = 3, 6  # characters: shorter words have no typos, or at most one
WILD = re.compile(r"[*?]")
_FAR = 1 << 10  # more than any distance between words


class NearWord(NamedTuple):
    """A word of a query. words: it, and its stem if that differs; of a pattern, the pattern. distance: the largest edit distance."""

    words: tuple[str, ...]
    distance: int
    pattern: bool


def near_words(analysis: Plain, text: str, fuzzy: int, wildcards: bool) -> list[NearWord]:
    """The words of a query text. Stop words are left out."""
    found = []
    for part in text.split() if wildcards else [text]:
        if wildcards and WILD.search(part):
            found += _patterns(analysis, part)
            continue
        if not fuzzy:
            found += [NearWord((word,), 0, False) for word in analysis.words(part)]
            continue
        tokens = tokenize.words(part, analysis.rule)
        for token, form in zip(tokens, analysis.forms(tokens), strict=True):
            if form is not None:
                plain = analysis.folded(token)
                found.append(NearWord(tuple(dict.fromkeys((plain, form))), min(fuzzy, most(plain)), False))
    return found


def most(word: str) -> int:
    """The largest edit distance that a word of this length may have."""
    return 0 if len(word) < SHORT else 1 if len(word) < MIDDLE else 2


def _patterns(analysis: Plain, part: str) -> list[NearWord]:
    """The patterns in a part of a text without spaces. What can't be in a word separates them, as it separates words."""
    found = []
    for piece in re.split(rf"[^\w{tokenize.marks()}*?]+", tokenize.fold(part)):
        if WILD.search(piece) and piece.strip("*?"):
            found.append(NearWord(("".join(analysis.folded(each) for each in re.split(r"([*?])", piece)),), 0, True))
        elif not WILD.search(piece):
            found += [NearWord((word,), 0, False) for word in analysis.words(piece)]
    return found


class Vocabulary:
    """Words, sorted, that can be searched. ``nbytes`` estimates their memory."""

    def __init__(self, words: Sequence[str]):
        self.words = words
        self.lengths = np.fromiter(map(len, words), np.int32, len(words))
        self._starts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        self._letters = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), np.uint32)
        # One bit for each letter, modulo 64, that a word has. An edit changes at most two of them.
        bits = np.uint64(1) << (self._letters & np.uint32(63)).astype(np.uint64)
        self._bits = np.bitwise_or.reduceat(bits, self._starts) if len(words) else bits
        self.nbytes = self._letters.nbytes + 96 * len(words)

    def find(self, word: NearWord) -> list[tuple[str, int]]:
        """The words near one of a query, with their distances; ascending."""
        if word.pattern:
            return [(each, 0) for each in self.matching(word.words[0])]
        best: dict[str, int] = {}
        for each in word.words:
            for found, distance in self.near(each, word.distance):
                best[found] = min(distance, best.get(found, _FAR))
        return sorted(best.items())

    def matching(self, pattern: str) -> list[str]:
        """The words that match a pattern as a whole."""
        fixed = re.split(r"[*?]", pattern, maxsplit=1)[0]
        expression = re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), re.DOTALL)
        found = []
        for at in range(bisect_left(self.words, fixed), len(self.words)):
            if not self.words[at].startswith(fixed):
                break
            if expression.fullmatch(self.words[at]):
                found.append(self.words[at])
        return found

    def near(self, word: str, distance: int) -> list[tuple[str, int]]:
        """The words at most so many edits from one, with their distances."""
        if distance == 0:
            at = bisect_left(self.words, word)
            return [(word, 0)] if at < len(self.words) and self.words[at] == word else []
        letters = np.frombuffer(word.encode("utf-32-le", "surrogatepass"), np.uint32)
        bits = np.bitwise_or.reduce(np.uint64(1) << (letters & np.uint32(63)).astype(np.uint64))
        close = (np.abs(self.lengths - len(word)) <= distance) & (np.bitwise_count(self._bits ^ bits) <= 2 * distance)
        rows = np.flatnonzero(close)
        distances = self._distances(rows, letters, distance)
        return [(self.words[row], int(far)) for row, far in zip(rows.tolist(), distances.tolist(), strict=True) if far <= distance]

    def _distances(self, rows: np.ndarray, letters: np.ndarray, distance: int) -> np.ndarray:
        """The distance of each of some words, if it is at most ``distance``; else a larger number. All words at a time, a cell of the table
        of distances after another; only cells near the diagonal matter.
        """
        if not len(rows):
            return np.empty(0, np.int16)
        n, width = len(letters), len(letters) + distance
        places = np.arange(width) + self._starts[rows][:, None]
        inside = np.arange(width) < self.lengths[rows][:, None]
        theirs = np.where(inside, self._letters[np.minimum(places, len(self._letters) - 1)], np.uint32(2**32 - 1)).T.copy()
        table = np.full((n + 1, width + 1, len(rows)), _FAR, np.int16)
        table[0] = np.arange(width + 1)[:, None]
        table[:, 0] = np.arange(n + 1)[:, None]
        for i in range(1, n + 1):
            for j in range(max(1, i - distance), min(width, i + distance) + 1):
                replaced = table[i - 1, j - 1] + (theirs[j - 1] != letters[i - 1])
                cell = np.minimum(np.minimum(table[i - 1, j], table[i, j - 1]) + 1, replaced)
                if i > 1 and j > 1:
                    swapped = (theirs[j - 2] == letters[i - 1]) & (theirs[j - 1] == letters[i - 2])
                    cell = np.where(swapped, np.minimum(cell, table[i - 2, j - 2] + 1), cell)
                table[i, j] = cell
        return table[n, self.lengths[rows], np.arange(len(rows))]
