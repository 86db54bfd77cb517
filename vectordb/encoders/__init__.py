"""Encoders: text in, vectors out, at the edge of the database.

``load("bm25(language=german, stopwords=true)")`` gives the encoder that a field names with ``encoder=``. Nothing here
touches the network: a model comes out of an installed package or a folder, or there is an EncoderError that says what to install.
"""

from __future__ import annotations

import importlib
import re
import threading
from functools import lru_cache
from typing import Any

from ..errors import EncoderError, shown
from .base import Encoder

__all__ = ["ENCODERS", "Encoder", "load", "load_as", "options_of", "parse"]

# name → (module, class). Modules are imported when first asked for: torch takes seconds and is seldom there.
ENCODERS = {
    "bm25": ("bm25", "BM25"),
    "wordllama": ("wordllama", "WordLlama"),
    "sentence-transformers": ("sentence_transformers", "DenseModel"),
    "sparse-encoder": ("sentence_transformers", "SparseModel"),
}

_SPEC = re.compile(r"\s*([A-Za-z][\w\-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_OPTION = re.compile(r"""\s*([A-Za-z_]\w*)\s*=\s*("[^"]*"|'[^']*'|[^,"']*?)\s*(?:,|$)""", re.DOTALL)

_loaded: dict[tuple, Encoder] = {}
_lock = threading.Lock()


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """``"name(option=value, …)"`` as (name, options); a value with commas or quotes in it goes in quotes.

    Raises EncoderError when the text doesn't have that form.
    """
    match = _SPEC.fullmatch(spec) if isinstance(spec, str) else None
    if not match:
        raise EncoderError(f"encoder {shown(spec)} must read like 'bm25' or 'bm25(language=german, k1=0.9)'", field="encoder", value=spec)
    name, inner = match.group(1), (match.group(2) or "").strip()
    options: dict[str, str] = {}
    at = 0
    while at < len(inner):
        option = _OPTION.match(inner, at)
        if not option:
            what = f"encoder {shown(spec)}: can't read the options at {shown(inner[at:])}; write option=value, …"
            raise EncoderError(what, field="encoder", value=spec)
        key, value = option.groups()
        if key in options:
            raise EncoderError(f"encoder {shown(spec)} gives option {key!r} twice", field="encoder", value=spec)
        options[key] = value[1:-1] if value[:1] in ("'", '"') else value
        at = option.end()
    return name, options


def load(spec: str) -> Encoder:
    """The encoder a spec names, made once a process. Raises EncoderError: unknown name or option, missing package or model."""
    return _made(*_read(spec))


def load_as(spec: str, identity: str) -> Encoder | None:
    """The encoder of a spec that has an identity: today's, or that of an earlier version; None when neither has. Raises as ``load``."""
    cls, options = _read(spec)
    for each in (cls, cls.earlier):
        if each is not None and (found := _made(each, options)).identity == identity:
            return found
    return None


def options_of(spec: str) -> dict[str, Any]:
    """The options that a spec gives, as values; no package or model is needed. Raises EncoderError."""
    return _read(spec)[1]


@lru_cache(256)
def _read(spec: str) -> tuple[type[Encoder], dict[str, Any]]:
    name, given = parse(spec)
    if name not in ENCODERS:
        raise EncoderError(f"no encoder {name!r}; there are: {', '.join(ENCODERS)}", field="encoder", value=spec)
    module, cls = ENCODERS[name]
    encoder: type[Encoder] = getattr(importlib.import_module(f".{module}", __name__), cls)
    options: dict[str, Any] = {}
    for key, text in given.items():
        if key not in encoder.options:
            known = ", ".join(encoder.options)
            raise EncoderError(f"encoder {name!r} has no option {key!r}; there are: {known}", field="encoder", value=spec)
        try:
            options[key] = encoder.options[key](text)
        except ValueError as error:
            raise EncoderError(
                f"option {key} of encoder {name!r} must be {error}, not {shown(text)}", field="encoder", value=spec
            ) from None
    return encoder, options


def _made(encoder: type[Encoder], options: dict[str, Any]) -> Encoder:
    cached = (encoder, *sorted(options.items()))
    with _lock:
        if cached not in _loaded:
            _loaded[cached] = encoder(**options)
        return _loaded[cached]
