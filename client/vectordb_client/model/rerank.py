"""The last stage of a search: a function, or a cross-encoder, puts the best hits in a new order. It runs where ``search`` is called."""

from __future__ import annotations

import math
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EncoderError, InvalidArgumentError, shown
from .arguments import named_class
from .arms import Arm
from .checks import check_count, check_flag
from .foreign import is_integer, is_number
from .plan import Plan

if TYPE_CHECKING:
    from .results import Hit, Hits
    from .search_request import SearchRequest

REPEATS = 3  # knockouts of ``pairwise=True``
MAX_REPEATS = 100
BLOCK = 16  # hits that are scored between two looks at the budget
_SPEC = re.compile(r"\s*cross-encoder\s*\(\s*model\s*=\s*(\"[^\"]*\"|'[^']*'|[^,\"']+?)\s*\)\s*")
_INSTALL = "pip install 'sentence-transformers>=5.1'"
# Options of a search that say something else about the order of hits → what to write instead.
_OTHER_ORDERS = {
    "diversity": "the order of one would undo that of the other; give one of them",
    "group_by": "rerank the hits of each group after the search",
    "offset": "a page of reranked hits isn't defined; raise limit and slice the hits",
    "cursor": "a page of reranked hits isn't defined; raise limit and slice the hits",
    "order_by": "give one of them",
}


@named_class
@dataclass(frozen=True)
class Rerank:
    """Put the best hits of a search in a new order. The function runs in the program that calls ``search``, also with a client.

    Attributes:
        by: a function ``(query, hits) → scores``, one number for each hit, higher is better; with ``pairwise`` a function ``(query, a, b)``
            that returns whether hit a is better than hit b. ``query`` is the text of the search if it has one, else its vectors. Or
            "cross-encoder(model=FOLDER)", a CrossEncoder model of sentence-transformers in a folder.
        over: how many of the best hits of the search are put in order; at least ``limit``.
        pairwise: compare hits in knockouts. An integer is their number, True is 3. Hits are ordered by the matches they won; equal ones
            keep their order. One knockout of n hits has n − 1 matches.
        budget_ms: no function is called any more after so many milliseconds. Hits that were not scored follow in the order of the search.
            None: no limit.
        source: the attribute with the text of a hit, for a cross-encoder.

    Example:
        ```python
        def longest(query, hits):
            return [len(hit.attributes["body"]) for hit in hits]

        hits = docs.search(text="short question", limit=10, rerank=Rerank(longest, over=30))
        hits.reranked  # the scores
        ```
    """

    by: Callable[..., Any] | str
    over: int = 50
    pairwise: bool | int = False
    budget_ms: float | None = None
    source: str | None = None


RerankLike = Callable[..., Any] | str | Rerank


def check_rerank(name: str, value: Any) -> Rerank:
    """Check a ``Rerank``, or what its first argument may be. Raises InvalidArgumentError or EncoderError."""
    given = value if isinstance(value, Rerank) else Rerank(value)
    if isinstance(given.by, str):
        folder_of(given.by)
        if given.pairwise is not False:
            raise InvalidArgumentError("a cross-encoder scores one hit at a time; leave out pairwise", field=name, value=given.pairwise)
        if not isinstance(given.source, str):
            what = f"a cross-encoder reads the text of an attribute: Rerank({given.by!r}, source='body')"
            raise InvalidArgumentError(what, field=name, value=given.source)
    elif not callable(given.by):
        what = f"{name} must be a function, Rerank(function) or Rerank('cross-encoder(model=FOLDER)', source=…), not {shown(value)}"
        raise InvalidArgumentError(what, field=name, value=value)
    elif given.source is not None:
        what = f"source is for a cross-encoder; a function reads hit.attributes[{given.source!r}] itself"
        raise InvalidArgumentError(what, field=name, value=given.source)
    check_count("over of Rerank", given.over)
    if not isinstance(given.pairwise, bool) and not (is_integer(given.pairwise) and 1 <= given.pairwise <= MAX_REPEATS):
        what = f"pairwise of Rerank must be True, False or a number of knockouts from 1 to {MAX_REPEATS}, not {shown(given.pairwise)}"
        raise InvalidArgumentError(what, field=name, value=given.pairwise)
    if given.budget_ms is not None and not (is_number(given.budget_ms) and 0 < given.budget_ms < math.inf):
        what = f"budget_ms of Rerank must be a number of milliseconds above 0, not {shown(given.budget_ms)}"
        raise InvalidArgumentError(what, field=name, value=given.budget_ms)
    return given


