"""The string notation of filters: parses a text into the same tree of nodes that ``F`` and JSON produce.

    lines > 20 AND module IN ('json', "asyncio") OR NOT (tags CONTAINS ANY ('a', 'b'))

    filter    = conj {OR conj}
    conj      = {NOT} term {AND {NOT} term}
    term      = "(" filter ")" | ALL | TRUE | FALSE | field test | COUNT "(" field ")" compare integer
              | HAS_ID list | HAS_VECTOR "(" field ")" | CONCEPT "(" field, value ")" compare number
              | GEO_RADIUS "(" field, lat, lon, meters ")"
              | GEO_BOX "(" field, south, west, north, east ")" | GEO_POLYGON "(" field {, lat, lon} ")"
              | MIN_SHOULD "(" integer {, filter} ")"
    test      = compare value | IS [NOT] (NULL | MISSING) | [NOT] (IN list | BETWEEN value AND value
              | CONTAINS (value | (ANY | ALL) list) | MATCH [ANY | ALL | PHRASE] {FUZZY [integer] | WILDCARDS} string
              | STARTSWITH string | GLOB string | IEQ string | ISTARTSWITH string | ICONTAINS string
              | SOME NOT IN list | ANY "(" filter ")")
    compare   = "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">="
    list      = "(" [value {, value}] ")"
    value     = string | number | TRUE | FALSE | DATETIME string | UUID string

Keywords are case-insensitive. A field name consists of letters, digits and ``_ . -``; any other name is written in backticks. So are field
names that are reserved words: AND, OR, NOT, TRUE, FALSE, NULL, IN, IS, BETWEEN, LIKE. There is no arithmetic, so a ``-`` inside a name is
part of it: ``a-1 = 2`` tests the field "a-1". A ``-`` before a digit, with no name on its left, is a sign.
Strings are in single or double quotes. Inside, a quote is written twice or after a backslash, and a backslash as two backslashes. A
backslash before any other character stands for itself.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from vectordb_client.errors import FilterError, LimitError, VectorDBError, shown
from vectordb_client.model import filter_nodes as nodes
from vectordb_client.model.filter_concepts import Concept
from vectordb_client.model.filter_extended import AnyElement, Fold, GeoPolygon, IsMissing, MinShould, SomeNotIn
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.filter_words import MatchNear
from vectordb_client.model.moments import read_moment

from ..common import deadline

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<name>[^\W\d][\w.\-]*)
    | (?P<number>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)
    | (?P<string>'(?:[^'\\]++|\\.|'')*+'|"(?:[^"\\]++|\\.|"")*+")
    | (?P<quoted>`(?:[^`]++|``)*+`)
    | (?P<symbol>==|!=|<>|<=|>=|[=<>(),])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = {quote: re.compile(rf"\\([\\'\"])|{quote}{quote}") for quote in "'\""}
_COMPARE = {"=": "eq", "==": "eq", "!=": "ne", "<>": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_RESERVED = frozenset(("AND", "OR", "NOT", "TRUE", "FALSE", "NULL", "IN", "IS", "BETWEEN", "LIKE"))
_WORD_TESTS = "IN, BETWEEN, CONTAINS, MATCH, STARTSWITH, GLOB, IEQ, ISTARTSWITH, ICONTAINS, SOME NOT IN or ANY (…)"
_TESTS = f"a comparison (= != < <= > >=), IS, {_WORD_TESTS}"
_FOLDED = {"IEQ": "eq", "ISTARTSWITH": "prefix", "ICONTAINS": "contains"}
# Unexpected character → what to write instead.
_INSTEAD = {
    "&": "write AND",
    "|": "write OR",
    "!": "write NOT",
    **dict.fromkeys("[]", "write a list in (…)"),
    "~": "write MATCH for words, GLOB for a pattern",
    **dict.fromkeys("+-*/%", "there is no arithmetic, and a string needs quotes"),
    **dict.fromkeys("$?:@#", "there are no parameters: write the value itself, a string in quotes"),
    **dict.fromkeys("{}", "pass a filter in JSON as a dict, not as a string"),
    ";": "leave it out",
}
# Operator of another language → what to write instead.
_FOREIGN = {
    "LIKE": "GLOB, with * for % and ? for _ (GLOB is case-sensitive)",
    "ILIKE": "IEQ, ISTARTSWITH or ICONTAINS, without %",
    **dict.fromkeys(("REGEXP", "REGEX", "RLIKE", "SIMILAR"), "GLOB, a pattern of * ? and […]"),
    **dict.fromkeys(("STARTS", "STARTS_WITH", "BEGINSWITH", "PREFIX"), "STARTSWITH"),
    **dict.fromkeys(("ENDSWITH", "ENDS", "ENDS_WITH"), "GLOB '*…'"),
    "MATCHES": "MATCH",
    **dict.fromkeys(("HAS", "INCLUDES", "CONTAIN"), "CONTAINS"),
    **dict.fromkeys(("EQ", "EQUALS"), "="),
    **dict.fromkeys(("NE", "NEQ"), "!="),
}
_CACHED_LENGTH = 4_096  # characters; longer texts are long lists of values, which seldom repeat and would fill memory
_BLANK = re.compile(r"\s*")
_END = re.compile(r"\s*(?:\Z|\)|(?:AND|OR)\b)", re.IGNORECASE)
_EXCERPT = 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse(text: str) -> Filter:
    """Parse a filter. Raises FilterError, whose message shows the place of the error and what was expected there, and LimitError."""
    if not isinstance(text, str):
        raise FilterError(f"filter must be a string, not {shown(text)}", field="filter", value=text)
    if not text.strip():
        raise FilterError("the filter is empty; leave filter out, or write ALL for all points", field="filter", value=text)
    return _cached(text) if len(text) <= _CACHED_LENGTH else _Parser(text).whole()


class _Token(NamedTuple):
    kind: str  # name, number, string, quoted, symbol or end
    text: str
    position: int
    word: str  # the upper case form of a name and a symbol, to compare with keywords; else empty


class _Parser:
    """Recursive descent with one token of lookahead. Only ``_filter`` recurses, once for each open parenthesis."""

    def __init__(self, text: str):
        self.text = text
        self.position = 0
        self.before = ""  # the kind of the token before the current one
        self.level = 1  # open parentheses around the current token, and 1
        self.token = self._scan()

    def _scan(self) -> _Token:
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            position = self._after_blanks()
            c = self.text[position : position + 1]
            if c in "'\"`":
                self.fail(f"the {'name' if c == '`' else 'string'} that starts here has no closing {c}", position)
            self.fail(f"unexpected {c!r}" + (f"; {_INSTEAD[c]}" if c in _INSTEAD else ""), position)
        kind = match.lastgroup or "end"
        text = match[kind]
        self.position = match.end()
        if kind == "number" and self.text[self.position : self.position + 1].isidentifier():
            self.fail("a number is followed by letters; write a string in quotes, or a field name in backticks", match.start(kind))
        return _Token(kind, text, match.start(kind), text.upper() if kind in ("name", "symbol") else "")

    def advance(self) -> _Token:
        token, self.token = self.token, self._scan()
        self.before = token.kind
        return token

    def accept(self, word: str) -> bool:
        if self.token.word == word:
            self.advance()
            return True
        return False

    def expect(self, word: str, what: str) -> None:
        if not self.accept(word):
            self.expected(what)

    def expected(self, what: str) -> NoReturn:
        actual = "but the filter ends here" if self.token.kind == "end" else f"found {shown(self.token.text)}"
        if self.before == self.token.kind == "number":  # such as 978-0-1 or 2021-05-01
            actual += "; a string needs quotes"
        self.fail(f"expected {what}, {actual}", self.token.position)

    def fail(self, problem: str, position: int, error: VectorDBError | None = None) -> NoReturn:
        line = self.text.count("\n", 0, position) + 1
        start = self.text.rfind("\n", 0, position) + 1
        end = self.text.find("\n", position)
        end = len(self.text) if end < 0 else end
        where = f"line {line}, column {position - start + 1}" if "\n" in self.text else f"column {position + 1}"
        left, right = max(start, position - _EXCERPT), min(end, position + _EXCERPT)
        before = ("…" if left > start else "") + self.text[left:position]
        excerpt = _CONTROL.sub(" ", before + self.text[position:right]) + ("…" if right < end else "")
        message = f"{where}: {problem}\n  {excerpt}\n  {' ' * len(before)}^"
        if error is None:
            raise FilterError(message, field="filter", value=self.text)
        raise type(error)(message, field=error.field, value=error.value) from None

    def build(self, position: int, kind: Callable[..., Filter], *parts: Any) -> Filter:
        """A node. Where its constructor refuses a value, the error shows the place in the text."""
        try:
            return kind(*parts)
        except (FilterError, LimitError) as error:
            self.fail(error.message, position, error)

    def whole(self) -> Filter:
        if self.token.kind == "end":
            self.expected("a filter")
        node = self._filter(1)
        if self.token.kind != "end":
            hint = ""
            if self.token.text == ",":
                hint = " (write several values as field IN (…))"
            elif self.text[self.token.position - 1] in "'\"":
                hint = " (write a quote inside a string twice)"
            self.expected(f"AND, OR or the end of the filter{hint}")
        return node

    def _filter(self, depth: int) -> Filter:
        start = self.token.position
        self.level = depth
        if depth > nodes.MAX_DEPTH:
            problem = f"a filter is at most {nodes.MAX_DEPTH} levels deep"
            self.fail(problem, start, LimitError(problem, field="filter", value=depth))
        either: list[Filter] = []
        both: list[Filter] = []
        while True:
            position, nots = self.token.position, 0
            while self.accept("NOT"):
                nots += 1
            if self.accept("("):
                node = self._inner()
                self.expect(")", "AND, OR or ')'")
            else:
                node = self._predicate()
            for _ in range(nots):
                node = self.build(position, nodes.Not, node)
            both.append(node)
            if self.accept("AND"):
                continue
            either.append(self.build(start, nodes.join, nodes.And, both))
            if not self.accept("OR"):
                return self.build(start, nodes.join, nodes.Or, either)
            both = []

    def _inner(self) -> Filter:
        """The filter behind an opening parenthesis."""
        depth = self.level
        node = self._filter(depth + 1)
        self.level = depth
        return node

    def _predicate(self) -> Filter:
        token = self.token
        if token.kind not in ("name", "quoted"):
            hint = " (write the field first, then the value: field = value)" if token.kind in ("number", "string") else ""
            self.expected(f"a field or NOT{hint}")
        if token.kind == "name":
            if token.word == "TRUE" or token.word == "FALSE":
                self.advance()
                return nodes.All() if token.word == "TRUE" else nodes.Nothing()
            if token.word == "ALL" and self._ends():
                self.advance()
                return nodes.All()
            if token.word in _RESERVED:
                self.expected("a field or NOT (write a field of this name in backticks)")
            function = _FUNCTIONS.get(token.word)
            if function is not None and self._opens():
                self.advance()
                self.advance()
                return function(self, token.position)
        field = self._field()
        return self._test(field, token.position)

    def _ends(self) -> bool:
        """Whether the condition ends after the current token."""
        return _END.match(self.text, self.position) is not None

    def _opens(self) -> bool:
        """Whether the next token is an opening parenthesis."""
        position = self._after_blanks()
        return self.text[position : position + 1] == "("

    def _after_blanks(self) -> int:
        """The position of the next character that isn't white space."""
        blanks = _BLANK.match(self.text, self.position)
        return self.position if blanks is None else blanks.end()

    def _field(self) -> str:
        token = self.token
        if token.kind == "quoted":
            self.advance()
            name = token.text[1:-1].replace("``", "`")
            return name or self.fail("the field name is empty; write it between the backticks", token.position)
        if token.kind != "name":
            self.expected("a field")
        return self.advance().text

    def _test(self, field: str, position: int) -> Filter:
        op = _COMPARE.get(self.token.word)
        if op is not None:
            self.advance()
            if self.token.word == "NULL":
                self.fail(f"NULL can't be compared; write IS {'NOT ' if op == 'ne' else ''}NULL", self.token.position)
            return self.build(position, nodes.Compare, field, op, self._value())
        if self.accept("IS"):
            negated = self.accept("NOT")
            missing = self.accept("MISSING")
            if not missing:
                self.expect("NULL", "NULL or MISSING" if negated else "NULL, MISSING, NOT NULL or NOT MISSING")
            node = IsMissing(field) if missing else nodes.IsNull(field)
            return nodes.Not(node) if negated else node
        negated = self.accept("NOT")
        word = self.token.word
        if word in _FOREIGN:
            self.fail(f"{shown(self.token.text)} is not an operator; write {_FOREIGN[word]}", self.token.position)
        if word not in _WORDS:
            alone = self.token.kind == "end" or word in ("AND", "OR", ")")
            hint = f" (for a Bool attribute write {field} = true)" if alone else ""
            self.expected(_WORD_TESTS if negated else _TESTS + hint)
        self.advance()
        node = self._word_test(word, field, position)
        return self.build(position, nodes.Not, node) if negated else node

    def _word_test(self, word: str, field: str, position: int) -> Filter:
        if word == "IN":
            return self.build(position, nodes.In, field, self._list())
        if word == "BETWEEN":
            low = self._value()
            self.expect("AND", "AND and the upper bound")
            return self.build(position, nodes.Between, field, low, self._value())
        if word == "CONTAINS":
            if self.accept("ANY"):
                return self.build(position, nodes.ContainsAny, field, self._list())
            if self.accept("ALL"):
                return self.build(position, nodes.ContainsAll, field, self._list())
            return self.build(position, nodes.ContainsAny, field, [self._value("a value, ANY (…) or ALL (…)")])
        if word == "MATCH":
            mode = next((mode for mode in ("ANY", "ALL", "PHRASE") if self.accept(mode)), "ALL")
            fuzzy, wildcards = 0, False
            while (fuzzily := self.accept("FUZZY")) or self.accept("WILDCARDS"):
                if fuzzily:
                    fuzzy = self._number() if self.token.kind == "number" else 1
                else:
                    wildcards = True
            if fuzzy or wildcards:
                text = self._string("one string of words, such as 'red shoes'")
                return self.build(position, MatchNear, field, mode.lower(), text, fuzzy, wildcards)
            return self.build(position, nodes.Match, field, mode.lower(), self._string("one string of words, such as 'red shoes'"))
        if word in _FOLDED:
            return self.build(position, Fold, field, _FOLDED[word], self._string("a string in quotes"))
        if word == "SOME":
            self.expect("NOT", "NOT IN")
            self.expect("IN", "IN")
            return self.build(position, SomeNotIn, field, self._list())
        if word == "ANY":
            self.expect("(", "a filter of an element in parentheses, such as (size = 1)")
            inner = self._inner()
            self.expect(")", "AND, OR or ')'")
            return self.build(position, AnyElement, field, inner)
        if word == "STARTSWITH":
            return self.build(position, nodes.Prefix, field, self._string("a string in quotes"))
        return self.build(position, nodes.Glob, field, self._string("a pattern in quotes, such as 'a*'"))

    def _string(self, what: str) -> str:
        if self.token.kind != "string":
            self.expected(what)
        quoted = self.advance().text
        quote = quoted[0]
        return _ESCAPE[quote].sub(lambda match: match[1] or quote, quoted[1:-1])

    def _value(self, what: str = "a value") -> Any:
        token = self.token
        if token.kind == "string":
            return self._string(what)
        if token.kind == "number":
            return self._number()
        if token.word == "TRUE" or token.word == "FALSE":
            self.advance()
            return token.word == "TRUE"
        if token.word == "NULL":
            self.fail("NULL is not a value; write IS NULL or IS NOT NULL", token.position)
        if token.word == "DATETIME" or token.word == "UUID":
            self.advance()
            text = self._string(f"a string after {token.word}")
            try:
                return read_moment(text) if token.word == "DATETIME" else uuid.UUID(text)
            except ValueError:
                form = "a date and time such as '2021-05-01T12:00:00Z'" if token.word == "DATETIME" else "a UUID of 32 hexadecimal digits"
                self.fail(f"{shown(text)} is not {form}", token.position)
        if token.kind == "name":
            self.fail(f"expected {what}, found a name; write a string in quotes: '{token.text}'", token.position)
        if token.word == "(" and what == "a value":
            self.expected("a value (write several values as field IN (…))")
        self.expected(what)

    def _number(self) -> int | float:
        token = self.advance()
        try:
            return int(token.text)
        except ValueError:
            if token.text.lstrip("+-").isdigit():
                self.fail("the number has too many digits; write one of 64 bits", token.position)
            return float(token.text)

    def _list(self) -> list:
        self.expect("(", "a list of values in parentheses")
        values: list = []
        if self.accept(")"):
            return values
        while True:
            if not len(values) % deadline.EVERY:
                deadline.check()
            values.append(self._value())
            if len(values) > nodes.MAX_VALUES:
                problem = f"a list has at most {nodes.MAX_VALUES} values"
                self.fail(problem, self.token.position, LimitError(problem, field="filter", value=len(values)))
            if not self.accept(","):
                break
        self.expect(")", "',' or ')'")
        return values

    def _count(self, position: int) -> Filter:
        field = self._field()
        self.expect(")", "')'")
        op = _COMPARE.get(self.token.word) or self.expected("a comparison (= != < <= > >=)")
        self.advance()
        return self.build(position, nodes.Count, field, op, self._value("an integer"))

    def _has_id(self, position: int) -> Filter:
        ids = [] if self.token.word == ")" else [self._value("an id")]
        while ids and self.accept(","):
            ids.append(self._value("an id"))
        self.expect(")", "',' or ')'")
        return self.build(position, nodes.HasId, ids)

    def _has_vector(self, position: int) -> Filter:
        field = self._field()
        self.expect(")", "')'")
        return self.build(position, nodes.HasVector, field)

    def _concept(self, position: int) -> Filter:
        field = self._field()
        self.expect(",", "',' and the number of the concept")
        concept = self._value("the number of the concept")
        self.expect(")", "')'")
        op = _COMPARE.get(self.token.word) or self.expected("a comparison (= != < <= > >=)")
        self.advance()
        return self.build(position, Concept, field, concept, op, self._value("a number"))

    def _geo(self, position: int, kind: type[Filter], *parts: str) -> Filter:
        given: list = [self._field()]
        for part in parts:
            self.expect(",", f"',' and {part}")
            if self.token.kind != "number":
                self.expected(f"a number for {part}")
            given.append(self._number())
        self.expect(")", "')'")
        return self.build(position, kind, *given)

    def _polygon(self, position: int) -> Filter:
        field, numbers = self._field(), []
        while self.accept(","):
            if self.token.kind != "number":
                self.expected("a number for lat" if len(numbers) % 2 == 0 else "a number for lon")
            numbers.append(self._number())
        if len(numbers) % 2:
            self.expected("',' and lon")
        self.expect(")", "',' or ')'")
        return self.build(position, GeoPolygon, field, list(zip(numbers[::2], numbers[1::2], strict=True)))

    def _min_should(self, position: int) -> Filter:
        n, children = self._value("how many of the conditions must hold"), []
        while self.accept(","):
            children.append(self._inner())
        self.expect(")", "',' and a condition, or ')'")
        return self.build(position, MinShould, children, n)


_WORDS = frozenset(("IN", "BETWEEN", "CONTAINS", "MATCH", "STARTSWITH", "GLOB", "SOME", "ANY", *_FOLDED))
_FUNCTIONS: dict[str, Callable[[_Parser, int], Filter]] = {
    "COUNT": _Parser._count,
    "HAS_ID": _Parser._has_id,
    "HAS_VECTOR": _Parser._has_vector,
    "CONCEPT": _Parser._concept,
    "GEO_RADIUS": lambda parser, position: parser._geo(position, nodes.GeoRadius, "lat", "lon", "meters"),
    "GEO_POLYGON": _Parser._polygon,
    "MIN_SHOULD": _Parser._min_should,
    "GEO_BOX": lambda parser, position: parser._geo(position, nodes.GeoBox, "south", "west", "north", "east"),
}


@lru_cache(maxsize=1_024)
def _cached(text: str) -> Filter:
    return _Parser(text).whole()
