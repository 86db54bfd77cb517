"""Text → words: what a Text attribute indexes, what MATCH looks for, and what BM25 counts.

Compatibility forms are unified and case is folded (NFKC, casefold); a word is a run of letters, digits and marks. ``_`` separates,
so that ``read_file`` is found by ``file``. There is no stemming.

Some scripts put no spaces between words, so a run of theirs is cut into pieces that each count as a word, and a phrase finds the sequence.
A piece never crosses the border between two words, whatever these are:

- Chinese, Japanese, Yi, Tangut: each ideograph, hiragana and syllable, as in Unicode's default word boundaries (UAX #29).
- Thai, Lao, Khmer, Burmese, Javanese, Balinese, the Tai scripts and others: a letter with what can't stand without it, which makes it about
  a syllable: vowels written before it, signs and vowels after it, letters stacked under it.
- Emoji: each by itself; two regional indicators are a flag, a digit with a keycap is one. Variation selectors and joiners are left out, so
  that a heart is a heart in either form, and what is joined is found by its parts, as are skin tones.

These are the rules of version 2. In version 1, by which fields of earlier versions were written, a run of such scripts is one word (Chinese
and Japanese are as above), and emoji are none.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

RULE = 2  # the version of the rules that new fields are written by
MAX_WORD = 120  # characters; at most 480 UTF-8 bytes, so that a word is a key. Longer runs are cut into several words.
_ASCII_SPACED = {c: chr(c).lower() if chr(c).isalnum() else " " for c in range(128)}
_PLAIN = re.compile(rf"\w{{1,{MAX_WORD}}}")
_IDEOGRAPHS = "\u3005-\u3007\u3041-\u3096\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_SYLLABLES = "\ua000-\ua48c\U00017000-\U00018cff\U00018d00-\U00018d8f\U0001b170-\U0001b2ff"  # Yi, Tangut, Khitan, Nushu
# Scripts that are written without spaces, with letters and signs: blocks, of which digits and punctuation are no letters.
_JOINED_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x1AAF),  # Tai Le, New Tai Lue, Buginese, Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x1BC0, 0x1BFF),  # Batak
    (0xA980, 0xAADF),  # Javanese, Myanmar, Cham, Tai Viet
    (0x116D0, 0x1174F),  # Myanmar, Ahom
    (0x11EE0, 0x11F5F),  # Makasar, Kawi
)
# Letters that are read after the one behind them (Logical_Order_Exception).
_BEFORE = "\u0e40-\u0e44\u0ec0-\u0ec4\u19b5-\u19b7\u19ba\uaab5\uaab6\uaab9\uaabb\uaabc"
# Letters that belong to the one before them: vowels and tones of Thai, Lao, Tai Le, New Tai Lue and Tai Viet.
_AFTER = (
    "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3\u1963-\u1974\u19b0-\u19b4\u19b8\u19b9\u19bb-\u19c0\u19c8\u19c9"
    "\uaab1\uaaba\uaabd\uaac0\uaac2"
)
_STACKING = "\u1039\u17d2\u1a60\U00011f42"  # signs that put the next letter under this one
# Unicode's Emoji property without digits, "#", "*", "©" and "®"; from U+1F000 on, all of the blocks of pictographs.
_EMOJI = (
    "\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2604\u260e\u2611"
    "\u2614\u2615\u2618\u261d\u2620\u2622\u2623\u2626\u262a\u262e\u262f\u2638-\u263a\u2640\u2642\u2648-\u2653\u265f\u2660\u2663\u2665\u2666"
    "\u2668\u267b\u267e\u267f\u2692-\u2697\u2699\u269b\u269c\u26a0\u26a1\u26a7\u26aa\u26ab\u26b0\u26b1\u26bd\u26be\u26c4\u26c5\u26c8\u26ce"
    "\u26cf\u26d1\u26d3\u26d4\u26e9\u26ea\u26f0-\u26f5\u26f7-\u26fa\u26fd\u2702\u2705\u2708-\u270d\u270f\u2712\u2714\u2716\u271d\u2721\u2728"
    "\u2733\u2734\u2744\u2747\u274c\u274e\u2753-\u2755\u2757\u2763\u2764\u2795-\u2797\u27a1\u27b0\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c"
    "\u2b50\u2b55\u3030\u303d\U0001f000-\U0001faff"
)
_FLAG = "[\U0001f1e6-\U0001f1ff]"  # a regional indicator
_TAGS = "[\U000e0020-\U000e007f]"  # which of a country's flags a black flag is
_KEYCAP = "\u20e3"
# soft hyphen, joiners, byte order mark and variation selectors only shape a word or hint at its parts
_INVISIBLE = re.compile("[\u00ad\u034f\u200c\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]")


def words(text: str, rule: int = RULE) -> list[str]:
    """The words of a text, in order, each of at most 120 characters and 480 UTF-8 bytes, by the rules of a version."""
    if text.isascii():  # three times as fast as an expression
        spaced = text.translate(_ASCII_SPACED)
        found = spaced.split()
        return found if max(map(len, found), default=0) <= MAX_WORD else _PLAIN.findall(spaced)
    folded = _fold(text)
    special, pattern = _unicode() if rule >= 2 else _unicode_before()
    # Classes of thousands of characters are slow to test, and most texts have neither marks nor ideographs.
    return pattern.findall(folded) if special.search("".join(set(folded))) else _PLAIN.findall(folded)


def _fold(text: str) -> str:
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
    # Folding can undo the normal form, and the normal form can bring back an upper case letter: a few characters need a second turn.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("_", " ")


@cache
def _unicode() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """(what a text has for which the second is needed, a word)."""
    marks, single = _marks(), _IDEOGRAPHS + _SYLLABLES
    letters = _ranges(c for low, high in _JOINED_BLOCKS for c in range(low, high + 1) if unicodedata.category(chr(c))[0] == "L")
    most = f"{{0,{MAX_WORD // 4}}}"  # of the parts of a piece, of which there are three or four
    piece = f"[{_BEFORE}]{most}[{letters}](?:[{_STACKING}][{letters}]|[{marks}{_AFTER}]){most}|[{_BEFORE}]{{1,{MAX_WORD}}}"
    run = f"(?:(?![0-9]{_KEYCAP})[^\\W{single}{letters}]|[{marks}]){{1,{MAX_WORD}}}"
    emoji = f"{_FLAG}{_FLAG}|[0-9#*]{_KEYCAP}|[{_EMOJI}]{_TAGS}{{0,{MAX_WORD - 1}}}"
    word = f"[{single}][{marks}]{{0,{MAX_WORD - 1}}}|{piece}|{emoji}|{run}"
    return re.compile(f"[{marks}{single}{letters}{_EMOJI}]"), re.compile(word)


@cache
def _unicode_before() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The same in version 1."""
    marks = _marks()
    word = f"[{_IDEOGRAPHS}][{marks}]{{0,{MAX_WORD - 1}}}|(?:[^\\W{_IDEOGRAPHS}]|[{marks}]){{1,{MAX_WORD}}}"
    return re.compile(f"[{marks}{_IDEOGRAPHS}]"), re.compile(word)


@cache
def _marks() -> str:
    r"""``\w`` doesn't hold the combining marks, which scripts of India are written with; found once, on the first text beyond ASCII."""
    return _ranges(c for c in range(0x300, 0x20000) if unicodedata.category(chr(c))[0] == "M")


def _ranges(points) -> str:
    """Ascending code points as the inside of a class."""
    runs: list[list[int]] = []
    for c in points:
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in runs)
