"""Arguments by names that other databases use: an error that says what they are called here."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import InvalidArgumentError

Method = TypeVar("Method", bound=Callable[..., Any])
_MEANT = {
    "limit": "k top_k topk n n_results num_results max_results size top count",
    "vectors": "vector query queries query_vector query_vectors query_embeddings embedding embeddings data",
    "text": "query query_text query_texts texts document documents",
    "filter": "where filters query_filter scroll_filter expr condition",
    "attributes": "metadata metadatas properties",
    "payload": "payloads document documents",
    "ids": "id point_id point_ids keys",
    "with_attributes": "with_payload with_metadata include_metadata include output_fields",
    "with_vectors": "with_vector include_vectors include_values return_vectors",
    "cursor": "offset next_page_offset page_token",
    "chunk": "batch_size chunk_size",
    "parallel": "max_workers workers threads num_threads",
    "fusion": "rerank reranker ranker",
}


class UnknownArgumentError(InvalidArgumentError, TypeError):
    """A method has no argument of this name."""


def named(method: Method) -> Method:
    """The method, which answers an unknown argument by UnknownArgumentError."""
    parameters = [name for name in inspect.signature(method).parameters if name != "self"]

    def check(given: dict[str, Any]) -> None:
        for name, value in given.items():
            if name not in parameters:
                raise _unknown(method.__name__, name, value, parameters) from None

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def call(*args: Any, **given: Any) -> Any:
            try:
                return await method(*args, **given)
            except TypeError:
                check(given)
                raise

    else:

        @functools.wraps(method)
        def call(*args: Any, **given: Any) -> Any:
            try:
                return method(*args, **given)
            except TypeError:
                check(given)
                raise

    return call  # type: ignore[return-value]


def _unknown(method: str, name: str, value: Any, parameters: list[str]) -> UnknownArgumentError:
    meant = [ours for ours, theirs in _MEANT.items() if ours in parameters and name.lower() in theirs.split()]
    meant = meant or difflib.get_close_matches(name, parameters, 1)
    advice = f"write {' or '.join(f'{ours}=…' for ours in meant)}" if meant else f"there are: {', '.join(parameters)}"
    return UnknownArgumentError(f"{method}() has no argument {name!r}; {advice}", field=name, value=value)
