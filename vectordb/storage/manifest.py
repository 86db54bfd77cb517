"""The manifest of a snapshot: its files with sizes and checksums, and what they contain. FORMAT.md describes it.

A snapshot may come from an untrusted place, so every value is checked before it is used.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import xxhash
from vectordb_client.errors import CorruptionError, FormatVersionError, shown

from . import format, place, segments

VERSION = 1
NAME, DATA = place.MANIFEST, place.DATA
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Points(msgspec.Struct):
    sequence: _Count
    points: _Count


class _File(msgspec.Struct):
    bytes: _Count
    xxh3_128: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class _Manifest(msgspec.Struct):
    snapshot: int
    format: int
    vectordb: str
    created: str
    collections: dict[str, _Points]
    files: dict[str, _File]


class _Sealed(msgspec.Struct):
    manifest: dict[str, Any]
    xxh3_128: str


def pack(manifest: dict[str, Any]) -> bytes:
    """The bytes of manifest.json."""
    return json.dumps({"manifest": manifest, "xxh3_128": _digest(manifest)}, indent=1, ensure_ascii=False).encode()


def unpack(data: bytes, where: str) -> dict[str, Any]:
    """Decode and check the bytes of a manifest. where: name of the snapshot, for errors.

    Raises CorruptionError or FormatVersionError.
    """
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        if sealed.xxh3_128 != _digest(sealed.manifest):
            raise ValueError("it fails its checksum")
        _check_versions(sealed.manifest, where)
        manifest = msgspec.convert(sealed.manifest, _Manifest)
        strange = [name for name in manifest.files if not _is_known(name)]
        if strange or DATA not in manifest.files:
            raise ValueError(f"it names {shown(strange[0])}, which no snapshot contains" if strange else f"it doesn't name {DATA}")
    except (ValueError, RecursionError) as error:  # errors of msgspec and json are ValueErrors
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise CorruptionError(f"the manifest of snapshot {where} is damaged: {why}", field="source", value=where) from None
    return sealed.manifest


def _digest(manifest: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True, ensure_ascii=False).encode())


def _check_versions(manifest: dict[str, Any], where: str) -> None:
    """Check the versions before everything else, because a newer version may have other values."""
    for name, newest in (("snapshot", VERSION), ("format", format.VERSION)):
        version = manifest.get(name)
        if type(version) is not int or version < 1:
            raise ValueError(f"its {name} version is {shown(version)}")
        if version > newest:
            raise FormatVersionError(
                f"snapshot {where} has {name} version {version}; this version of vectordb reads up to {newest}", field="source", value=where
            )


def _is_known(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return name == DATA or (folder == segments.FOLDER and segments.collection_of(file) is not None)
