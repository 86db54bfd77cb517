"""Splits text into words, for the index of Text attributes, MATCH, and BM25.

Text is normalised (NFKC) and case-folded; a word is a run of letters, digits and marks. ``_`` separates words, so that ``file`` finds
``read_file``. There is no stemming.

Some scripts have no spaces between words. A run of such a script is cut into pieces, each of which counts as a word, and a phrase search
finds their sequence. A piece never extends beyond a word, wherever the borders of words are:

- Chinese, Japanese, Yi, Tangut: each ideograph, hiragana or syllable is a piece, as in Unicode's default word boundaries (UAX #29).
- Thai, Lao, Khmer, Burmese, Javanese, Balinese, the Tai scripts and others: a piece is a letter with the signs that belong to it, about a
  syllable: vowels written before it, signs and vowels after it, letters stacked under it.
- Emoji: each one is a piece; two regional indicators form a flag, a digit with a keycap is one emoji. Variation selectors and joiners are
  removed, so that both forms of a heart are equal, and a joined emoji or a skin tone is found by its parts.

These are the rules of version 2. In version 1, which fields of earlier versions were written with, a run of such a script is one word
(except Chinese and Japanese), and emoji are not words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

RULE = 2  # version of the rules for new fields
MAX_WORD = 120  # characters, at most 480 UTF-8 bytes, so that a word fits into a key. Longer runs are split.
_ASCII_SPACED = {c: chr(c).lower() if chr(c).isalnum() else " " for c in range(128)}
_PLAIN = re.compile(rf"\w{{1,{MAX_WORD}}}")
_IDEOGRAPHS = "\u3005-\u3007\u3041-\u3096\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_SYLLABLES = "\ua000-\ua48c\U00017000-\U00018cff\U00018d00-\U00018d8f\U0001b170-\U0001b2ff"  # Yi, Tangut, Khitan, Nushu
# Unicode blocks of scripts without spaces. Their digits and punctuation are not letters.
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
# Vowels that are written before the consonant they follow in speech (Logical_Order_Exception).
_BEFORE = "\u0e40-\u0e44\u0ec0-\u0ec4\u19b5-\u19b7\u19ba\uaab5\uaab6\uaab9\uaabb\uaabc"
# Letters that belong to the letter before them: vowels and tones of Thai, Lao, Tai Le, New Tai Lue and Tai Viet.
_AFTER = (
    "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3\u1963-\u1974\u19b0-\u19b4\u19b8\u19b9\u19bb-\u19c0\u19c8\u19c9"
    "\uaab1\uaaba\uaabd\uaac0\uaac2"
)
_STACKING = "\u1039\u17d2\u1a60\U00011f42"  # signs that stack the next letter under the previous one
# Unicode's Emoji property without digits, "#", "*", "©" and "®"; from U+1F000 on, whole blocks of pictographs.
_EMOJI = (
    "\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2604\u260e\u2611"
    "\u2614\u2615\u2618\u261d\u2620\u2622\u2623\u2626\u262a\u262e\u262f\u2638-\u263a\u2640\u2642\u2648-\u2653\u265f\u2660\u2663\u2665\u2666"
    "\u2668\u267b\u267e\u267f\u2692-\u2697\u2699\u269b\u269c\u26a0\u26a1\u26a7\u26aa\u26ab\u26b0\u26b1\u26bd\u26be\u26c4\u26c5\u26c8\u26ce"
    "\u26cf\u26d1\u26d3\u26d4\u26e9\u26ea\u26f0-\u26f5\u26f7-\u26fa\u26fd\u2702\u2705\u2708-\u270d\u270f\u2712\u2714\u2716\u271d\u2721\u2728"
    "\u2733\u2734\u2744\u2747\u274c\u274e\u2753-\u2755\u2757\u2763\u2764\u2795-\u2797\u27a1\u27b0\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c"
    "\u2b50\u2b55\u3030\u303d\U0001f000-\U0001faff"
)
_FLAG = "[\U0001f1e6-\U0001f1ff]"  # a regional indicator
_TAGS = "[\U000e0020-\U000e007f]"  # tags after a black flag select the flag of a region
_KEYCAP = "\u20e3"
# removed: soft hyphen, joiners, byte order mark and variation selectors, which only affect how text is displayed
INVISIBLE = "\u00ad\u034f\u200c\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef"
_INVISIBLE = re.compile(f"[{INVISIBLE}]")


def words(text: str, rule: int = RULE) -> list[str]:
    """The words of a text, in order. Each has at most 120 characters and 480 UTF-8 bytes. rule: version of the rules."""
    if text.isascii():  # three times as fast as a regular expression
        spaced = text.translate(_ASCII_SPACED)
        tokens = spaced.split()
        return tokens if max(map(len, tokens), default=0) <= MAX_WORD else _PLAIN.findall(spaced)
    folded = fold(text)
    return word_pattern(folded, rule).findall(folded)


def plain_words(text: str) -> Iterator[re.Match[str]]:
    """The words of a text in ASCII, as matches that have their offsets."""
    return _PLAIN.finditer(text.translate(_ASCII_SPACED))


def word_pattern(folded: str, rule: int = RULE) -> re.Pattern[str]:
    """The pattern of the words of a normalised text."""
    special, pattern = _unicode() if rule >= 2 else _unicode_before()
    # Character classes with thousands of members are slow, and most texts have neither marks nor ideographs.
    return pattern if special.search("".join(set(folded))) else _PLAIN


def fold(text: str) -> str:
    """A text normalised (NFKC) and case-folded."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
    # Case folding can undo the normal form, and normalising can produce upper case letters again: a few characters need both twice.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("_", " ")


