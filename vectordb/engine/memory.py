"""The memory budget of a directory in this process: which sections of index files are kept in memory, and how much of the rest may be.

Sections are kept in the order in which searches need them (``IndexKind.tiers``), until the budget is used up. The others are *mapped*: the
system reads their pages when a search needs them. Searches and a thread count these pages, and release some before they exceed their part
of the budget. They then stay in the system's cache, which it can reclaim at any time. Data in LMDB is mapped, too, but not counted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from weakref import WeakSet

import numpy as np

from ..common import mapping
from ..filters.cache import CACHE_BYTES, FilterCache
from ..index.base import IndexKind
from .index_files import Files

log = logging.getLogger("vectordb.maintenance")

# Constants: unit and meaning. Chosen, not measured.
CACHES = 1 / 8  # of the budget: the caches of filters of all collections
OTHERS = 1 / 8  # for what is allocated for open files and for calls, such as bitmaps and scratch arrays
LEAST_MAPPED = 1 / 8  # for pages of sections that aren't kept, if there are such sections
HEADROOM = 1 / 8  # of the part for mapped pages: so much before it is used up, pages are released
LEFT = 1 / 2  # of the part for mapped pages: so much is left after a release
PIECE = 256  # pages that are released at once
BYTES_PER_SECOND = 2 << 30  # that searches map at most; decides how soon pages are counted again
SHORTEST, LONGEST = 0.02, 0.25  # seconds between two counts


class Part(NamedTuple):
    """A section of an open file. tier: its place in the order of need. kept: whether it is kept in memory, else mapped."""

    segment: IndexKind
    name: str
    raw: np.ndarray
    tier: int
    kept: bool

    @property
    def place(self) -> tuple[int, int]:
        return self.raw.ctypes.data, len(self.raw)


class Keeper:
    """Keeps to the budget of a directory. budget: bytes, None for no limit. All methods may be called from any thread."""

    def __init__(self, files: Files):
        self.budget: int | None = None
        self._files = files
        self._lock = threading.RLock()
        self._caches: WeakSet[FilterCache] = WeakSet()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._planned: set[str] = set()  # the files that the newest plan is for
        self.watched = False  # whether sections are mapped, so that searches have to ``look``
        self._unread = False  # whether what the plan keeps has still to be read
        self._allowance = 0  # bytes that mapped pages may take
        self._bound = 0  # bytes of mapped files of the process at which mapped pages may have reached the allowance
        self._hand = 0  # the piece from which the next release goes on
        self.releases = 0  # how often pages were released

    def set(self, budget: int | None) -> None:
        """Change the budget. What has to leave memory leaves before this returns; what is kept from now on is read in the background."""
        with self._lock:
            self.budget = budget
            self._size_caches()
            if budget is None:
                self._forget()
                self._changed.set()
                return
            self._plan()
            if mapping.SUPPORTED:
                self._trim()
            self._start()
        self._changed.set()

    def stop(self) -> None:
        """End the thread, before the directory is closed."""
        with self._lock:
            self._stopped, thread = True, self._thread
        self._changed.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def opened(self) -> None:
        """Note that a file has been opened."""
        if self.budget is not None:
            with self._lock:
                if self.budget is not None:
                    self._plan()
            self._changed.set()

    def add_cache(self, cache: FilterCache) -> None:
        """Bound a cache of filters, too."""
        with self._lock:
            self._caches.add(cache)
            self._size_caches()

    def look(self) -> None:
        """Release pages if searches have mapped too many. A search calls it at its end if ``watched``: it can map pages much faster than
        the thread looks.
        """
        if mapping.file_bytes() >= self._bound:
            with self._lock:
                if self.budget is not None:
                    self._trim()

    def room(self, replaced: Iterable[str]) -> int | None:
        """Bytes of a new index file that can be kept in memory; None if there is no limit. replaced: files whose room it takes over."""
        if self.budget is None:
            return None
        gone = set(replaced)
        others = [segment for name, segment in self._files.opened().items() if name not in gone]
        return max(self._for_indexes() - sum(_needed(segment) for segment in others), 0)

    def reason(self, needed: int, room: int) -> str:
        """Why a file is of a smaller kind."""
        return f"a graph needs {_size(needed)} in memory, and {_size(room)} of the budget of {_size(self.budget or 0)} are free for it"

    def facts(self) -> dict[str, int]:
        """Bytes: budget; kept and mapped, of index files; mapped_most, that mapped sections may take; resident, that kept and mapped ones
        take now; caches, that filters may take. Empty without a budget.
        """
        with self._lock:
            if self.budget is None:
                return {}
            parts = list(self._parts())
            return {
                "budget": self.budget,
                "kept": sum(len(part.raw) for part in parts if part.kept),
                "mapped": sum(len(part.raw) for part in parts if not part.kept),
                "mapped_most": self._allowance,
                "resident": sum(_resident(part) for part in parts),
                "caches": sum(cache.capacity for cache in self._caches),
            }

    # ---- The plan ----

    def _for_indexes(self) -> int:
        return int((self.budget or 0) * (1 - CACHES - OTHERS))

    def _size_caches(self) -> None:
        caches = list(self._caches)
        share = CACHE_BYTES if self.budget is None else min(CACHE_BYTES, int(self.budget * CACHES) // max(len(caches), 1))
        for cache in caches:
            cache.resize(share)

    def _parts(self) -> Iterator[Part]:
        for _, segment in sorted(self._files.opened().items()):
            tiers = segment.memory or {}
            kept = set(tiers.get("kept", ()))
            for name, array in segment.sections.items():
                if array.nbytes:
                    yield Part(segment, name, array.reshape(-1).view(np.uint8), _tier(segment, name), name in kept)

    def _plan(self) -> None:
        """Decide for every section whether it is kept."""
        self._planned = set(self._files.opened())
        parts = sorted(self._parts(), key=lambda part: (part.tier, part.segment.first, part.name))
        most = self._for_indexes()
        shared = mapping.PAGE * len(parts)  # sections share their first and last pages with others
        whole = sum(len(part.raw) for part in parts) + shared <= most
        room = most if whole else most - int((self.budget or 0) * LEAST_MAPPED) - shared
        kept: dict[int, list[str]] = {id(part.segment): [] for part in parts}
        taken = 0
        for part in parts:
            if taken + len(part.raw) <= room:
                kept[id(part.segment)].append(part.name)
                taken += len(part.raw)
        self._allowance, self.watched = most - taken, not whole and mapping.SUPPORTED
        for segment in {id(part.segment): part.segment for part in parts}.values():
            chosen = kept[id(segment)]
            segment.memory = {"kept": chosen, "mapped": [name for name in segment.sections if name not in chosen]}
        for part in self._parts():
            mapping.scattered(*part.place, not part.kept and part.name in part.segment.scattered)
            if not part.kept:
                mapping.unlock(*part.place)
        self._bound, self._unread = 0, True

    def _forget(self) -> None:
        self.watched = False
        for part in self._parts():
            mapping.scattered(*part.place, False)
            mapping.unlock(*part.place)
            part.segment.memory = None

    # ---- The thread ----

    def _start(self) -> None:
        if self._thread is None and not self._stopped and mapping.SUPPORTED:
            self._thread = threading.Thread(target=self._run, name="vectordb-memory", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:
                self._thread = None
                log.warning("the memory budget is not kept: no thread can be started: %s", error)

    def _run(self) -> None:
        while not self._stopped:
            self._changed.clear()
            with self._lock:
                budget = self.budget
                wait = None if budget is None else self._trim()
            if budget is not None and self._unread:
                self._read_kept()
            self._changed.wait(wait)

    def _trim(self) -> float | None:
        """Release mapped pages if they may exceed their part. Returns the seconds until the next look; None: when something changes."""
        if self._planned != set(self._files.opened()):  # a file was closed
            self._plan()
        if not self.watched:
            return None
        most = int(self._allowance * (1 - HEADROOM))
        now = mapping.file_bytes()
        if now >= self._bound:
            parts = [(part, mapping.present(*part.place)) for part in self._parts() if not part.kept]
            taken = sum(int(pages.sum()) for _, pages in parts) * mapping.PAGE
            if taken > most and parts:
                taken = self._release(parts, taken, int(self._allowance * LEFT))
                now = mapping.file_bytes()
            self._bound = now + max(most - taken, 0)
        return min(max((self._bound - now) / BYTES_PER_SECOND, SHORTEST), LONGEST)

    def _release(self, parts: list[tuple[Part, np.ndarray]], taken: int, target: int) -> int:
        """Release pieces in turn until ``target`` bytes are left; returns what is left."""
        pieces = []
        for part, pages in parts:
            start, _ = mapping.within(*part.place)
            counts = np.add.reduceat(pages, np.arange(0, len(pages), PIECE), dtype=np.int64) if len(pages) else []
            pieces += [(start + i * PIECE * mapping.PAGE, min(PIECE, len(pages) - i * PIECE), int(n)) for i, n in enumerate(counts)]
        for _ in pieces:
            if taken <= target:
                break
            address, pages, found = pieces[self._hand % len(pieces)]
            self._hand = (self._hand + 1) % len(pieces)
            if found:
                mapping.release(address, pages * mapping.PAGE)
                taken -= found * mapping.PAGE
        self.releases += 1
        return taken

    def _read_kept(self) -> None:
        """Read what is kept and not in memory yet, and lock it where the system allows that."""
        with self._lock:
            parts, self._unread = [part for part in self._parts() if part.kept], False
        for part in parts:
            if self._stopped or self._unread:  # there is another plan
                return
            if not mapping.present(*part.place).all():
                mapping.lock(*part.place)
                mapping.read(part.raw)


def _tier(segment: IndexKind, name: str) -> int:
    return next((number for number, names in enumerate(segment.tiers, 1) if name in names), 0)


def _needed(segment: IndexKind) -> int:
    """Bytes of what searches of a file read first."""
    return sum(array.nbytes for name, array in segment.sections.items() if _tier(segment, name) <= 1)


def _resident(part: Part) -> int:
    return int(mapping.present(*part.place).sum()) * mapping.PAGE


def _size(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):,.1f} MiB"
