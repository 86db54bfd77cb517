"""Files that encoders read: tokenizers, and arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from vectordb_client.errors import EncoderError, shown

_INSTALL = "pip install 'tokenizers>=0.20'"
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "I8": "i1"}


def needed(encoder: str, option: str, path: str | None, example: str) -> Path:
    """The path of an option that an encoder can't do without. Raises EncoderError when it isn't given or there is nothing."""
    if path is None:
        raise EncoderError(f"encoder {encoder!r} needs a {option}; write {encoder}({option}={example})", field="encoder", value=encoder)
    place = Path(path).expanduser()
    if not place.exists():
        raise EncoderError(f"encoder {encoder!r} finds no {option} at {shown(path)}", field="encoder", value=path)
    return place


def unreadable(encoder: str, path: Path, why: Any) -> EncoderError:
    return EncoderError(f"encoder {encoder!r} can't read {path}: {why}", field="encoder", value=str(path))


def read_json(encoder: str, path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises EncoderError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(encoder, path, error) from error
    if not isinstance(value, dict):
        raise unreadable(encoder, path, f"it must hold a JSON object, not {shown(value)}")
    return value


def tokenizer(encoder: str, path: Path) -> Any:
    """The tokenizer of a ``tokenizer.json``, which neither cuts nor pads texts. Raises EncoderError."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EncoderError(f"encoder {encoder!r} needs tokenizers: {_INSTALL}", field="encoder", value=encoder) from error
    if not path.is_file():
        raise EncoderError(f"encoder {encoder!r} finds no tokenizer at {shown(str(path))}", field="encoder", value=str(path))
    try:
        read = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise unreadable(encoder, path, error) from error
    read.no_padding()
    read.no_truncation()
    return read


def arrays(encoder: str, path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors file by name, or the array of a .npy file, whose name is "embeddings". Raises EncoderError."""
    try:
        if path.suffix == ".npy":
            return {"embeddings": np.load(path, allow_pickle=False)}
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        if not 8 < start <= len(data):
            raise ValueError("it isn't a safetensors file")
        found = {}
        for name, about in json.loads(data[8:start]).items():
            if name != "__metadata__" and about["dtype"] in _DTYPES:
                low, high = about["data_offsets"]
                found[name] = np.frombuffer(data[start + low : start + high], _DTYPES[about["dtype"]]).reshape(about["shape"])
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(encoder, path, error) from error
