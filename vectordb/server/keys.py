"""API keys: who may do what in which collections. A file of them, of which only hashes are kept.

A key reads ``vdb_<id>_<secret>``: the id names it in lists and logs, the secret is 256 random bits. Because nobody guesses those, one
SHA-256 of them is as good as a slow hash, and costs a microsecond a call.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..errors import AuthenticationError, InvalidArgumentError, LimitError, NotFoundError, StorageError, UnavailableError, shown
from ..storage import modes
from ..types import check_name

log = logging.getLogger("vectordb.server")
ROLES = ("read", "write", "admin")  # each may what those before it may
FILE_NAME = "keys.json"
MAX_KEYS = 1_000
_LOOK_SECONDS = 0.25  # between two looks at the file
_OTHERS_WRITE = 0o022
_HEADER = "authorization"
_SCHEME = "bearer "
_DURATION = re.compile(r"(\d{1,6})([hd])")


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file keeps of a key. collections: None is all of them. vectors: whether it may fetch vectors. expires: None is never."""

    id: str
    hash: str
    role: Literal["read", "write", "admin"]
    collections: tuple[str, ...] | None = None
    vectors: bool = False
    created: datetime
    expires: datetime | None = None
    note: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    keys: tuple[Key, ...]


def create(
    path: Path,
    role: str,
    *,
    collections: Sequence[str] | None = None,
    vectors: bool = False,
    expires: datetime | None = None,
    note: str = "",
) -> tuple[str, Key]:
    """A new key, in the file. The key itself is returned and kept nowhere. Raises InvalidArgumentError, LimitError, StorageError."""
    if role not in ROLES:
        raise InvalidArgumentError(f"role must be one of {', '.join(ROLES)}, not {shown(role)}", field="role", value=role)
    for name in collections or ():
        check_name(name, "collection")
    now = datetime.now(UTC).replace(microsecond=0)
    if expires is not None and expires <= now:
        raise InvalidArgumentError(f"expires must lie ahead, not at {expires.isoformat()}", field="expires", value=expires.isoformat())
    number, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    names = None if collections is None else tuple(sorted(set(collections)))
    made = Key(
        id=number,
        hash=_hash(number, secret),
        role=role,
        collections=names,
        vectors=vectors,
        created=now,
        expires=expires,
        note=note,
    )
    with _locked(path):
        known = read(path) if path.exists() else ()
        if len(known) >= MAX_KEYS:
            raise LimitError(f"{path} holds {len(known)} keys, at most {MAX_KEYS} are kept", field="keys", value=len(known))
        _write(path, (*known, made))
    return f"vdb_{number}_{secret}", made


def revoke(path: Path, key_id: str) -> None:
    """Take a key out of the file. Raises NotFoundError. A file without keys still wants one of every caller: nobody gets in."""
    with _locked(path):
        known = read(path)
        left = [key for key in known if key.id != key_id]
        if len(left) == len(known):
            raise NotFoundError(f"{path} has no key {shown(key_id)}; vectordb keys list shows those there are", field="key", value=key_id)
        _write(path, left)


def read(path: Path) -> tuple[Key, ...]:
    """The keys of a file. Raises StorageError when it can't be read, is no such file, or may be written by others than its owner."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS_WRITE:
                raise StorageError(f"{path} may be written by others than its owner: chmod 600 {path}", field="keys_file", value=str(path))
            return msgspec.json.decode(file.read(), type=_File).keys
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror}", field="keys_file", value=str(path)) from error
    except msgspec.MsgspecError as error:
        raise StorageError(f"{path} is not a file of API keys: {error}", field="keys_file", value=str(path)) from None


def expiry(text: str) -> datetime:
    """The moment that ``90d``, ``12h`` or an ISO date stands for. Raises InvalidArgumentError."""
    if span := _DURATION.fullmatch(text):
        return datetime.now(UTC).replace(microsecond=0) + timedelta(hours=int(span[1]) * (24 if span[2] == "d" else 1))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgumentError(f"expires must read 90d, 12h or 2030-01-31, not {shown(text)}", field="expires", value=text) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def file_of(directory: str | os.PathLike[str], named: str) -> Path:
    """Where the keys of a database are: in the file that was named, or in its directory."""
    return Path(os.path.abspath(named or Path(directory) / FILE_NAME))


class Keys:
    """The keys of a file as they are now: it is looked at again as calls come, at most four times a second.

    Once there was a file, every call needs a key, also when the file can't be read any more or is gone. Raises StorageError when it is
    there and can't be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._looked = -1.0
        self._mark = _mark(path)  # before it is read: what is written meanwhile is read again
        self._keys: dict[str, Key] = {}
        self._failed = False
        self.wanted = self._mark is not None
        if self.wanted:
            self._read()

    def require(self) -> None:
        """Want a key of every call, even before there is one. Raises StorageError when there is no file."""
        if not self.wanted:
            raise StorageError(f"there is no {self.path}; vectordb keys create makes it", field="keys_file", value=str(self.path))

    def owner(self, metadata: Iterable[tuple[str, Any]] | None) -> Key | None:
        """Whose call it is, by its metadata; None while no keys are in use. Raises AuthenticationError, UnavailableError."""
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._look(now)
        if not self.wanted:
            return None
        if self._failed:
            raise UnavailableError("the service can't read its API keys; its log says why")
        given = [value for name, value in metadata or () if name == _HEADER]
        if not given:
            raise AuthenticationError(
                "the service wants an API key: metadata 'authorization: Bearer vdb_…', Client(api_key=…)", field="api_key"
            )
        return self._found(given)

    def _found(self, given: list[Any]) -> Key:
        value = given[0] if len(given) == 1 and isinstance(given[0], str) else ""  # two keys are none
        prefix, _, rest = value[len(_SCHEME) :].partition("_")
        number, _, secret = rest.partition("_")
        key = self._keys.get(number)
        right = key is not None and hmac.compare_digest(key.hash, _hash(number, secret))
        if not right or prefix != "vdb" or value[: len(_SCHEME)].lower() != _SCHEME:
            raise AuthenticationError("the API key is not valid", field="api_key")
        if key.expires is not None and key.expires <= datetime.now(UTC):
            raise AuthenticationError(f"API key {key.id} has expired", field="api_key")
        return key

    def _look(self, now: float) -> None:
        with self._lock:
            if now <= self._looked:
                return
            self._looked = now
            mark = _mark(self.path)
            if mark == self._mark:
                return
            self._mark = mark
            self.wanted = True
            try:
                self._read()
                self._failed = False
            except StorageError as error:
                self._failed = True
                log.error("no caller is let in: %s", error)

    def _read(self) -> None:
        self._keys = {key.id: key for key in read(self.path)}


def _hash(number: str, secret: str) -> str:
    return hashlib.sha256(f"vectordb key {number} {secret}".encode()).hexdigest()


def _mark(path: Path) -> tuple | None:
    """What changes with the file: it is replaced as a whole, so its inode does."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time changes the keys of a folder."""
    try:
        modes.make_folder(path.parent)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise StorageError(f"{path} can't be written: {error.strerror}", field="keys_file", value=str(path)) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, keys: Iterable[Key]) -> None:
    """Put the file in place of the old one, whole or not at all, for its owner's eyes only."""
    data = msgspec.json.format(msgspec.json.encode(_File(1, tuple(keys))), indent=1) + b"\n"
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                if os.geteuid() == 0:  # the service, which has to read it, seldom is root: the folder is its own
                    owner = os.stat(path.parent)
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(f"{path} can't be written: {error.strerror}", field="keys_file", value=str(path)) from error
