"""Where compiled kernels are kept: archives that came with the package, and a folder of what was compiled on this machine.

Both hold machine code, which is run as it is. So each piece has a CRC, an archive or a folder names everything that its code depends on
(``tiers``), and a folder is used only if it is the user's own.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import json
import logging
import mmap
import os
import secrets
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from . import tiers

log = logging.getLogger("vectordb.kernels")
ARCHIVES = Path(__file__).with_name("archives")
_ARCHIVE, _PIECE = b"VDBKERN1", b"VDBPIEC1"  # what the two kinds of file begin with
_HEAD = struct.Struct("<8sII")  # that, the length of the JSON that follows, its CRC
_MONTH = 30 * 86_400


class Unusable(Exception):
    """An archive that this process can't use; the text says why."""


class Archive:
    """Compiled kernels in one file: a head of JSON ({"key": …, "index": {name: [offset, size, CRC]}}), then the pieces. Mapped, not read.

    Raises Unusable when its key isn't ``key`` or its head is damaged, OSError when it can't be read.
    """

    def __init__(self, path: Path, key: Mapping[str, str]):
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < _HEAD.size:
                raise Unusable("damaged: too short")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, length, crc = _HEAD.unpack_from(self._bytes)
        head = self._bytes[_HEAD.size : _HEAD.size + length]
        if magic != _ARCHIVE or len(head) < length or zlib.crc32(head) != crc:
            raise Unusable("damaged: its head can't be read")
        content = json.loads(head)
        for name, value in key.items():
            if content["key"].get(name) != value:
                raise Unusable(f"made for {name} {content['key'].get(name)}; this is {value}")
        self.path, self._index, self._start = path, content["index"], _HEAD.size + length

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def __len__(self) -> int:
        return len(self._index)

    def get(self, name: str) -> bytes | None:
        """A piece, None when it isn't here. Raises Unusable when it is damaged."""
        if name not in self._index:
            return None
        offset, size, crc = self._index[name]
        piece = self._bytes[self._start + offset : self._start + offset + size]
        if len(piece) != size or zlib.crc32(piece) != crc:
            raise Unusable(f"damaged: {name}")
        return piece


def write_archive(path: Path, key: Mapping[str, str], pieces: Mapping[str, bytes]) -> None:
    """Write an archive in place of what is there."""
    index, offset = {}, 0
    for name, piece in pieces.items():
        index[name] = offset, len(piece), zlib.crc32(piece)
        offset += len(piece)
    head = json.dumps({"key": key, "index": index}).encode()
    _write(path, [_HEAD.pack(_ARCHIVE, len(head), zlib.crc32(head)), head, *pieces.values()])


def archive_name(tier: str) -> str:
    """The file name of the archive of a tier for this Python and this system."""
    return f"{tier}.{tiers.python_tag()}.{tiers.machine_tag()}.kernels"


@functools.cache
def shipped() -> tuple[Archive | None, str]:
    """(the best archive of the package that fits this process, or None; a sentence on that for people)."""
    message = "no compiled kernels came with this installation"
    for tier in tiers.tiers_of_host():
        path = ARCHIVES / archive_name(tier)
        try:
            return Archive(path, tiers.key_of_tier(tier)), f"the kernels that came with this installation fit this processor ({tier})"
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, Unusable) as reason:
            message = f"the kernels that came with this installation aren't used: {reason} ({path})"
            log.info(message)
    return None, message


