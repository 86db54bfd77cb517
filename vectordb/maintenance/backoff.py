"""Failed jobs of maintenance: what went wrong, and when each one is tried again."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from vectordb_client.errors import NotFoundError

from ..index.base import Cancelled, Unbuildable
from ..storage.lmdb_env import Env

log = logging.getLogger("vectordb.maintenance")
RETRY_SECONDS = 1.0  # before a failed job is tried again; doubled each time up to RETRY_SECONDS_MOST
RETRY_SECONDS_MOST = 600.0

Key = tuple[Any, ...]  # (collection or None, kind of job, and for builds the name of the field)


@dataclass(frozen=True)
class Failure:
    """The last failure of a job. times: failures in a row. final_at: the collection's sequence, if the job will fail again until the
    collection changes.
    """

    message: str
    times: int
    retry_at: float
    final_at: int | None = None


class Failures:
    """The jobs of one directory that failed. count: failures since it was opened."""

    def __init__(self, env: Env):
        self.count = 0
        self._env = env
        self._last: dict[Key, Failure] = {}

    def record(self, key: Key, error: Exception, sequence: int | None = None) -> bool:
        """Note a failure, and log it unless it is already known. sequence: of the collection when the job was chosen.

        Returns False if the directory was moved and that is already known. Then nothing can be done until the database is closed.
        """
        message = f"{' '.join(map(str, key[1:]))}: {error}"
        previous = self._last.get(key)
        times, repeated = (1, False) if previous is None else (previous.times + 1, previous.message == message)
        final = isinstance(error, Unbuildable)  # it would fail again with the same rows
        retry_at = time.monotonic() + min(RETRY_SECONDS * 2 ** (times - 1), RETRY_SECONDS_MOST)
        self._last[key] = Failure(message, times, retry_at, sequence if final else None)
        # Cancelled and NotFoundError mean that the collection was dropped meanwhile.
        if not (final and repeated) and not isinstance(error, (Cancelled, NotFoundError)):
            self.count += 1
            if repeated and self._env.moved():
                return False
            log.warning("maintenance of %s failed, collection %s: %s", self._env.path, key[0], message, exc_info=error)
        return True

    def get(self, key: Key) -> Failure | None:
        """The last failure of a job, or None."""
        return self._last.get(key)

    def clear(self, key: Key) -> None:
        """The job succeeded."""
        self._last.pop(key, None)

    def clear_field(self, number: int, field: str) -> None:
        """Forget the failures of all builds of a field, so that they are tried again."""
        for key in [key for key in self._last if (key[0], key[2:]) == (number, (field,))]:
            del self._last[key]

    def forget(self, number: int) -> None:
        """A collection was dropped."""
        for key in [key for key in self._last if key[0] == number]:
            del self._last[key]

    def message(self, number: int) -> str | None:
        """The newest failure that concerns a collection, or None."""
        messages = [failure.message for key, failure in list(self._last.items()) if key[0] in (number, None)]
        return messages[-1] if messages else None
