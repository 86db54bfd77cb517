"""Read rows from JSON lines, JSON values and CSV. At most ``max_row_bytes`` of a row are held in memory."""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from vectordb_client.errors import InvalidArgumentError, LimitError

from .forms import loads
from .sources import Row, Source

_CHUNK = 1 << 16
_ZEROS = "contains zero bytes; if the file is UTF-16, add --encoding utf-16-le or utf-16-be"
_KEPT = 200  # characters shown of a row that is too large
_NEAR = 16  # characters: an error this close to the end of the buffer may be caused by the cut
_LOOKED_AT = 20  # rows used to detect the separator


def _json_lines(stream: io.BufferedReader, source: Source, start: int) -> Iterator[Row]:
    if stream.peek(1).lstrip()[:1] == b"[":  # a JSON array in a file named .jsonl
        yield from _json_values(stream, source, start)
        return
    limit, number = source.max_row_bytes, -1
    while line := stream.readline(limit + 1):
        number += 1
        size, large = len(line), len(line) > limit and not line.endswith(b"\n")
        while large and line and not line.endswith(b"\n"):
            rest = stream.readline(_CHUNK)
            line, size = (line[:_KEPT] + rest[-1:] if rest else line[:_KEPT] + b"\n"), size + len(rest)
        if number < start or not line.strip():
            continue
        if large:
            yield Row(number, None, 0.0, 0, _too_large(limit, size), line[:_KEPT].decode("utf-8", "replace") + "…")
            continue
        try:
            yield Row(number, loads(line), 0.0, size)
        except ValueError as error:
            yield Row(number, None, 0.0, size, _not_json(error, line), line.decode("utf-8", "replace").rstrip("\r\n"))


def _not_json(error: ValueError, line: bytes) -> str:
    if b"\x00" in line:
        return f"not JSON: the text {_ZEROS}"
    if isinstance(error, UnicodeDecodeError):
        return _not_utf8(error.object[error.start], f" at byte {error.start + 1} of the row")
    return f"not JSON: {error}"


def _not_utf8(byte: int, where: str = "") -> str:
    return f"not UTF-8 (byte 0x{byte:02x}{where}); name the encoding with --encoding, such as latin-1, cp1252 or utf-16"


def _too_large(limit: int, size: int | None = None) -> str:
    has = f"has {size:,} bytes, more" if size is not None else "has more bytes"
    return f"{has} than --max-row-bytes ({limit:,}); raise that for larger rows; parsing one takes many times its size in memory"


def _json_values(stream: io.BufferedReader, source: Source, start: int) -> Iterator[Row]:
    """The elements of a JSON array, or concatenated JSON values. An error raises, because the next value can't be located after it."""
    text = _Values(stream, source.max_row_bytes)
    number = -1
    for value, size in text:
        number += 1
        if number >= start:
            yield Row(number, value, 0.0, size)


class _Values:
    """Iterate the JSON values of a stream: (value, its length in characters)."""

    def __init__(self, stream: io.BufferedReader, limit: int):
        self._stream, self._limit = stream, limit
        self._text, self._position, self._ended, self._count = "", 0, False, 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder(parse_constant=self._no_constant)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        array = self._next() == "["
        if array:
            self._position += 1
        while (following := self._next()) and not (array and following == "]"):
            if array and self._count:
                if following != ",":
                    raise self._wrong(f"row {self._count} is followed by {following!r}, not by a comma or ]")
                self._position += 1
                self._next()
            yield self._value()
        if array:
            if not following:
                raise self._wrong("the array is not closed; the file may be truncated")
            self._position += 1
            if self._next():
                raise self._wrong("there is more text after the array")

    def _next(self) -> str:
        """The next character that is not whitespace; "" at the end."""
        while True:
            while self._position < len(self._text):
                if self._text[self._position] not in " \t\r\n":
                    return self._text[self._position]
                self._position += 1
            if self._ended:
                return ""
            self._more()

    def _value(self) -> tuple[Any, int]:
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._position)
                if end < len(self._text) or self._ended:  # else a number might continue
                    size, self._position, self._count = end - self._position, end, self._count + 1
                    self._bounded(size)
                    return value, size
            except RecursionError:
                raise self._wrong("nested too deeply") from None
            except json.JSONDecodeError as error:
                certain = "Unterminated" not in error.msg and error.pos < len(self._text) - _NEAR
                if certain or self._ended:
                    raise self._wrong(str(error.msg), error.pos) from None
            self._bounded(len(self._text) - self._position)
            self._more()

    def _bounded(self, size: int) -> None:
        if size > self._limit:
            raise LimitError(f"row {self._count + 1}: {_too_large(self._limit)}", field="max_row_bytes", value=self._limit)

    def _more(self) -> None:
        """Read on. The buffer doubles each time, so that a long value is parsed from its start only a few times."""
        chunk = self._stream.read(max(_CHUNK, min(len(self._text) - self._position, self._limit)))
        self._ended = not chunk
        try:
            self._text = self._text[self._position :] + self._utf8.decode(chunk, self._ended)
        except UnicodeDecodeError as error:
            wrong = f"not JSON: the text {_ZEROS}" if b"\x00" in chunk else _not_utf8(error.object[error.start])
            what = f"row {self._count + 1}: {wrong}"
            raise InvalidArgumentError(what, field="encoding", value="utf-8") from None
        self._position = 0

    def _no_constant(self, name: str) -> Any:
        raise self._wrong(f"{name} is not a JSON number")

    def _wrong(self, what: str, position: int | None = None) -> InvalidArgumentError:
        position = self._position if position is None else position
        near = self._text[max(position - 20, 0) : position + 20]
        zeros = f"; the text {_ZEROS}" if "\x00" in near else ""
        return InvalidArgumentError(f"row {self._count + 1}: not JSON: {what}, near {near!r}{zeros}", field="file", value=self._count + 1)


