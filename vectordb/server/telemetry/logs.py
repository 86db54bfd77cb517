"""The service's log: lines of text or of JSON on stderr.

User data is never logged: of an exception, only the class and the traceback are logged, because its message may contain user data.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

ROOT = "vectordb"
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={value}" for name, value in _extra(record).items())
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}{facts}"
        return f"{line}\n{_where(record)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        where = {"exception": _where(record)} if record.exc_info else {}
        return json.dumps(facts | _extra(record) | where, default=str, ensure_ascii=False)


def configure(style: str, level: str) -> logging.Handler:
    """Send vectordb's log to stderr, one line of text or JSON per record. Returns the handler, for ``restore``."""
    logger = logging.getLogger(ROOT)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    for old in [old for old in logger.handlers if isinstance(old.formatter, (_Text, _Json))]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    return handler


def restore(handler: logging.Handler) -> None:
    """Undo ``configure``."""
    logger = logging.getLogger(ROOT)
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


def _where(record: logging.LogRecord) -> str:
    kind, _, trace = record.exc_info or (None, None, None)
    return f"{''.join(traceback.format_tb(trace))}{kind.__qualname__ if kind else ''}"
