"""The options of a search, each declared once, and the checked request that they make.

A declaration in ``SearchOptions`` gives an option its name, type, default, check, documentation and flag of ``vectordb search``. From it
come the parameters of ``search``, ``search_batch`` and ``prepare``, the checks, the form in a message, the key under which checked requests
are kept, and what plans and slow-query logs show. ``OPTIONS`` is the table of all; an entry that is added is an option from then on.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, get_type_hints

import numpy as np

from ..errors import FilterError, InvalidArgumentError, shown
from .aliases import AsOf, BoostLike, ExamplesLike, FilterLike, FusionLike, Selection
from .arguments import NOT_PREPARED, Method, UnknownArgumentError, named, with_options
from .boosts import boosts_as_json, check_boosts
from .checks import check_count, check_flag, check_fuzzy, check_name_list, check_paths, check_recall, check_selection
from .diversity import Diversity, DiversityLike, check_diversity
from .examples import check_listed, check_pool, listed_as_json, listed_shown
from .facets import FacetLike, check_facets, facets_json
from .filter import from_dict
from .filter_nodes import Filter
from .foreign import is_number
from .groups import COUNT, SIZE, check_name
from .history import check_as_of
from .page_options import (
    check_bound,
    check_cursor,
    check_limit,
    check_offset,
    check_order,
    check_radius,
    check_score,
    check_together,
)
from .ranking import DBSF, RRF, Fusion, Linear, Prefetch, Relative, check_prefetch
from .rerank import RerankLike, check_rerank, not_sent, shown_as
from .steering import SteerLike, check_steer, steer_as_json

MAX_KEPT = 512  # checked requests kept for searches with the same options
MAX_KEPT_TEXT = 1 << 14  # characters of a text, such as a filter, in a request that is kept
MAX_KEPT_PARTS = 256  # names and values of a filter given as a dict, in a request that is kept
_PLAIN = frozenset((int, float, bool, type(None)))  # types whose values can be a part of a key
_FILTERS = frozenset(kind for base in Filter.__subclasses__() for kind in (base, *base.__subclasses__()))
_HASHED = _PLAIN | {str, *_FILTERS}  # types whose values are hashed before they are checked
_FUSIONS = frozenset((RRF, Relative, DBSF, Linear))  # whose options are all that they hold


class Flag(NamedTuple):
    """The flag of an option in ``vectordb search``. kind: "text", "count" (an integer > 0), "share" (> 0 and ≤ 1), "limit" (a count or
    "auto"), "whole" (an integer ≥ 0), "number", "names" (separated by commas), "moment" (a state, as ``as_of``) or "switch".
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


def check_filter(name: str, value: Any) -> Any:
    """The check of a filter: a list of filters, one for each query of a batch, becomes a tuple. Filters are read where the search runs."""
    return tuple(value) if isinstance(value, (list, tuple)) else value


def check_filters(filters: Any, batch: bool, queries: int) -> None:
    """Check that a list of filters has one for each query of a batch. Raises InvalidArgumentError."""
    if not isinstance(filters, tuple):
        return
    if not batch:
        what = f"filter of search must be one filter, not {shown(list(filters))}; join them with AND, or write search_batch(…, filter=[…])"
        raise InvalidArgumentError(what, field="filter", value=filters)
    if len(filters) != queries:
        what = f"filter is a list of {len(filters)} filters for {queries} queries; give one filter, or one (or None) for each query"
        raise InvalidArgumentError(what, field="filter", value=len(filters))


@contextlib.contextmanager
def of_query(q: int) -> Iterator[None]:
    """Let errors about a filter name the query of a batch that it belongs to."""
    try:
        yield
    except FilterError as error:
        raise FilterError(f"filter of query {q}: {error.message}", field=error.field, value=error.value) from None


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
        if self.default is None:
            return False
        try:
            return bool(value == self.default)
        except Exception:  # of a foreign object, whose comparison may do anything
            return False


