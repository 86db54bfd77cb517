"""The slow-query log: JSON lines in a file or on stderr."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from vectordb_client.errors import StorageError

from ...storage.modes import PRIVATE


class SlowLog:
    """path: a file to append to, one write per line, so that several processes may share it; empty: stderr. seconds: threshold of slow.

    Raises StorageError if the file can't be opened.
    """

    def __init__(self, path: str, seconds: float, mode: int = PRIVATE):
        self.seconds = seconds
        self._path = os.path.abspath(path) if path else ""
        self._mode = mode
        self._lock = threading.Lock()
        if path:
            os.close(self._open())

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, self._mode)
        except OSError as error:
            what = f"slow_query_log {self._path} can't be written: {error.strerror}"
            raise StorageError(what, field="slow_query_log", value=self._path) from None

    def write(self, facts: Mapping[str, Any]) -> None:
        """Append a line. Errors are ignored: a full disk must not fail the query as well."""
        line = json.dumps(facts, ensure_ascii=False) + "\n"
        with self._lock:
            try:
                if not self._path:
                    sys.stderr.write(line)
                    sys.stderr.flush()
                    return
                file = self._open()  # opened each time, because it may have been rotated
                try:
                    os.write(file, line.encode())
                finally:
                    os.close(file)
            except (OSError, StorageError):
                pass