def shown_as(rerank: Rerank) -> dict[str, Any]:
    """What plans and logs show."""
    by = rerank.by if isinstance(rerank.by, str) else getattr(rerank.by, "__name__", type(rerank.by).__name__)
    return {"by": by, "over": rerank.over} | ({"pairwise": rerank.pairwise} if rerank.pairwise else {})


def not_sent(rerank: Rerank) -> Any:
    """Raises InvalidArgumentError: functions aren't sent to a service."""
    raise InvalidArgumentError("rerank runs where search is called; it isn't sent to a service", field="rerank")


class Late:
    """The last stage of a request. request: what is searched before it."""

    def __init__(self, request: SearchRequest, make: Callable[[Mapping[str, Any]], SearchRequest]):
        """make: checked options → a request. Raises InvalidArgumentError if other options don't go together with it."""
        self.rerank: Rerank = request.__dict__["rerank"]
        changed = request.changed()
        for name, advice in _OTHER_ORDERS.items():
            if name in changed:
                raise InvalidArgumentError(f"rerank and {name} don't go together; {advice}", field="rerank", value=changed[name])
        source, selected = self.rerank.source, request.with_attributes
        if source is not None and selected is not True and (selected is False or source not in selected):
            what = f"with_attributes leaves out {source!r}, which the cross-encoder reads: with_attributes=[{source!r}, …]"
            raise InvalidArgumentError(what, field="with_attributes", value=selected)
        del changed["rerank"]
        self.limit, self.shown = request.limit, request.shown()["rerank"]
        self.request = make(changed | {"limit": max(self.rerank.over, request.limit)})

    def results(self, found: Any, vectors: Any, text: Any, batch: bool) -> Any:
        """The hits of one query, or with ``batch`` of each query, in their new order."""
        if not batch:
            return self._ordered(_query(vectors, text, None), found)
        return [self._ordered(_query(vectors, text, q), hits) for q, hits in enumerate(found)]

    def _ordered(self, query: Any, hits: Hits) -> Hits:
        started = time.perf_counter()
        end = math.inf if self.rerank.budget_ms is None else started + self.rerank.budget_ms / 1000
        listed = list(hits)
        scores = _knockouts(self.rerank, query, listed, end) if self.rerank.pairwise else _scores(self.rerank, query, listed, end)
        order = sorted(range(len(listed)), key=lambda i: (scores[i] is None, -(scores[i] or 0.0)))[: self.limit]
        plan = None
        if hits.plan is not None:
            took = {"rerank": round(1000 * (time.perf_counter() - started), 4)}
            request = hits.plan["request"] | {"rerank": self.shown, "limit": self.limit}
            facts = {"hits": len(listed), "scored": sum(score is not None for score in scores)}
            plan = Plan(hits.plan | {"request": request, "rerank": facts, "milliseconds": hits.plan["milliseconds"] | took})
        made = type(hits)([listed[i] for i in order], plan)
        made.reranked = tuple([scores[i] for i in order])
        if hits.facets:
            made.facets = hits.facets
        return made


def _asked(value: Any, q: int | None) -> Any:
    """The query of a field, or of an arm with a name of its own; of a batch the q-th."""
    if isinstance(value, Arm):
        value = value.query
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):  # (field, query)
        value = value[1]
    return value if q is None else value[q]


def _query(vectors: Any, text: Any, q: int | None) -> Any:
    """The query as the function gets it: its text, or field → text if there are several, else field → vector. q: its number in a batch."""
    given = text if text is not None else vectors
    if isinstance(given, Mapping):
        given = {name: _asked(value, q) for name, value in given.items()}
        return next(iter(given.values())) if text is not None and len(given) == 1 else given
    return given if q is None else given[q]


