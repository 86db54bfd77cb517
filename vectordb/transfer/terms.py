"""Read and write the words of terms: tab-separated lines (term, word), a JSON object, or the section ``terms`` of a schema file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectordb_client.errors import InvalidArgumentError, StorageError, shown
from vectordb_client.model.schema import Schema
from vectordb_client.model.terms import check_sparse, check_words

from ..storage import modes

if TYPE_CHECKING:
    from ..collection import Collection

_AT_ONCE = 100_000  # terms per transaction


def read_terms(path: Path) -> dict[int, str | None]:
    """Term → word, from a .tsv or .json file; null in JSON removes a word.

    Raises InvalidArgumentError naming the line or term, LimitError, StorageError.
    """
    ending = _format(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}", field="file", value=str(path)) from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{path} is not UTF-8: {error}", field="file", value=str(path)) from None
    return check_words(_of_lines(path, text) if ending == "tsv" else _of_json(_json_object(path, text), str(path)))


def write_terms(path: Path, words: Iterable[tuple[int, str]]) -> int:
    """Write a .tsv or .json file; returns the number of terms. Raises InvalidArgumentError for another ending, StorageError."""
    lines = tsv if _format(path) == "tsv" else _json_lines
    counted = 0

    def count() -> Iterator[tuple[int, str]]:
        nonlocal counted
        for pair in words:
            counted += 1
            yield pair

    try:
        with modes.create(path, "w", encoding="utf-8") as file:
            file.writelines(lines(count()))
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}", field="out", value=str(path)) from error
    return counted


def tsv(words: Iterable[tuple[int, str]]) -> Iterator[str]:
    """The lines of a .tsv file. A word holds neither tabs nor line breaks."""
    return (f"{term}\t{word}\n" for term, word in words)


def all_terms(collection: Collection, field: str) -> Iterator[tuple[int, str]]:
    """All (term, word) pairs, ascending by term, read in pages. Raises SchemaError at once for a wrong field."""

    def pages(page: dict[int, str]) -> Iterator[tuple[int, str]]:
        while page:
            yield from page.items()
            page = collection.terms(field, after=next(reversed(page)))

    return pages(collection.terms(field))


def set_all(collection: Collection, field: str, words: Mapping[int, str | None]) -> int:
    """``set_terms`` in transactions of bounded size; returns how many words changed."""
    pairs = iter(words.items())
    changed = collection.set_terms(field, dict(islice(pairs, _AT_ONCE)))
    while part := dict(islice(pairs, _AT_ONCE)):
        changed += collection.set_terms(field, part)
    return changed


def schema_file(collection: Collection, with_vectors: bool) -> dict[str, Any]:
    """The schema as JSON data, with a section ``terms``: the words that an import of the points would not restore by encoding texts."""
    schema = collection.schema
    kept = [name for name, spec in schema.vectors.items() if spec.has_terms and (with_vectors or spec.encoder is None)]
    words = {name: {str(term): word for term, word in all_terms(collection, name)} for name in kept}
    named = {name: by_term for name, by_term in words.items() if by_term}
    return schema.to_dict() | ({"terms": named} if named else {})


def read_schema_file(data: Any) -> tuple[Schema, dict[str, dict[int, str | None]]]:
    """The schema, and field → term → word. Raises SchemaError, InvalidArgumentError naming the term."""
    if not isinstance(data, Mapping) or "terms" not in data:
        return Schema.from_dict(data), {}
    schema = Schema.from_dict({section: fields for section, fields in data.items() if section != "terms"})
    if not isinstance(data["terms"], Mapping):
        raise InvalidArgumentError(f"terms must be an object of fields, not {shown(data['terms'])}", field="terms", value=data["terms"])
    return schema, {check_sparse(schema, name): check_words(_of_json(words)) for name, words in data["terms"].items()}


def _format(path: Path) -> str:
    ending = path.suffix.lower().removeprefix(".")
    if ending not in ("tsv", "json"):
        raise InvalidArgumentError(f"a file of terms must be named .tsv or .json, not {path.name!r}", field="file", value=str(path))
    return ending


def _of_lines(path: Path, text: str) -> dict[int, str]:
    words: dict[int, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        term, tab, word = line.removesuffix("\r").partition("\t")
        if not line.strip():
            continue
        if not tab:
            raise InvalidArgumentError(f"{path}, line {number}: {shown(line)} is not a term, a tab and a word", field="file", value=number)
        term = _term(term, f"{path}, line {number}")
        if term in words:
            raise InvalidArgumentError(f"{path}, line {number}: term {term} appears twice", field="file", value=number)
        words[term] = word
    return words


def _of_json(words: Any, where: str = "terms") -> dict[int, Any]:
    if not isinstance(words, Mapping):
        raise InvalidArgumentError(f"{where} must be an object from term to word, not {shown(words)}", field="terms", value=words)
    return {_term(term, where): word for term, word in words.items()}


def _term(text: str, where: str) -> int:
    """A term: decimal digits without leading zeros, so that each term has one spelling."""
    if not text.isascii() or not text.isdecimal() or text != str(int(text[:20])):
        raise InvalidArgumentError(f"{where}: {shown(text)} is not a term; terms are integers from 0 to 2^64−1", field="terms", value=text)
    return int(text)


def _json_object(path: Path, text: str) -> Any:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        terms = dict(pairs)
        if len(terms) < len(pairs):
            raise InvalidArgumentError(f"{path} names a term twice", field="file", value=str(path))
        return terms

    try:
        return json.loads(text, object_pairs_hook=distinct)
    except InvalidArgumentError:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{path} is not JSON: {error}", field="file", value=str(path)) from None


def _json_lines(words: Iterable[tuple[int, str]]) -> Iterator[str]:
    """A JSON object, one term per line."""
    before = "{\n"
    for term, word in words:
        yield f'{before}"{term}": {json.dumps(word, ensure_ascii=False)}'
        before = ",\n"
    yield "{}\n" if before == "{\n" else "\n}\n"