class Folder:
    """Compiled kernels on this machine, one file a piece. Several processes may read and write it at once. Made when first written to.

    A file is named after the piece and the sources that it was compiled from: after a change, what doesn't depend on it is still there.
    """

    def __init__(self, path: Path):
        self.path = path

    def _file(self, name: str) -> Path:
        called = f"{name} {tiers.sources_of(name.partition('.')[0])}"
        return self.path / (hashlib.sha256(called.encode()).hexdigest()[:32] + ".kernel")

    def __contains__(self, name: str) -> bool:
        return self._file(name).exists()

    def get(self, name: str) -> bytes | None:
        """A piece, None when it isn't here or is damaged."""
        try:
            data = self._file(name).read_bytes()
        except OSError:
            return None
        if len(data) < _HEAD.size:
            return None
        magic, length, crc = _HEAD.unpack_from(data)
        rest = data[_HEAD.size :]
        if magic != _PIECE or zlib.crc32(rest) != crc or rest[:length] != name.encode():
            return None
        return rest[length:]

    def put(self, name: str, piece: bytes) -> None:
        """Keep a piece. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        called = name.encode()
        _write(self._file(name), [_HEAD.pack(_PIECE, len(called), zlib.crc32(called + piece)), called, piece])

    def size(self) -> int:
        """Bytes of all pieces."""
        total = 0
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.path):
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat().st_size
        return total


def _write(path: Path, parts: list[bytes]) -> None:
    """Write a file so that others see all of it or nothing."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb") as file:
            file.writelines(parts)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def cache_dir(inside: str = "") -> str | None:
    """The folder where kernels compiled on this machine are kept: $VECTORDB_CACHE_DIR, else the user's cache folder, else one in the folder
    for temporary files. It is made when it isn't there. One that can't be written to will do when it holds a folder named ``inside``.
    None: nothing can be written anywhere.
    """
    for folder in _candidates():
        with contextlib.suppress(OSError):
            with contextlib.suppress(PermissionError):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Its code is executed, so a folder that another user made in the temporary directory is not trusted.
            ours = folder.stat().st_uid in (os.getuid(), 0) or "VECTORDB_CACHE_DIR" in os.environ
            if ours and (os.access(folder, os.W_OK) or (inside and (folder / inside).is_dir())):
                return str(folder)
    with contextlib.suppress(OSError):
        temporary = tempfile.mkdtemp(prefix="vectordb-kernels-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        return temporary
    return None


def _candidates() -> Iterator[Path]:
    chosen = os.environ.get("VECTORDB_CACHE_DIR")
    if chosen:
        yield Path(os.path.abspath(chosen)) / "kernels"
        return
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(cache) and os.environ.get("HOME") != "":  # else nobody knows where home is
        yield Path(cache) / "vectordb" / "kernels"
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir()) / f"vectordb-{os.getuid()}" / "kernels"


_chosen: Folder | None = None  # by ``use_folder``


def local() -> Folder | None:
    """The folder of what kernels were compiled to for this processor, None when nothing can be kept. It is looked for when first asked for:
    a process that needs nothing compiled needs no folder.
    """
    return _chosen if _chosen is not None else _found()


@functools.cache
def _found() -> Folder | None:
    key = hashlib.sha256(json.dumps(tiers.key_of_process(), sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir(key)
    return None if folder is None else Folder(Path(folder) / key)


def use_folder(path: Path) -> None:
    """Keep what this process compiles in a folder that the caller names."""
    global _chosen
    _chosen = Folder(path)


def forget_old_pieces(needed: Iterable[str]) -> None:
    """Remove what was compiled more than a month ago, for other processors or from other sources. needed: names of pieces, which stay."""
    kept = local()
    if kept is not None:
        staying = {kept._file(name).name for name in needed}
        with contextlib.suppress(OSError):
            for entry in os.scandir(kept.path):
                if entry.name.endswith(".kernel") and entry.name not in staying and time.time() - entry.stat().st_mtime > _MONTH:
                    os.unlink(entry.path)
    with contextlib.suppress(OSError):
        for entry in os.scandir(kept.path.parent) if kept is not None else ():
            old = entry.is_dir(follow_symlinks=False) and time.time() - entry.stat().st_mtime > _MONTH
            if old and entry.path != str(kept.path):
                shutil.rmtree(entry.path, ignore_errors=True)
