"""Text → words: what a Text attribute indexes, what MATCH looks for, and what BM25 counts.

Compatibility forms are unified and case is folded (NFKC, casefold); a word is a run of letters, digits and marks. ``_`` separates,
so that ``read_file`` is found by ``file``. There is no stemming. Chinese and Japanese put no spaces between words: there each
ideograph and each hiragana is a word, as in Unicode's default word boundaries (UAX #29), and a phrase finds the sequence.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

MAX_WORD = 120  # characters; at most 480 UTF-8 bytes, so that a word is a key. Longer runs are cut into several words.
_ASCII_SPACED = {c: chr(c).lower() if chr(c).isalnum() else " " for c in range(128)}
_PLAIN = re.compile(rf"\w{{1,{MAX_WORD}}}")
_IDEOGRAPHS = "\u3005-\u3007\u3041-\u3096\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
# soft hyphen, joiners, byte order mark and variation selectors only shape a word or hint at its parts
_INVISIBLE = re.compile("[\u00ad\u034f\u200c\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]")


def words(text: str) -> list[str]:
    """The words of a text, in order, each of at most 120 characters and 480 UTF-8 bytes."""
    if text.isascii():  # three times as fast as an expression
        spaced = text.translate(_ASCII_SPACED)
        found = spaced.split()
        return found if max(map(len, found), default=0) <= MAX_WORD else _PLAIN.findall(spaced)
    folded = _fold(text)
    special, pattern = _unicode()
    # Classes of thousands of characters are slow to test, and most texts have neither marks nor ideographs.
    return pattern.findall(folded) if special.search("".join(set(folded))) else _PLAIN.findall(folded)


def _fold(text: str) -> str:
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
    # Folding can undo the normal form, and the normal form can bring back an upper case letter: a few characters need a second turn.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("_", " ")


@cache
def _unicode() -> tuple[re.Pattern[str], re.Pattern[str]]:
    r"""``\w`` doesn't hold the combining marks, which scripts of India are written with; found once, on the first text beyond ASCII."""
    marks = [c for c in range(0x300, 0x20000) if unicodedata.category(chr(c))[0] == "M"]
    runs: list[list[int]] = []
    for c in marks:
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    ranges = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in runs)
    word = f"[{_IDEOGRAPHS}][{ranges}]{{0,{MAX_WORD - 1}}}|(?:[^\\W{_IDEOGRAPHS}]|[{ranges}]){{1,{MAX_WORD}}}"
    return re.compile(f"[{ranges}{_IDEOGRAPHS}]"), re.compile(word)
