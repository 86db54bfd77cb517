"""The audit log: who did what with which outcome, as JSON lines. It never contains vectors, texts, payloads or keys."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vectordb_client.errors import StorageError

from ...storage.modes import PRIVATE

log = logging.getLogger("vectordb.server")
KEPT = 4  # number of rotated files: NAME.1 is the newest


class AuditLog:
    """Appends lines to a file, which several processes may share. Raises StorageError if it can't be opened.

    Each line is one write to a file opened for appending, so lines of several processes don't mix. Later failures, such as a full disk, are
    logged and don't stop the service.
    """

    def __init__(self, path: Path, most: int, mode: int = PRIVATE):
        self._path, self._most, self._mode = Path(os.path.abspath(path)), most, mode
        self._lock = threading.Lock()
        self._failing = False
        self._file = -1
        try:
            self._file = self._open()
        except OSError as error:
            raise StorageError(f"{path} can't be written: {error.strerror}", field="audit_log", value=str(path)) from error

    def write(self, **facts: Any) -> None:
        """Append a line with the time (UTC) and the facts."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": moment, **facts}, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                self._follow()
                os.write(self._file, line)
                self._failing = False
            except OSError as error:
                if not self._failing:
                    log.error("the audit log %s can't be written: %s", self._path, error.strerror)
                self._failing = True

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, self._mode)

    def _follow(self) -> None:
        """Reopen the file if it was rotated, and rotate it if it is full. Any process may do this."""
        if self._outdated():
            self._reopen()
        if os.fstat(self._file).st_size < self._most:
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)  # lock on the full file: a second process then finds it rotated
        if not self._outdated():
            for number in range(KEPT - 1, 0, -1):
                older = Path(f"{self._path}.{number}")
                if older.exists():
                    os.replace(older, f"{self._path}.{number + 1}")
            os.replace(self._path, f"{self._path}.1")
        self._reopen()

    def _outdated(self) -> bool:
        try:
            return os.stat(self._path).st_ino != os.fstat(self._file).st_ino
        except FileNotFoundError:
            return True

    def _reopen(self) -> None:
        file = self._open()
        os.close(self._file)
        self._file = file
