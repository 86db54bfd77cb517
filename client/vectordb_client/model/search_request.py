"""The options of a search, each declared once, and the checked request that they make.

A declaration in ``SearchOptions`` gives an option its name, type, default, check, documentation and flag of ``vectordb search``. From it
come the parameters of ``search``, ``search_batch`` and ``prepare``, the checks, the form in a message, the key under which checked requests
are kept, and what plans and slow-query logs show. ``OPTIONS`` is the table of all; an entry that is added is an option from then on.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple, TypedDict, get_type_hints

import numpy as np

from ..errors import InvalidArgumentError
from .aliases import FilterLike, FusionLike, Selection
from .arguments import NOT_PREPARED, Method, UnknownArgumentError, named, with_options
from .checks import check_count, check_flag, check_fuzzy, check_listed, check_recall, check_selection
from .filter import from_dict
from .filter_nodes import Filter
from .foreign import is_number
from .ranking import Fusion, Prefetch, check_prefetch

MAX_KEPT = 512  # checked requests kept for searches with the same options
MAX_KEPT_TEXT = 1 << 14  # characters of a text, such as a filter, in a request that is kept
MAX_KEPT_PARTS = 256  # names and values of a filter given as a dict, in a request that is kept
_PLAIN = frozenset((int, float, bool, type(None)))  # types whose values can be a part of a key
_FILTERS = (kind for base in Filter.__subclasses__() for kind in (base, *base.__subclasses__()))
_HASHED = _PLAIN | {str, *_FILTERS}  # types whose values are hashed before they are checked


class Flag(NamedTuple):
    """The flag of an option in ``vectordb search``. kind: "text", "names" (with commas between), "count" (an integer > 0),
    "share" (> 0 and ≤ 1) or "switch".
    """

    kind: str
    help: str
    metavar: str | None = None


def _as_json(value: Any) -> Any:
    """A value as plans and logs show it: of a fusion its name, with the options that aren't their defaults."""
    if isinstance(value, Fusion):
        options, defaults = value.options, type(value)().options
        options["weights"] = {name: float(weight) for name, weight in sorted(value.weights.items())}
        options = {name: float(each) if is_number(each) else each for name, each in options.items() if each != defaults[name]}
        return {"method": value.name, **options} if options else value.name
    return list(value) if isinstance(value, tuple) else value


def as_it_is(name: str, value: Any) -> Any:
    """The check of values that are checked where the search runs: a filter against the schema, a fusion by its name."""
    return value


@dataclass(frozen=True, eq=False)
class Option:
    """The declaration of an option of a search.

    default: what a search without it has. check: (name, value) → the checked value, or InvalidArgumentError; it isn't called for None where
    None is the default. flag: of ``vectordb search``. batch_doc: what is different in ``search_batch``. show: value → JSON value for plans
    and logs; None doesn't show it. to_json: value → JSON value for a message, which ``check`` takes back; it isn't used for options with a
    field of their own in the message. type: the annotation, as text.
    """

    default: Any
    check: Callable[[str, Any], Any]
    flag: Flag | None = None
    batch_doc: str = ""
    show: Callable[[Any], Any] | None = _as_json
    to_json: Callable[[Any], Any] = _as_json
    type: str = "Any"

    def is_default(self, value: Any) -> bool:
        """Whether a value is the default, or equal to it. The same NaN is; an array is where all of its elements are equal."""
        if value is self.default:
            return True
        if isinstance(value, np.ndarray) or isinstance(self.default, np.ndarray):
            return np.array_equal(value, self.default)
        return bool(value == self.default)


_FILTER = Flag("text", "search only points that match, such as \"lines > 20 AND module = 'json'\"", "EXPR")
_LIMIT = Flag("count", "number of hits (default: 10)", "N")
_RECALL = Flag("share", "target recall, above 0 and at most 1 (default: 0.95)", "SHARE")
_EXACT = Flag("switch", "bypass the indexes and return the exact result")
_VECTORS = Flag("switch", "also show the vectors")
_FUZZY = Flag("count", "1 or 2 letters of a word may differ, in BM25 fields", "N")
_WILDCARDS = Flag("switch", "in the words of TEXT, * stands for any characters and ? for one, in BM25 fields")
_HIGHLIGHT = Flag("names", "mark the words of TEXT in these attributes", "NAME[,NAME…]")
_EXPLAIN = Flag("switch", "show the query plan: stages, plans considered, predicted and actual cost")


