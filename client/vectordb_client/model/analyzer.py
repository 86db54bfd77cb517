"""How the words of a Text attribute are made, for MATCH, BM25 and highlighting alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from ..errors import SchemaError, shown
from .arguments import named_class
from .checks import check_flag

MAX_SYNONYMS = 20_000  # words in all groups


@named_class
@dataclass(frozen=True)
class Analyzer:
    """How the words of a Text attribute are made. MATCH, BM25 fields that read the attribute, and highlighting use the same words.

    Text is always normalised (NFKC) and case-folded, and each emoji is a word. The steps are: fold accents, leave out stop words, stem,
    replace synonyms.

    Attributes:
        language: the Snowball stemmer, such as "german"; "none" doesn't stem.
        stopwords: True leaves out the stop words of the language; a list of words leaves out those. The lists of languages other than
            English need ``pip install 'stop-words==2025.11.4'``.
        fold_accents: "Café" and "cafe" are the same word, and "Łódź" and "lodz". Marks of scripts that need them, such as Devanagari, stay.
        bigrams: where a script has no spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese …), each pair of neighbouring pieces is a word
            besides the pieces, so that BM25 prefers texts that have them side by side.
        synonyms: groups of words that count as the same word, such as ``[["car", "automobile"], ["tv", "television"]]``. See
            ``read_synonyms``.

    Raises:
        SchemaError: a value is not valid. A language that isn't there is found when the field is created.
    """

    language: str = "none"
    stopwords: bool | Iterable[str] = False  # a flag or a tuple after the check
    fold_accents: bool = False
    bigrams: bool = False
    synonyms: Iterable[Iterable[str]] = ()  # tuples after the check
    built: ClassVar[tuple[str, str | None] | None] = None  # of a stored attribute, its name and what its words were made by

    def __post_init__(self):
        if not isinstance(self.language, str) or not self.language:
            what = f"language of an analyzer must be a name such as 'german', or 'none', not {shown(self.language)}"
            raise SchemaError(what, field="language", value=self.language)
        check_flag("fold_accents", self.fold_accents, SchemaError)
        check_flag("bigrams", self.bigrams, SchemaError)
        if not isinstance(self.stopwords, bool):
            object.__setattr__(self, "stopwords", _words("stopwords", self.stopwords, "True, False or a list of words"))
        groups = _items("synonyms", self.synonyms, "a list of groups, such as [['car', 'automobile']]")
        groups = tuple([_words("synonyms", group, "a list of groups, such as [['car', 'automobile']]") for group in groups])
        for group in groups:
            if len(group) < 2:
                raise SchemaError(f"a group of synonyms has at least two words, not {shown(group)}", field="synonyms", value=group)
        if sum(map(len, groups)) > MAX_SYNONYMS:
            what = f"an analyzer has at most {MAX_SYNONYMS} synonyms, not {sum(map(len, groups))}"
            raise SchemaError(what, field="synonyms", value=sum(map(len, groups)))
        object.__setattr__(self, "synonyms", groups)

    def __hash__(self) -> int:
        known = self.__dict__.get("_hash")  # synonyms may be many
        if known is None:
            known = hash((self.language, self.stopwords, self.fold_accents, self.bigrams, self.synonyms))
            object.__setattr__(self, "_hash", known)
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}  # strings hash differently in each process

    @classmethod
    def of(cls, value: Any) -> Analyzer | None:
        """The analyzer that a value means: itself, the name of a language, or the JSON form. Raises SchemaError."""
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        names = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping):
            what = f"analyzer must be an Analyzer, such as Analyzer('german'), or the name of a language, not {shown(value)}"
            raise SchemaError(what, field="analyzer", value=value)
        for option in value:
            if option not in names:
                what = f"an analyzer has no option {shown(option)}; there are: {', '.join(names)}"
                raise SchemaError(what, field="analyzer", value=option)
        return cls(**value)

    def to_dict(self) -> dict[str, Any]:
        """The analyzer as plain JSON data, without options that have their default."""
        options = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        if not isinstance(options.get("stopwords", True), bool):
            options["stopwords"] = list(self.stopwords)  # type: ignore[arg-type]
        if "synonyms" in options:
            options["synonyms"] = [list(group) for group in self.synonyms]
        return options


def read_synonyms(path: str | os.PathLike[str]) -> list[list[str]]:
    """The groups of synonyms of a text file in UTF-8: a group a line, its words separated by commas. ``#`` begins a comment.

    The words go into the schema, so the file isn't needed afterwards. Raises SchemaError, which names the line.
    """
    groups = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), 1):
        words = [word.strip() for word in line.partition("#")[0].split(",")]
        if words == [""]:
            continue
        if len(words) < 2 or "" in words:
            what = f"line {number} of {os.fspath(path)} must be at least two words with commas between, not {shown(line)}"
            raise SchemaError(what, field="synonyms", value=line)
        groups.append(words)
    return groups


def _items(name: str, value: Any, expected: str) -> tuple:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise SchemaError(f"{name} of an analyzer must be {expected}, not {shown(value)}", field=name, value=value)
    return tuple(sorted(value)) if isinstance(value, (set, frozenset)) else tuple(value)


def _words(name: str, value: Any, expected: str) -> tuple[str, ...]:
    words = _items(name, value, expected)
    for word in words:
        if not isinstance(word, str) or not word:
            raise SchemaError(f"{name} of an analyzer must be {expected}, and {shown(word)} is not a word", field=name, value=word)
    return words
