"""Encoders turn text into vectors.

``load("bm25(language=german)")`` returns the encoder that a vector field names with ``encoder=``. Encoders never use the network: a model
is read from an installed package or a folder. If it is in neither, an EncoderError says what to install.

An encoder is a subclass of ``Encoder`` and a name: in ``ENCODERS``, or an entry point of another distribution in the group
``vectordb.encoders``. Names of ``ENCODERS`` win. The functions that a program gives to ``vectordb.open`` have names too (``functions``).
"""

from __future__ import annotations

import pkgutil
import re
import threading
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, cast

from vectordb_client.errors import EncoderError, shown
from vectordb_client.model.schema import VectorField

from ..common import analyze
from . import functions
from .base import Encoder
from .term_weights import write_term_weights

__all__ = [
    "ENCODERS",
    "Encoder",
    "functions",
    "load",
    "load_as",
    "names",
    "of_field",
    "options_of",
    "parse",
    "saturation_of",
    "write_term_weights",
]

# Name → class, or where it is. A module is imported when its encoder is first used, because importing torch takes seconds.
ENCODERS: dict[str, type[Encoder] | str] = {
    "bm25": "vectordb.encoders.bm25:BM25",
    "bm25f": "vectordb.encoders.bm25:BM25F",
    "term-weights": "vectordb.encoders.term_weights:TermWeights",
    "trigram": "vectordb.encoders.trigram:Trigram",
    "wordllama": "vectordb.encoders.wordllama:WordLlama",
    "onnx": "vectordb.encoders.onnx:Onnx",
    "static": "vectordb.encoders.static:Static",
    "sentence-transformers": "vectordb.encoders.sentence_transformers:DenseModel",
    "sparse-encoder": "vectordb.encoders.sentence_transformers:SparseModel",
    "late-interaction": "vectordb.encoders.late_interaction:TokenModel",
    "minilm-tokens": "vectordb.encoders.late_interaction:MiniLMTokens",
}
GROUP = "vectordb.encoders"