_FILTER = Flag("text", "search only points that match, such as \"lines > 20 AND module = 'json'\"", "EXPR")
_LIMIT = Flag("limit", 'number of hits, or "auto" to end where the scores fall off (default: 10)', "N")
_OFFSET = Flag("whole", "leave out the first N hits", "N")
_CURSOR = Flag("text", "continue after the page that printed this cursor", "CURSOR")
_MIN_SCORE = Flag("number", "only hits that score at least this", "SCORE")
_RADIUS = Flag("number", "of an l2 field: only hits within this squared distance", "DISTANCE")
_SCORE = Flag("text", '"raw" (default), or "calibrated": the share of a sample of points that scores lower', "KIND")
_ORDER = Flag("names", "order by attributes in place of a query, such as --order-by=-date,price", "NAME[,NAME…]")
_RECALL = Flag("share", "target recall, above 0 and at most 1 (default: 0.95)", "SHARE")
_EXACT = Flag("switch", "bypass the indexes and return the exact result")
_VECTORS = Flag("switch", "also show the vectors")
_WITHOUT = Flag("text", "project the direction of this text out of the query of a dense field", "TEXT")
_STEER = Flag("text", "move the query so that concepts of an SAE field have these weights, such as 17=0.8,40=0", "[FIELD:]N=W[,N=W…]")
_RECALL_FLOOR = Flag("text", "let the recall hold for each value of this attribute", "NAME")
_GROUP_BY = Flag("text", "group the hits by the values of this attribute", "NAME")
_GROUP_SIZE = Flag("count", "number of hits in a group (default: 1)", "N")
_GROUPS = Flag("count", "number of groups (default: 10)", "N")
_FACETS = Flag("names", "also count the values of these attributes over all points that match the filter", "NAME[,NAME…]")
_FUSION = Flag("text", "how the scores of several fields are combined: rrf (default), relative, dbsf or linear", "METHOD")
_CANDIDATES = Flag("count", "how many of its best points each field passes to the fusion", "N")
_PAYLOAD = Flag("names", "show only these parts of the payload, such as title,meta.page", "PATH[,PATH…]")
_LIKE = Flag("ids", "search for points like these, in the only dense field, in place of a query; ids as in vectordb get", "ID[,ID…]")
_UNLIKE = Flag("ids", "with --like: points that hits should not be like", "ID[,ID…]")
_POOL = Flag("text", "with --like: how several points make one score: mean (default), max or attention", "KIND")
_DIVERSITY = Flag("number", "choose hits that differ from one another: a weight from 0 to 1, such as 0.3", "WEIGHT")
_FUZZY = Flag("count", "1 or 2 letters of a word may differ, in BM25 fields", "N")
_WILDCARDS = Flag("switch", "in the words of TEXT, * stands for any characters and ? for one, in BM25 fields")
_HIGHLIGHT = Flag("names", "mark the words of TEXT in these attributes", "NAME[,NAME…]")
_AS_OF = Flag("moment", "read the state of this sequence, or of this moment: ISO text, or 2h for two hours ago", "STATE")
_EXPLAIN = Flag("switch", "show the query plan: stages, plans considered, predicted and actual cost")


_IN_VECTORS = ", but it is given as a ``Like`` for each query: ``vectors={field: [Like([…]), …]}``"