def _scores(rerank: Rerank, query: Any, hits: list[Hit], end: float) -> list[float | None]:
    """The score of each hit; None where the budget ended before."""
    score = _cross_encoder(rerank) if isinstance(rerank.by, str) else rerank.by
    scores: list[float | None] = []
    block = max(len(hits), 1) if end == math.inf else BLOCK
    for low in range(0, len(hits), block):
        if time.perf_counter() >= end:
            break
        some = hits[low : low + block]
        given = score(query, some)
        values = [float(each) if is_number(each) else math.nan for each in given] if hasattr(given, "__iter__") else []
        if len(values) != len(some) or not all(map(math.isfinite, values)):
            what = f"the function of rerank must return a finite number for each of {len(some)} hits, not {shown(given)}"
            raise InvalidArgumentError(what, field="rerank", value=given)
        scores += values
    return scores + [None] * (len(hits) - len(scores))


def _knockouts(rerank: Rerank, query: Any, hits: list[Hit], end: float) -> list[float | None]:
    """The matches that each hit won. Each knockout pairs the hits anew, at random, and the same way in every call."""
    compare: Any = rerank.by
    wins = [0.0] * len(hits)
    for repeat in range(REPEATS if rerank.pairwise is True else int(rerank.pairwise)):
        left = list(range(len(hits)))
        random.Random(repeat).shuffle(left)
        while len(left) > 1:
            following = left[len(left) & ~1 :]  # the last of an odd number has no match in this round
            for a, b in zip(left[::2], left[1::2], strict=False):
                if time.perf_counter() >= end:
                    return list(wins)
                better = compare(query, hits[a], hits[b])
                winner = a if check_flag("what the function of rerank returns", better) else b
                wins[winner] += 1
                following.append(winner)
            left = following
    return list(wins)


# ---- Cross-encoders ----

_models: dict[str, Any] = {}
_lock = threading.Lock()


def folder_of(spec: str) -> Path:
    """The folder of the model of "cross-encoder(model=FOLDER)". Raises EncoderError."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        what = f"rerank must be a function or 'cross-encoder(model=FOLDER)', not {shown(spec)}"
        raise EncoderError(what, field="rerank", value=spec)
    folder = Path(match[1].strip("\"'")).expanduser()
    if not (folder / "config.json").is_file():
        what = f"rerank finds no model at {shown(str(folder))}; give a folder with a CrossEncoder model (models are not downloaded)"
        raise EncoderError(what, field="rerank", value=spec)
    return folder


def _cross_encoder(rerank: Rerank) -> Callable[[Any, list[Hit]], Any]:
    """The function that scores hits by a cross-encoder. Raises EncoderError if the library or the model can't be loaded."""
    source = rerank.source
    assert isinstance(rerank.by, str) and source is not None
    folder = str(folder_of(rerank.by))
    with _lock:
        model = _models.get(folder)
        if model is None:
            try:
                from sentence_transformers import CrossEncoder
            except ImportError as error:
                raise EncoderError(f"a cross-encoder needs sentence-transformers: {_INSTALL}", field="rerank", value=rerank.by) from error
            try:
                model = _models[folder] = CrossEncoder(folder, local_files_only=True)
            except Exception as error:  # of any library that reads the files
                raise EncoderError(f"rerank can't load the model in {folder}: {error}", field="rerank", value=rerank.by) from error

    def score(query: Any, hits: list[Hit]) -> list[float]:
        if not isinstance(query, str):
            raise InvalidArgumentError("a cross-encoder needs the text of the query: search(text=…)", field="text", value=query)
        texts = [hit.attributes.get(source) for hit in hits]
        texts = [" ".join(map(str, text)) if isinstance(text, list) else "" if text is None else str(text) for text in texts]
        with _lock:
            given = model.predict([(query, text) for text in texts], show_progress_bar=False)
        return [float(each) for each in given]

    return score


def late_of(request: SearchRequest, make: Callable[[Mapping[str, Any]], SearchRequest]) -> Late | None:
    """The last stage of a request; None if it has none. Raises InvalidArgumentError."""
    return None if request.__dict__.get("rerank") is None else Late(request, make)