_SPEC = re.compile(r"\s*([A-Za-z][\w\-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_OPTION = re.compile(r"""\s*([A-Za-z_]\w*)\s*=\s*("[^"]*"|'[^']*'|[^,"']*?)\s*(?:,|$)""", re.DOTALL)

_loaded: dict[tuple, Encoder] = {}
_lock = threading.Lock()


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """Split an encoder spec ``"name(option=value, …)"`` into (name, options). A value that contains commas or quotes is written in quotes.

    Raises EncoderError when the spec doesn't have that form.
    """
    match = _SPEC.fullmatch(spec) if isinstance(spec, str) else None
    if not match:
        what = f"encoder must be a name with or without options, such as 'bm25' or 'bm25(language=german, k1=0.9)', not {shown(spec)}"
        raise EncoderError(what, field="encoder", value=spec)
    name, inner = match.group(1), (match.group(2) or "").strip()
    options: dict[str, str] = {}
    position = 0
    while position < len(inner):
        option = _OPTION.match(inner, position)
        if not option:
            example = "k1=0.9" if name in ("bm25", "bm25f", "trigram") else "model=/folder"
            what = f"encoder {shown(spec)}: options are written as option=value, such as {example}, not {shown(inner[position:])}"
            raise EncoderError(what, field="encoder", value=spec)
        key, value = option.groups()
        if key in options:
            raise EncoderError(f"encoder {shown(spec)}: option {key!r} is given twice; give it once", field="encoder", value=spec)
        options[key] = value[1:-1] if value[:1] in ("'", '"') else value
        position = option.end()
    return name, options


def load(spec: str) -> Encoder:
    """The encoder that a spec names. Each is created once per process and shared.

    Raises EncoderError for an unknown name or option, and when a package or model is missing.
    """
    return _made(*_read(spec))


def of_field(spec: VectorField) -> Encoder:
    """The encoder of a field, which uses the analyzer of the attribute that the field reads. Raises EncoderError as ``load`` does."""
    name = cast(str, spec.encoder)  # only fields with an encoder are asked for
    if spec.analyzer is None:
        return load(name)
    cls, options = _read(name)
    analysis = analyze.analysis(spec.analyzer)
    cached = (cls, analysis.identity, *sorted(options.items()))
    with _lock:
        if cached not in _loaded:
            _loaded[cached] = cls.analyzed(analysis, **options)
        return _loaded[cached]


def load_as(spec: str, identity: str) -> Encoder | None:
    """The encoder of a spec whose identity is ``identity``: the current one, or the one of earlier versions of vectordb. None when neither
    has that identity. Raises EncoderError as ``load`` does.
    """
    cls, options = _read(spec)
    for each in (cls, cls.earlier):
        if each is not None and (encoder := _made(each, options)).identity == identity:
            return encoder
    return None


def options_of(spec: str) -> dict[str, Any]:
    """The options of a spec as Python values. Needs no package or model. Raises EncoderError."""
    return _read(spec)[1]


class _Saturated(Protocol):
    """An encoder that counts words or parts of words."""

    k1: float
    b: float


def saturation_of(spec: str) -> tuple[float, float]:
    """k1 and b of an encoder that counts words or parts of words. Raises EncoderError."""
    cls, options = _read(spec)
    counting = cast(type[_Saturated], cls)
    return options.get("k1", counting.k1), options.get("b", counting.b)


def _read(spec: str) -> tuple[type[Encoder], dict[str, Any]]:
    """The class and the options of a spec."""
    encoder = _class(_name(spec), spec)
    return _options.__wrapped__(spec, encoder) if issubclass(encoder, functions.Function) else _options(spec, encoder)


@lru_cache(256)
def _name(spec: str) -> str:
    return parse(spec)[0]


@lru_cache(256)
def _options(spec: str, encoder: type[Encoder]) -> tuple[type[Encoder], dict[str, Any]]:
    name, given = parse(spec)
    options: dict[str, Any] = {}
    for key, text in given.items():
        if key not in encoder.options:
            known = f"its options are: {', '.join(encoder.options)}" if encoder.options else "it has no options"
            raise EncoderError(f"encoder {name!r} has no option {key!r}; {known}", field="encoder", value=spec)
        try:
            options[key] = encoder.options[key](text)
        except ValueError as error:
            raise EncoderError(
                f"option {key} of encoder {name!r} must be {error}, not {shown(text)}", field="encoder", value=spec
            ) from None
    return encoder, options


def _class(name: str, spec: str) -> type[Encoder]:
    if name in ENCODERS:
        encoder = ENCODERS[name]
        return _resolved(encoder) if isinstance(encoder, str) else encoder
    function = functions.find(name)
    if function is not None:
        return function
    entry = _entry_points().get(name)
    if entry is None:
        what = f"no encoder {name!r}; the encoders are: {', '.join(names())}"
        what += f". A Python function is an encoder where it is given: vectordb.open(path, encoders={{{name!r}: function}})"
        raise EncoderError(what, field="encoder", value=spec)
    try:
        encoder = entry.load()
    except Exception as error:  # whatever the import of another package raises
        raise _broken(entry, f"can't be loaded: {type(error).__name__}: {error}", spec) from error
    if not (isinstance(encoder, type) and issubclass(encoder, Encoder)):
        raise _broken(entry, f"is {shown(encoder)}, not a subclass of vectordb.encoders.Encoder", spec)
    return encoder


def names() -> list[str]:
    """The names of all encoders that are not functions of the program."""
    return [*ENCODERS, *_entry_points()]


_resolved = cache(pkgutil.resolve_name)


@cache
def _entry_points() -> dict[str, EntryPoint]:
    """The encoders of other distributions. They are looked up once per process, because that reads the metadata of every distribution."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _broken(entry: EntryPoint, wrong: str, spec: str) -> EncoderError:
    package = entry.dist.name if entry.dist is not None else "another package"
    return EncoderError(f"encoder {entry.name!r} of {package} ({entry.value}) {wrong}", field="encoder", value=spec)


def _made(encoder: type[Encoder], options: dict[str, Any]) -> Encoder:
    if issubclass(encoder, functions.Function):
        return encoder.made()
    cached = (encoder, *sorted(options.items()))
    with _lock:
        if cached not in _loaded:
            _loaded[cached] = encoder(**options)
        return _loaded[cached]