@cache
def _unicode() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """(pattern of characters that need the second pattern, pattern of a word)."""
    signs, single = marks(), _IDEOGRAPHS + _SYLLABLES
    letters = _joined_letters()
    most = f"{{0,{MAX_WORD // 4}}}"  # limit per part of a piece, which has three or four parts
    piece = f"[{_BEFORE}]{most}[{letters}](?:[{_STACKING}][{letters}]|[{signs}{_AFTER}]){most}|[{_BEFORE}]{{1,{MAX_WORD}}}"
    run = f"(?:(?![0-9]{_KEYCAP})[^\\W{single}{letters}]|[{signs}]){{1,{MAX_WORD}}}"
    emoji = f"{_FLAG}{_FLAG}|[0-9#*]{_KEYCAP}|[{_EMOJI}]{_TAGS}{{0,{MAX_WORD - 1}}}"
    word = f"[{single}][{signs}]{{0,{MAX_WORD - 1}}}|{piece}|{emoji}|{run}"
    return re.compile(f"[{signs}{single}{letters}{_EMOJI}]"), re.compile(word)


@cache
def joined() -> re.Pattern[str]:
    """A character of a script without spaces, whose pieces are words."""
    return re.compile(f"[{_IDEOGRAPHS}{_SYLLABLES}{_BEFORE}{_joined_letters()}]")


@cache
def _unicode_before() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The same for version 1."""
    signs = marks()
    word = f"[{_IDEOGRAPHS}][{signs}]{{0,{MAX_WORD - 1}}}|(?:[^\\W{_IDEOGRAPHS}]|[{signs}]){{1,{MAX_WORD}}}"
    return re.compile(f"[{signs}{_IDEOGRAPHS}]"), re.compile(word)


def _joined_letters() -> str:
    """Letters of the scripts without spaces, without ideographs and syllables."""
    return _ranges(c for low, high in _JOINED_BLOCKS for c in range(low, high + 1) if unicodedata.category(chr(c))[0] == "L")


@cache
def marks() -> str:
    r"""Combining marks, which Indic scripts need and ``\w`` lacks. Computed once, for the first text that is not ASCII."""
    return _ranges(c for c in range(0x300, 0x20000) if unicodedata.category(chr(c))[0] == "M")


def _ranges(points) -> str:
    """Ascending code points as the contents of a character class."""
    runs: list[list[int]] = []
    for c in points:
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in runs)
