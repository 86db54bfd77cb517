"""Arguments of methods: an error for unknown and missing ones that says what to write, and the documentation of a timeout."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from ..errors import InvalidArgumentError

Method = TypeVar("Method", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)
_MEANT = {
    "limit": "k top_k topk n n_results num_results max_results size top count",
    "vectors": "vector query queries query_vector query_vectors query_embeddings embedding embeddings data fields",
    "text": "query query_text query_texts texts document documents",
    "filter": "where filters query_filter scroll_filter expr condition",
    "attributes": "metadata metadatas properties fields columns",
    "payload": "payloads document documents",
    "ids": "id point_id point_ids keys",
    "with_attributes": "with_metadata include_metadata include output_fields",
    "with_payload": "with_payloads include_payload",
    "with_vectors": "with_vector include_vectors include_values return_vectors",
    "cursor": "offset next_page_offset page_token",
    "chunk": "batch_size chunk_size",
    "parallel": "max_workers workers threads num_threads",
    "fusion": "ranker",
    "rerank": "reranker",
    "schema": "vectors_config vectors attributes fields metadata dimension dim vector_size",
    "exist_ok": "if_not_exists get_or_create exists_ok overwrite",
    "exact": "exhaustive brute_force",
    "explain": "debug profile",
    "like": "positive positives examples recommend more_like_this similar_to",
    "unlike": "negative negatives",
    "boost": "boosts score_boost function_score formula rescore",
    "facets": "facet aggregations aggs",
    "functions": "aggregations metrics",
    "dim": "dims dimension dimensions ndim size vector_size",
    "metric": "distance space similarity",
    "array": "multiple many list multi",
    "path": "directory dir folder uri persist_directory location",
    "target": "host address url uri endpoint",
    "api_key": "key token apikey",
    "tls": "secure ssl https",
}
# Argument → an example of it, for a call that leaves it out.
_SUCH = {"dim": "384", "target": "'localhost:7070'"}
NOT_PREPARED = "a prefetch has queries of its own, so it can't be prepared: write search(…, prefetch=…)"
# (method, argument of another database or method) → what to do here.
_ADVICE = {
    ("search", "offset"): "search with limit = offset + n, and slice: hits[offset:]",
    ("search", "score_threshold"): "filter the hits: [hit for hit in hits if hit.score >= …]",
    ("search", "order_by"): "hits are ordered by score; use scroll() to read points in the order of ids",
    ("search", "ef"): "write recall=…, and the planner finds the effort",
    ("scroll", "order_by"): "points come in the order of ids",
    ("delete", "all"): 'write filter="ALL"',
    **{
        (method, name): "write attributes={field: texts}, with the attribute that an encoder reads as the field, or payload=…"
        for method in ("upsert", "update", "bulk")
        for name in ("documents", "texts")
    },
    ("create_collection", "metric"): "write Schema(vectors={'v': Dense(384, metric=…)})",
    ("create_collection", "embedding_function"): "write Dense(…, encoder=…, source=…) in the schema",
}
_ADVICE |= {("search", name): _ADVICE["search", "ef"] for name in ("nprobe", "num_candidates", "ef_search", "search_params", "params")}
_ADVICE |= {("search", name): _ADVICE["search", "score_threshold"] for name in ("threshold", "min_score", "max_distance", "distance")}
for _also in ("search_batch", "prepare"):
    _ADVICE |= {(_also, name): advice for (method, name), advice in _ADVICE.items() if method == "search"}
_ADVICE |= {("prepare", name): "queries go to the call: prepared(vectors, text=…)" for name in ("vectors", "text")}
_ADVICE["prepare", "prefetch"] = NOT_PREPARED


# Methods that errors don't call by their own name.
_CALLED = {"PreparedSearch.__call__": "prepared", "PreparedSearch.batch": "prepared.batch"}


class UnknownArgumentError(InvalidArgumentError, TypeError):
    """A method has no argument of this name, or one is missing or given twice. The message says what to write instead."""


def named(method: Method, options: Callable[[], Mapping[str, Any]] = dict) -> Method:
    """Wrap a method or function so that unknown, superfluous, repeated and missing arguments raise UnknownArgumentError instead of a
    TypeError.

    options: gives the names that ``**options`` of the method takes; it is called at each error.
    """
    signature = inspect.signature(method)
    positional = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    required = [name for name in positional if signature.parameters[name].default is inspect.Parameter.empty]
    bound = int("self" in signature.parameters)

    def check(args: tuple[Any, ...], given: dict[str, Any]) -> None:
        called = _CALLED.get(method.__qualname__) or (type(args[0]).__name__ if method.__name__ == "__init__" else method.__name__)
        parameters = [name for name in with_options(signature, options()).parameters if name != "self"]
        for name, value in given.items():
            if name not in parameters:
                raise _unknown(called, name, value, parameters) from None
        repeated = [name for name in positional[: max(len(args) - bound, 0)] if name in given]
        if repeated:
            what = f"{called}() has {repeated[0]} both by position and by name; give one of them"
            raise UnknownArgumentError(what, field=repeated[0], value=given[repeated[0]]) from None
        missing = [name for name in required[max(len(args) - bound, 0) :] if name not in given]
        if missing:
            write = f"{called}({', '.join(_SUCH.get(name, name) for name in required)})"
            raise UnknownArgumentError(f"{called}() needs {' and '.join(missing)}; write {write}", field=missing[0]) from None
        if len(args) - bound > len(positional):
            named_only = [name for name in parameters if name not in positional]
            takes = f"takes {', '.join(positional)} by position" if positional else "takes no argument by position"
            others = f", and the others by name: {', '.join(f'{name}=…' for name in named_only)}" if named_only else ""
            what = f"{called}() {takes}{others}"
            raise UnknownArgumentError(what, field=named_only[0] if named_only else None, value=args[len(positional) + bound])

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def call_async(*args: Any, **given: Any) -> Any:
            try:
                return await method(*args, **given)
            except TypeError:
                check(args, given)
                raise

        return cast(Method, call_async)

    @functools.wraps(method)
    def call(*args: Any, **given: Any) -> Any:
        try:
            return method(*args, **given)
        except TypeError:
            check(args, given)
            raise

    return cast(Method, call)


def with_options(signature: inspect.Signature, options: Mapping[str, Any]) -> inspect.Signature:
    """The signature with each option in the place of ``**options``, and ``timeout`` last. options: name → its declaration."""
    parameters = {name: p for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
    last = [parameters.pop("timeout")] if options and "timeout" in parameters else []
    keyword = inspect.Parameter.KEYWORD_ONLY
    listed = [inspect.Parameter(name, keyword, default=each.default, annotation=each.type) for name, each in options.items()]
    return signature.replace(parameters=[*parameters.values(), *listed, *last])


def named_class(cls: Class) -> Class:
    """``named`` for the constructor of a class."""
    setattr(cls, "__init__", named(cls.__init__))  # noqa: B010 - pyright refuses the assignment
    return cls


def _unknown(method: str, name: str, value: Any, parameters: list[str]) -> UnknownArgumentError:
    if (method, name) in _ADVICE:
        return UnknownArgumentError(f"{method}() has no argument {name!r}; {_ADVICE[method, name]}", field=name, value=value)
    meant = [ours for ours, theirs in _MEANT.items() if ours in parameters and name.lower() in theirs.split()]
    meant = meant or difflib.get_close_matches(name, parameters, 1)
    advice = f"write {' or '.join(f'{ours}=…' for ours in meant)}" if meant else f"there are: {', '.join(parameters)}"
    return UnknownArgumentError(f"{method}() has no argument {name!r}; {advice}", field=name, value=value)


def like(method: Callable[..., Any], timeout: str = "seconds", without: str = "is the timeout of the client") -> Callable[[Method], Method]:
    """Give a method of a client the documentation of a method that has no timeout, with the timeout besides. without: what None means."""

    def documented(same: Method) -> Method:
        text, line = inspect.getdoc(method) or "", f"    timeout: {timeout}; None {without}."
        before, section, after = re.split(r"(\n\n(?:Returns|Yields|Raises|Example):|$)", text, maxsplit=1)
        same.__doc__ = before + ("\n" if "\n\nArgs:" in before else "\n\nArgs:\n") + line + section + after
        return same

    return documented