class SearchOptions(TypedDict, total=False):
    """The options of ``search``, ``search_batch`` and ``prepare``.

    Attributes:
        filter: an ``F`` expression, a string such as ``"year >= 2020 AND lang = 'en'"``, or its JSON form such as
            ``{"op": "ge", "field": "year", "value": 2020}``. Only matching points are returned.
        limit: the number of hits, at least 1.
        recall: the share of the true best ``limit`` points that the result should contain on average, above 0 and at most 1. None is
            0.95. For each indexed field the planner takes the cheapest plan that is predicted to reach it under this filter. The
            average is over queries; a single query may get less. Fields without an index, multi-vectors and rows not indexed yet are
            always searched exactly. Of several arms, it is the recall of the fused result: its overlap with that of exact arms.
        exact: return the exact result. Dense fields are scanned; sparse fields may still use lossless index plans. ``recall=1.0``
            does the same.
        fusion: how the scores of several arms are combined: "rrf", "relative", "dbsf", "linear", or ``RRF(…)``, ``Relative(…)``,
            ``DBSF(…)``, ``Linear(…)`` with weights. "linear" finds the true best sums over all points, unless a recall is given; then
            it only sums the scores of the candidates. ``missing`` of a fusion says how it ranks points that have no vector in a field.
        candidates: how many of its best rows each arm passes to the fusion. None is ``max(100, 4 * limit)``, so another limit can
            change the first hits. With a number given, the first hits are the same for every limit up to it.
        prefetch: a ``Prefetch`` stage. Only its hits are ranked, by exact scores.
        with_attributes: True for all attributes and the payload, a list of attributes, or False for neither.
        with_vectors: True for all vector fields, a list of fields, or False for none.
        fuzzy: 1 or 2 letters of a word of ``text`` may differ in BM25 fields: left out, added, replaced, or swapped with the next.
            Words of less than 3 characters never differ, those of less than 6 by one. A word found at a distance d counts 1 / (1 + d).
        wildcards: in the words of ``text``, ``*`` stands for any characters and ``?`` for one, in BM25 fields.
        highlight: names of attributes with text. Each hit says where the words of the query are in them (``hit.highlights``).
        explain: fill in ``hits.plan``, which says how the search was run.
    """

    # Plans and logs show the filter in its canonical form, and each stage by itself.
    filter: Annotated[FilterLike | None, Option(None, as_it_is, _FILTER, show=None)]
    limit: Annotated[int, Option(10, check_count, _LIMIT)]
    recall: Annotated[float | None, Option(None, check_recall, _RECALL)]
    exact: Annotated[bool, Option(False, check_flag, _EXACT)]
    fusion: Annotated[FusionLike, Option("rrf", as_it_is)]
    candidates: Annotated[int | None, Option(None, check_count)]
    prefetch: Annotated[Prefetch | None, Option(None, check_prefetch, batch_doc="; its queries are n as well", show=None)]
    with_attributes: Annotated[Selection, Option(True, check_selection)]
    with_vectors: Annotated[Selection, Option(False, check_selection, _VECTORS)]
    fuzzy: Annotated[int, Option(0, check_fuzzy, _FUZZY)]
    wildcards: Annotated[bool, Option(False, check_flag, _WILDCARDS)]
    highlight: Annotated[Sequence[str] | None, Option(None, check_listed, _HIGHLIGHT)]
    explain: Annotated[bool, Option(False, check_flag, _EXPLAIN, batch_doc="; every result has the plan of the first query", show=None)]


def _declared() -> dict[str, Option]:
    """The options of ``SearchOptions`` by name, each with its type as it is written there."""
    hints = get_type_hints(SearchOptions, include_extras=True)
    texts = {name: str(getattr(value, "__forward_arg__", value)) for name, value in SearchOptions.__annotations__.items()}
    types = {name: text.removeprefix("Annotated[").partition(", Option(")[0] for name, text in texts.items()}
    return {name: replace(hint.__metadata__[0], type=types[name]) for name, hint in hints.items()}


OPTIONS: dict[str, Option] = _declared()