class SearchOptions(TypedDict, total=False):
    """The options of ``search``, ``search_batch`` and ``prepare``.

    Attributes:
        filter: an ``F`` expression, a string such as ``"year >= 2020 AND lang = 'en'"``, or its JSON form such as
            ``{"op": "ge", "field": "year", "value": 2020}``. Only matching points are returned.
        limit: the number of hits, at least 1. "auto": at most 100, cut where the scores fall off.
        recall: the share of the true best ``limit`` points that the result should contain on average, above 0 and at most 1. None is
            0.95. For each indexed field the planner takes the cheapest plan that is predicted to reach it under this filter. The
            average is over queries; a single query may get less. Fields without an index and rows not indexed yet are always searched
            exactly. Of several arms, it is the recall of the fused result: its overlap with that of exact arms.
        recall_floor: an attribute of categories, such as ``"lang"``, whose values make groups: the recall asked for is to hold for the
            true results of each group, within 0.03. Background audits measure it, and lift the effort of later searches where a
            group is found less. For searches of one field. ``info()`` shows each group.
        exact: return the exact result. Dense fields are scanned; sparse fields may still use lossless index plans. ``recall=1.0``
            does the same.
        fusion: how the scores of several arms are combined: "rrf", "relative", "dbsf", "linear", or ``RRF(…)``, ``Relative(…)``,
            ``DBSF(…)``, ``Linear(…)`` with weights. "linear" finds the true best sums over all points, unless a recall is given; then
            it only sums the scores of the candidates. ``missing`` of a fusion says how it ranks points that have no vector in a field.
        candidates: how many of its best rows each arm passes to the fusion. None is ``max(100, 4 * limit)``, so another limit can
            change the first hits. With a number given, the first hits are the same for every limit up to it.
        offset: leave out so many hits at the beginning. The rest is that of a search with ``limit=offset + limit``.
        cursor: ``hits.next`` of an earlier page: the next ``limit`` hits of the same search. Pages show the collection as it was at the
            first page: no hit is repeated or left out, whatever is written meanwhile. Points that were deleted since are not shown.
        min_score: only hits with at least this score. It needs one arm whose scores are higher for better hits, linear fusion, or
            ``score="calibrated"``.
        radius: of one arm with an l2 field: only hits with at most this squared distance.
        score: "raw", or "calibrated": the score of an arm is the share of a sample of the field's points, the same for all queries,
            that scores lower, from 0 to 1. Of several arms it is the mean of their shares, weighted as the fusion says.
        order_by: attributes that order the points, in place of a query; "-" in front: descending. Null comes last, of equal points the
            older row comes first. ``hits.next`` continues.
        prefetch: a ``Prefetch`` stage. Only its hits are ranked, by exact scores.
        with_attributes: True for all attributes and the payload, a list of attributes, or False for neither.
        with_vectors: True for all vector fields, a list of fields, or False for none.
        with_payload: True for the payload, a list of paths such as ``["title", "meta.page"]`` for a part of it, or False for none. None
            follows ``with_attributes``: the payload, unless that is False.
        fuzzy: 1 or 2 letters of a word of ``text`` may differ in BM25 fields: left out, added, replaced, or swapped with the next.
            Words of less than 3 characters never differ, those of less than 6 by one. A word found at a distance d counts 1 / (1 + d).
        wildcards: in the words of ``text``, ``*`` stands for any characters and ``?`` for one, in BM25 fields.
        highlight: names of attributes with text. Each hit says where the words of the query are in them (``hit.highlights``).
        explain: fill in ``hits.plan``, which says how the search was run.
        like: ids or vectors of the only dense field, or field → such a list: search for points like these (``Like``). Points whose ids
            are given are left out. ``unlike``, ``pool`` and ``context`` belong to it. ``search_batch`` takes ``Like`` in ``vectors``.
        unlike: ids or vectors that hits should not be like; a list or a mapping as ``like``.
        pool: how several examples make one score: "mean", "max" or "attention" (``Like`` has the formulas).
        context: pairs (positive, negative) of ids or vectors: points are to be nearer to the positive one of each pair.
        boost: ``Decay(…)``, ``Value(…)``, ``If(…)`` or a list of them: factors by attributes, with which the scores are multiplied. A
            factor above 1 moves a point up (a distance or a negative score is divided by it). The hits are the best of all points with
            their factors, as exactly as they would be without; RRF, relative and dbsf boost their candidates.
        without: a text, a list of texts or vectors for all fields of the search, or field → such a list; of dense fields. The part of
            the query along them is projected out: it becomes q − Σ (q · u) u over the orthonormal directions u that they span.
        steer: concept → the weight that it is to have in the query, which is moved along the concept's direction: a vector scaled to
            length 1 usually has up to 0.6 of one, and 0 takes the concept away. ``{17: 0.8}``, or field → such a mapping where several
            fields hold concepts (``SAE``) of the dense field that is searched.
        diversity: choose hits that differ from one another (maximal marginal relevance): a weight from 0 to 1, such as 0.3, or
            ``Diversity(weight, field=…, over=…)``. Hits come in the order in which they were chosen, with the scores of the search.
        rerank: put the best hits in a new order by a function, or by ``Rerank(…)``, which can be a cross-encoder. It runs where
            ``search`` is called, also with a client. ``hits.reranked`` has its scores; the scores of the hits stay those of the search.
        group_by: an attribute, whose values make groups of hits: the best ``groups`` of them, each with its best ``group_size`` hits.
            The hits come group by group, and ``hits.groups`` has them as groups. Points without a value are in no group. An array makes
            its points members of several groups. ``limit`` is not used.
        group_size: the number of hits in a group.
        groups: the number of groups.
        facets: count the values of attributes over all points that match the filter: names, ``Facet`` and ``Range``, one or a list. The
            results are in ``hits.facets``, by name.
        as_of: read the collection as it was: a sequence number, or a moment (a datetime with a time zone, or ISO text such as
            ``"2026-11-30T18:00:00Z"``), which means the last write until then. The collection must keep its history (``keep_history``).
    """

    # Plans and logs show the filter in its canonical form, and each stage by itself.
    filter: Annotated[
        FilterLike | None,
        Option(None, check_filter, _FILTER, batch_doc="; or a list of n filters, one for each query, None for a query without", show=None),
    ]
    limit: Annotated[int | Literal["auto"], Option(10, check_limit, _LIMIT)]
    recall: Annotated[float | None, Option(None, check_recall, _RECALL)]
    recall_floor: Annotated[str | None, Option(None, check_name, _RECALL_FLOOR)]
    exact: Annotated[bool, Option(False, check_flag, _EXACT)]
    fusion: Annotated[FusionLike, Option("rrf", as_it_is, _FUSION)]
    candidates: Annotated[int | None, Option(None, check_count, _CANDIDATES)]
    prefetch: Annotated[Prefetch | None, Option(None, check_prefetch, batch_doc="; its queries are n as well", show=None)]
    with_attributes: Annotated[Selection, Option(True, check_selection)]
    with_vectors: Annotated[Selection, Option(False, check_selection, _VECTORS)]
    with_payload: Annotated[Selection | None, Option(None, check_paths, _PAYLOAD)]
    fuzzy: Annotated[int, Option(0, check_fuzzy, _FUZZY)]
    wildcards: Annotated[bool, Option(False, check_flag, _WILDCARDS)]
    highlight: Annotated[Sequence[str] | None, Option(None, check_name_list, _HIGHLIGHT)]
    explain: Annotated[bool, Option(False, check_flag, _EXPLAIN, batch_doc="; every result has the plan of the first query", show=None)]
    offset: Annotated[int, Option(0, check_offset, _OFFSET)]
    cursor: Annotated[str | None, Option(None, check_cursor, _CURSOR, batch_doc=", and refused here", show=lambda value: value[:12] + "…")]
    min_score: Annotated[float | None, Option(None, check_bound, _MIN_SCORE)]
    radius: Annotated[float | None, Option(None, check_radius, _RADIUS)]
    score: Annotated[Literal["raw", "calibrated"], Option("raw", check_score, _SCORE)]
    order_by: Annotated[Sequence[str] | str | None, Option(None, check_order, _ORDER, batch_doc=", and refused here")]
    like: Annotated[
        ExamplesLike | None, Option(None, check_listed, _LIKE, show=listed_shown, to_json=listed_as_json, batch_doc=_IN_VECTORS)
    ]
    unlike: Annotated[
        ExamplesLike | None, Option(None, check_listed, _UNLIKE, show=listed_shown, to_json=listed_as_json, batch_doc=_IN_VECTORS)
    ]
    pool: Annotated[str, Option("mean", check_pool, _POOL, batch_doc=_IN_VECTORS)]
    context: Annotated[ExamplesLike | None, Option(None, check_listed, show=listed_shown, to_json=listed_as_json, batch_doc=_IN_VECTORS)]
    boost: Annotated[BoostLike | None, Option(None, check_boosts, show=boosts_as_json, to_json=boosts_as_json)]
    without: Annotated[ExamplesLike | str | None, Option(None, check_listed, _WITHOUT, show=listed_shown, to_json=listed_as_json)]
    steer: Annotated[SteerLike | None, Option(None, check_steer, _STEER, show=steer_as_json, to_json=steer_as_json)]
    diversity: Annotated[DiversityLike | None, Option(None, check_diversity, _DIVERSITY, show=Diversity.to_json, to_json=Diversity.to_json)]
    rerank: Annotated[RerankLike | None, Option(None, check_rerank, show=shown_as, to_json=not_sent)]
    group_by: Annotated[str | None, Option(None, check_name, _GROUP_BY)]
    group_size: Annotated[int, Option(SIZE, check_count, _GROUP_SIZE)]
    groups: Annotated[int, Option(COUNT, check_count, _GROUPS)]
    facets: Annotated[FacetLike | None, Option(None, check_facets, _FACETS, show=facets_json, to_json=facets_json)]
    as_of: Annotated[AsOf, Option(None, check_as_of, _AS_OF)]


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
        check_together(values, {name for name in options if name in OPTIONS and not OPTIONS[name].is_default(values[name])})
        self.__dict__.update(values, reusable=reusable)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> SearchRequest:
        """The request of some options. Equal plain options, with filters of equal value, give the same request while it is kept."""
        if options.get("cursor") is not None:  # a page is read once
            return cls(options)
        # As ``_key`` makes it of values that can be a part of a key. Values of other types may do anything when they are hashed.
        if _HASHED.issuperset(map(type, options.values())):
            key: tuple | None = (*map(OPTIONS.get, options), *map(type, options.values()), *options.values())
        else:
            key = _key(options)
        request = None if key is None else _kept.get(key)
        if request is None:
            key = _key(options)
            request = cls._with_another_filter(options) or cls(options, key is not None)
            if key is not None:
                if isinstance(request.filter, dict):
                    request.__dict__["filter"] = _copied(request.filter)
                if type(request.fusion) in _FUSIONS:
                    request.__dict__["fusion"] = replace(request.fusion)  # the caller may change its weights
                if len(_kept) >= MAX_KEPT:
                    _forget()
                _kept[key] = request
                if request.filter is not None and "_unfiltered" not in request.__dict__:
                    unfiltered = request.__dict__["_unfiltered"] = cls.of(_without_filter(options))
                    unfiltered.__dict__["_with_filter"] = {name: request.__dict__[name] for name in (*OPTIONS, "reusable")}
        return request

    @classmethod
    def _with_another_filter(cls, options: Mapping[str, Any]) -> SearchRequest | None:
        """The request of options that were checked with another filter; None where they weren't. Most searches with a new filter are
        like one before in all else.
        """
        value = options.get("filter")
        if type(value) not in _FILTERS:
            return None
        unfiltered = cls.of(_without_filter(options))
        checked = unfiltered.__dict__.get("_with_filter")
        if checked is None:
            return None
        request = object.__new__(cls)
        request.__dict__.update(checked, filter=OPTIONS["filter"].check("filter", value), _unfiltered=unfiltered)
        return request

    @classmethod
    def prepared(cls, options: Mapping[str, Any]) -> SearchRequest:
        """The request of a prepared search. It doesn't change with a dict that the caller gave as the filter."""
        request = cls(options, True)
        if request.prefetch is not None:
            raise InvalidArgumentError(NOT_PREPARED, field="prefetch")
        if isinstance(request.filter, tuple):
            what = "filter of prepare must be one filter; a list of filters is for search_batch(…, filter=[…])"
            raise InvalidArgumentError(what, field="filter", value=request.filter)
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


def _without_filter(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in sorted(options) if name != "filter"}


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
        elif kind is dict or kind in _FUSIONS:
            parts: list[Any] = []
            if not _add_parts(value if kind is dict else vars(value), parts):
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
