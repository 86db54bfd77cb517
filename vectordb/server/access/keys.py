"""API keys and the file that stores their hashes, roles and collections.

A key reads ``vdb_<id>_<secret>``. The id identifies it in lists and logs; the secret is 256 random bits. Such a secret can't be guessed, so
a single SHA-256 is as safe as a slow password hash, and costs a microsecond per call.
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
from vectordb_client.errors import (
    AuthenticationError,
    InvalidArgumentError,
    LimitError,
    NotFoundError,
    StorageError,
    UnavailableError,
    shown,
)
from vectordb_client.model.schema import check_name

from ...storage import modes

log = logging.getLogger("vectordb.server")
ROLES = ("read", "write", "admin")  # each role includes the ones before it
FILE_NAME = "keys.json"
MAX_KEYS = 1_000
_LOOK_SECONDS = 0.25  # between two checks of the file
_OTHERS_WRITE = 0o022
_HEADER = "authorization"
_SCHEME = "bearer "
_DURATION = re.compile(r"(\d{1,6})([hd])")


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key as stored. collections: None means all. vectors: whether it may read vectors. expires: None means never. tenant: the only one
    whose points it may read and write; None: all points.
    """

    id: str
    hash: str
    role: Literal["read", "write", "admin"]
    collections: tuple[str, ...] | None = None
    vectors: bool = False
    created: datetime
    expires: datetime | None = None
    note: str = ""
    tenant: str | None = None


# The caller of all calls when no keys are in use.
ANYBODY = Key(id="-", hash="", role="admin", vectors=True, created=datetime(1970, 1, 1, tzinfo=UTC))


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
    tenant: str | None = None,
) -> tuple[str, Key]:
    """Create a key and add it to the file. Returns (token, key); the token is not stored.

    Raises InvalidArgumentError, LimitError, StorageError.
    """
    if role not in ROLES:
        raise InvalidArgumentError(f"role must be one of {', '.join(ROLES)}, not {shown(role)}", field="role", value=role)
    for name in collections or ():
        check_name(name, "collection")
    if tenant is not None and role == "admin":
        what = f"a key bound to a tenant can't have the role admin, which changes what belongs to all tenants; tenant is {shown(tenant)}"
        raise InvalidArgumentError(f"{what}: choose the role read or write", field="tenant", value=tenant)
    now = datetime.now(UTC).replace(microsecond=0)
    if expires is not None and expires <= now:
        raise InvalidArgumentError(f"expires must be in the future, not {expires.isoformat()}", field="expires", value=expires.isoformat())
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
        tenant=tenant,
    )
    with _locked(path):
        keys = read(path) if path.exists() else ()
        if len(keys) >= MAX_KEYS:
            raise LimitError(f"{path} already holds {len(keys)} keys, the maximum is {MAX_KEYS}", field="keys", value=len(keys))
        _write(path, (*keys, made))
    return f"vdb_{number}_{secret}", made


def revoke(path: Path, key_id: str) -> None:
    """Remove a key from the file. Raises NotFoundError. With an empty key file every call is refused."""
    with _locked(path):
        keys = read(path)
        left = [key for key in keys if key.id != key_id]
        if len(left) == len(keys):
            raise NotFoundError(f"{path} has no key {shown(key_id)}; vectordb keys list shows the keys", field="key", value=key_id)
        _write(path, left)


def read(path: Path) -> tuple[Key, ...]:
    """The keys of a file. Raises StorageError if it can't be read, isn't a key file, or is writable by others than its owner."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS_WRITE:
                raise StorageError(f"{path} is writable by others than its owner: run chmod 600 {path}", field="keys_file", value=str(path))
            return msgspec.json.decode(file.read(), type=_File).keys
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror}", field="keys_file", value=str(path)) from error
    except msgspec.MsgspecError as error:
        raise StorageError(f"{path} is not a key file: {error}", field="keys_file", value=str(path)) from None


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
    """The key file of a database: the named one, or ``keys.json`` in its directory."""
    return Path(os.path.abspath(named or Path(directory) / FILE_NAME))


class Keys:
    """The current keys of a file. It is checked for changes when calls come, at most four times a second.

    Once the file has existed, every call needs a key, even if the file can no longer be read or is gone. Raises StorageError if it exists
    but can't be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._looked = -1.0
        self._mark = _mark(path)  # before reading: a write meanwhile causes another read
        self._keys: dict[str, Key] = {}
        self._failed = False
        self.required = self._mark is not None
        if self.required:
            self._read()

    def require(self) -> None:
        """Raises StorageError if the key file does not exist."""
        if not self.required:
            raise StorageError(f"no key file {self.path}; create it with vectordb keys create", field="keys_file", value=str(self.path))

    def owner(self, metadata: Iterable[tuple[str, Any]] | None) -> Key | None:
        """The API key in a call's metadata; None while no keys are in use. Raises AuthenticationError, UnavailableError."""
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._look(now)
        if not self.required:
            return None
        if self._failed:
            raise UnavailableError("the service can't read its API keys; see its log")
        given = [value for name, value in metadata or () if name == _HEADER]
        if not given:
            raise AuthenticationError(
                "the service requires an API key: Client(api_key=…), or metadata 'authorization: Bearer vdb_…'", field="api_key"
            )
        return self._checked(given)

    def _checked(self, given: list[Any]) -> Key:
        value = given[0] if len(given) == 1 and isinstance(given[0], str) else ""  # two headers count as none
        prefix, _, rest = value[len(_SCHEME) :].partition("_")
        number, _, secret = rest.partition("_")
        key = self._keys.get(number)
        right = key is not None and hmac.compare_digest(key.hash, _hash(number, secret))
        if key is None or not right or prefix != "vdb" or value[: len(_SCHEME)].lower() != _SCHEME:
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
            self.required = True
            try:
                self._read()
                self._failed = False
            except StorageError as error:
                self._failed = True
                log.error("all calls are refused: %s", error)

    def _read(self) -> None:
        self._keys = {key.id: key for key in read(self.path)}


def _hash(number: str, secret: str) -> str:
    return hashlib.sha256(f"vectordb key {number} {secret}".encode()).hexdigest()


def _mark(path: Path) -> tuple | None:
    """A mark that changes with the file: it is always replaced as a whole, so its inode changes."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the folder, so that one process at a time changes its keys."""
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
    """Replace the file atomically; only its owner may read it."""
    data = msgspec.json.format(msgspec.json.encode(_File(1, tuple(keys))), indent=1) + b"\n"
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                if os.geteuid() == 0:  # the service must read it and is seldom root: use the folder's owner
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