class SearchRequest:
    """What a search asks for besides its queries: each option as an attribute, checked. Immutable.

    Attributes:
        reusable: whether later searches get the same object, so that what was made for this request is worth keeping.
    """

    reusable: bool

    def __init__(self, options: Mapping[str, Any], reusable: bool = False):
        """Check options. Raises InvalidArgumentError, or UnknownArgumentError for a name that is not in ``OPTIONS``."""
        values = {name: option.default for name, option in OPTIONS.items()}
        for name, value in options.items():
            option = OPTIONS.get(name)
            if option is None:
                raise UnknownArgumentError(f"a search has no option {name!r}; there are: {', '.join(OPTIONS)}", field=name, value=value)
            values[name] = value if value is None and option.default is None else option.check(name, value)
        self.__dict__.update(values, reusable=reusable)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> SearchRequest:
        """The request of some options. Equal plain options, with filters of equal value, give the same request while it is kept."""
        # As ``_key`` makes it of values that can be a part of a key. Values of other types may do anything when they are hashed.
        if _HASHED.issuperset(map(type, options.values())):
            key: tuple | None = (*map(OPTIONS.get, options), *map(type, options.values()), *options.values())
        else:
            key = _key(options)
        request = None if key is None else _kept.get(key)
        if request is None:
            key = _key(options)
            request = cls(options, key is not None)
            if key is not None:
                if isinstance(request.filter, dict):
                    request.__dict__["filter"] = _copied(request.filter)
                if len(_kept) >= MAX_KEPT:
                    _forget()
                _kept[key] = request
                if request.filter is not None:
                    request.__dict__["_unfiltered"] = cls.of({name: options[name] for name in sorted(options) if name != "filter"})
        return request

    @classmethod
    def prepared(cls, options: Mapping[str, Any]) -> SearchRequest:
        """The request of a prepared search. It doesn't change with a dict that the caller gave as the filter."""
        request = cls(options, True)
        if request.prefetch is not None:
            raise InvalidArgumentError(NOT_PREPARED, field="prefetch")
        if isinstance(request.filter, Mapping):
            request.__dict__["filter"] = from_dict(request.filter)
        return request

    @property
    def unfiltered(self) -> SearchRequest:
        """The request of the same options without a filter."""
        known = self.__dict__.get("_unfiltered")
        if known is None:
            known = SearchRequest.of({name: value for name, value in self.changed().items() if name != "filter"})
            self.__dict__["_unfiltered"] = known
        return known

    def changed(self) -> dict[str, Any]:
        """The values of the options that differ from their defaults."""
        values = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in values.items() if not OPTIONS[name].is_default(value)}

    def shown(self) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON values, for plans and logs."""
        return {name: show(value) for name, value in self.changed().items() if (show := OPTIONS[name].show) is not None}

    def __getattr__(self, name: str) -> Any:
        if name in OPTIONS:  # it was added to the table after this request was made
            return OPTIONS[name].default
        raise AttributeError(f"a search has no option {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a search request can't be changed: {name}")

    def __repr__(self) -> str:
        return f"SearchRequest({', '.join(f'{name}={value!r}' for name, value in self.changed().items())})"


_kept: dict[tuple, SearchRequest] = {}


def _forget() -> None:
    """Make room for other requests. Those without a filter stay if they are not the most: there are few, and each serves many filters."""
    plain = {key: request for key, request in _kept.copy().items() if request.filter is None}
    _kept.clear()
    if len(plain) < MAX_KEPT // 2:
        _kept.update(plain)


def _key(options: Mapping[str, Any]) -> tuple | None:
    """A key for equal options: their declarations, the types of their values, and the values. The types are needed because 1, True and 1.0
    are equal as keys, but not all of them are valid. None if some values may change or can't be compared.
    """
    values = []
    for value in options.values():
        kind = type(value)
        if kind in _PLAIN or (kind is str and len(value) <= MAX_KEPT_TEXT) or isinstance(value, Filter):
            values.append(value)
        elif kind in (list, tuple) and all(type(each) is str for each in value):
            values.append(tuple(value))
        elif kind is dict:
            parts: list[Any] = []
            if not _add_parts(value, parts):
                return None
            values.append(tuple(parts))
        else:
            return None
    return (*map(OPTIONS.get, options), *map(type, options.values()), *values)


def _add_parts(value: Any, parts: list[Any]) -> bool:
    """Add what a filter in its JSON form consists of to a list that can be compared. False if it is large, or holds something else."""
    kind = type(value)
    parts.append(kind)
    if len(parts) > MAX_KEPT_PARTS:
        return False
    if kind in _PLAIN or (kind is str and len(value) <= MAX_KEPT_TEXT):
        parts.append(value)
        return True
    if kind is dict:
        parts.append(len(value))
        for name, each in value.items():
            if type(name) is not str or not _add_parts(each, parts):
                return False
            parts.append(name)
        return True
    if kind is list or kind is tuple:
        parts.append(len(value))
        return all(_add_parts(each, parts) for each in value)
    return False


def _copied(value: Any) -> Any:
    """A copy of a filter in its JSON form, which doesn't change with the caller's."""
    if type(value) is dict:
        return {name: _copied(each) for name, each in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value


def takes_options(method: Method) -> Method:
    """Wrap a method with ``**options: Unpack[SearchOptions]``: its signature and its docstring get a line for each option, and unknown
    names raise UnknownArgumentError. In the docstring the options stand in the place of an argument ``options``. ``prepare`` refuses a
    prefetch, so it doesn't list it.
    """

    def options() -> dict[str, Option]:
        return {name: option for name, option in OPTIONS.items() if (method.__name__, name) != ("prepare", "prefetch")}

    wrapped = named(method, options)
    setattr(wrapped, "__signature__", with_options(inspect.signature(method), options()))  # noqa: B010
    if method.__name__ == "search":
        lines = textwrap.dedent(inspect.cleandoc(SearchOptions.__doc__ or "").partition("Attributes:\n")[2])
    else:
        batch = method.__name__ == "search_batch"
        lines = "\n".join(f"{name}: as in ``search``{option.batch_doc * batch}." for name, option in options().items())
    wrapped.__doc__ = re.sub(r"^( *)options: .*$", lambda line: textwrap.indent(lines, line[1]), method.__doc__ or "", count=1, flags=re.M)
    return wrapped
