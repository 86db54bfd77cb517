"""A file to import: its format, its text encoding, and its rows as a stream. Memory holds a row, not the file."""

from __future__ import annotations

import codecs
import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from vectordb_client.errors import InvalidArgumentError, StorageError, shown

MAX_ROW_BYTES = 32 << 20
ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}
_GZIP = b"\x1f\x8b"
_BUFFER = 1 << 16
# Longer marks first: the mark of UTF-32-LE begins with that of UTF-16-LE.
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Row(NamedTuple):
    """number: from 0. record: a mapping, or None if the row can't be read. done: share of the file read, 0 … 1. size: bytes of text.

    error, text: why a row can't be read, and its source text.
    """

    number: int
    record: Any
    done: float = 0.0
    size: int = 0
    error: str | None = None
    text: Any = None


@dataclass(frozen=True)
class Source:
    """A file and how to read it. Options that are None are detected.

    format: one of FORMATS; default: from the ending of the name. encoding: a Python codec name; default: from the byte order mark, else
    UTF-8. separator: of a CSV file, one character; default: detected in the first rows. max_row_bytes: a larger row of a text file is
    rejected before it is parsed. stream: a binary file to read instead of ``path``, each time from its beginning.
    Raises InvalidArgumentError.
    """

    path: Path
    format: str | None = None
    encoding: str | None = None
    separator: str | None = None
    max_row_bytes: int = MAX_ROW_BYTES
    stream: BinaryIO | None = None

    def __post_init__(self) -> None:
        if self.format is None:
            object.__setattr__(self, "format", format_of(self.path))
        elif self.format not in FORMATS:
            what = f"format must be one of {', '.join(FORMATS)}, not {shown(self.format)}"
            raise InvalidArgumentError(what, field="format", value=self.format)
        if self.encoding is not None:
            _check_encoding(self.encoding)
        separator = self.separator
        if separator is None and self.path.name.lower().removesuffix(".gz").endswith(".tsv"):
            separator = "tab"
        if separator is not None:
            separator = SEPARATORS.get(separator, separator)
            if len(separator) != 1 or separator in '"\r\n':
                what = f"separator must be one character, or {', '.join(SEPARATORS)}, not {shown(self.separator)}"
                raise InvalidArgumentError(what, field="separator", value=self.separator)
            object.__setattr__(self, "separator", separator)

    @property
    def cells(self) -> bool:
        """Whether values are text cells (CSV)."""
        return self.format == "csv"

    def about(self) -> dict[str, Any]:
        """The options on which the numbering of rows depends."""
        return {"format": self.format, "encoding": self.encoding, "separator": self.separator}

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file as bytes, from its beginning."""
        with self.path.open("rb") if self.stream is None else open(os.dup(self.stream.fileno()), "rb") as raw:
            raw.seek(0)
            yield raw

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The rows from number ``start`` on. A row that can't be read is yielded with its error.

        Raises InvalidArgumentError, LimitError or StorageError if the rest of the file can't be read.
        """
        from . import arrow, rows

        try:
            with self.opened() as raw:
                if self.format == "parquet":
                    yield from arrow.parquet_rows(raw, self.path, start)
                elif self.format == "arrow":
                    yield from arrow.arrow_rows(raw, self.path, start)
                else:
                    size = max(os.fstat(raw.fileno()).st_size, 1)
                    for row in rows.READERS[self.format](_utf8(raw, self), self, start):
                        yield row._replace(done=min(raw.tell() / size, 1.0))
        except (OSError, EOFError) as error:
            raise StorageError(f"can't read {self.path}: {error}", field="file", value=str(self.path)) from error


def source_of(file: Path | Source) -> Source:
    return file if isinstance(file, Source) else Source(Path(file))


def format_of(path: Path) -> str:
    """The format of a file name's ending; text formats may be followed by ``.gz``."""
    suffixes = [s.lower() for s in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if zipped else suffixes)[-1:]
    format = ENDINGS.get(suffix[0]) if suffix else None
    if format is None or (zipped and format in ("parquet", "arrow")):
        endings = ".jsonl, .json, .csv, .tsv (or these with .gz), .parquet or .arrow"
        what = f"{path.name}: the name must end in {endings}; for another name, add --format"
        raise InvalidArgumentError(what, field="file", value=str(path))
    return format


def _check_encoding(name: Any) -> None:
    try:
        if not codecs.lookup(name)._is_text_encoding:
            raise LookupError
    except (LookupError, TypeError, ValueError):
        what = f"encoding must be a Python codec such as utf-8, latin-1, cp1252 or utf-16, not {shown(name)}"
        raise InvalidArgumentError(what, field="encoding", value=name) from None


def _utf8(raw: BinaryIO, source: Source) -> io.BufferedReader:
    """The text as UTF-8 without byte order mark. Invalid UTF-8 is detected later, when rows are parsed."""
    stream: Any = raw
    if stream.peek(2)[:2] == _GZIP:
        stream = io.BufferedReader(gzip.open(stream), _BUFFER)
    head = stream.peek(4)[:4]
    encoding = source.encoding and codecs.lookup(source.encoding).name
    if encoding is None:
        encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
    if encoding in ("utf-8", "utf-8-sig"):
        if head.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        return stream
    return io.BufferedReader(_Recoded(stream, encoding, source), _BUFFER)


class _Recoded(io.RawIOBase):
    """A stream that converts text of another encoding to UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str, source: Source):
        self._stream, self._decoder = stream, codecs.getincrementaldecoder(encoding)()
        self._encoding, self._name = encoding, source.path.name
        self._pending, self._ended, self._first = b"", False, True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending and not self._ended:
            chunk = self._stream.read(_BUFFER // 4)
            self._ended = not chunk
            try:
                text = self._decoder.decode(chunk, self._ended)
            except UnicodeError as error:
                what = f"{self._name} is not {self._encoding}: {error}; name its encoding with --encoding"
                raise InvalidArgumentError(what, field="encoding", value=self._encoding) from None
            if self._first and text:
                text, self._first = text.removeprefix("\ufeff"), False
            self._pending = text.encode("utf-8", "replace")
        taken = min(len(buffer), len(self._pending))
        buffer[:taken] = self._pending[:taken]
        self._pending = self._pending[taken:]
        return taken