def _csv_rows(stream: io.BufferedReader, source: Source, start: int) -> Iterator[Row]:
    # A cell may hold a vector or a document; the csv module's default limit is 128 KiB.
    csv.field_size_limit(min(source.max_row_bytes, sys.maxsize, 2**31 - 1))
    separator = source.separator or _sniffed(stream.peek(1))
    lines = _Lines(io.TextIOWrapper(stream, encoding="utf-8", newline="", errors="surrogateescape"), source.max_row_bytes)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    names: list[str] = []
    number = -1
    while True:
        lines.taken = 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "field limit" in str(error):
                raise LimitError(f"row {number + 2}: {_too_large(source.max_row_bytes)}", field="max_row_bytes") from None
            raise InvalidArgumentError(f"not CSV at line {reader.line_num}: {error}", field="file") from None
        except LimitError as error:
            raise LimitError(f"row {number + 2}: {error}", field="max_row_bytes", value=source.max_row_bytes) from None
        size = lines.taken
        if not names:
            names = _header(cells)
            continue
        if not cells:
            continue
        number += 1
        if number < start:
            continue
        if len(cells) != len(names):
            what = f"{len(cells)} cell{'s' * (len(cells) != 1)} under {len(names)} column name{'s' * (len(names) != 1)}"
            yield Row(number, None, 0.0, size, f"{what} (separator: {separator!r}; --separator sets another)", cells)
        elif (byte := _stray_byte(cells)) is not None:
            yield Row(number, None, 0.0, size, _not_utf8(byte), [cell.encode("utf-8", "replace").decode() for cell in cells])
        else:
            yield Row(number, dict(zip(names, cells, strict=True)), 0.0, size)


def _header(cells: list[str]) -> list[str]:
    if (byte := _stray_byte(cells)) is not None:
        raise InvalidArgumentError(f"the header is {_not_utf8(byte)}", field="encoding", value="utf-8")
    if any("\x00" in cell for cell in cells):
        raise InvalidArgumentError(f"the header {_ZEROS}", field="encoding")
    twice = next((name for i, name in enumerate(cells) if name in cells[:i]), None)
    if twice is not None:
        raise InvalidArgumentError(f"the header names a column twice: {twice!r}", field="file", value=cells)
    return cells


def _stray_byte(cells: list[str]) -> int | None:
    """The first byte that is not valid UTF-8, or None."""
    for cell in cells:
        if not cell.isascii():
            for letter in cell:
                if "\udc80" <= letter <= "\udcff":
                    return ord(letter) - 0xDC00
    return None


class _Lines:
    """The lines of a text, for a csv.reader. taken: characters read since the caller set it to 0; above ``limit``, LimitError is raised."""

    def __init__(self, text: io.TextIOBase, limit: int):
        self._text, self._limit, self.taken = text, limit, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._limit + 1 - self.taken)
        if not line:
            raise StopIteration
        self.taken += len(line)
        if self.taken > self._limit:
            raise LimitError(_too_large(self._limit))
        return line


def _sniffed(head: bytes) -> str:
    """The separator that gives all first rows the same number of columns (above 1), else the one with most columns in the header."""
    text = head.decode("utf-8", "replace")
    best, chosen = (False, 1), ","
    for separator in (",", ";", "\t", "|"):
        try:
            rows = [row for row in islice(csv.reader(io.StringIO(text, newline=""), delimiter=separator), _LOOKED_AT + 1) if row]
        except csv.Error:
            continue
        whole = rows[:-1] if len(rows) > 2 else rows  # the last row may be cut
        if not whole:
            continue
        columns = len(whole[0])
        rank = (columns > 1 and all(len(row) == columns for row in whole), columns)
        if rank > best:
            best, chosen = rank, separator
    return chosen


READERS: dict[str, Callable[[io.BufferedReader, Source, int], Iterator[Row]]] = {
    "jsonl": _json_lines,
    "json": _json_values,
    "csv": _csv_rows,
}
