"""Python functions as encoders: ``vectordb.open(path, encoders={"mine": function})``.

A function has a name in the process, from the opening of a database to its closing. The schema stores the name alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from vectordb_client.errors import EncoderError, InvalidArgumentError, VectorDBError, many, shown
from vectordb_client.model.norms import COSINE_NORMS, MAX_NORM

from ..common import deadline
from .base import Encoder, OneVector

Texts = Callable[[list[str]], Any]  # a function from texts to an array (texts, dimensions)
Given = Mapping[str, Texts | tuple[Texts, Texts]]  # name → a function, or one for documents and one for queries

_BATCH = 256  # texts given to a function in one call
_NAME = re.compile(r"[A-Za-z][\w\-]*")
_PROBE = "vectordb"  # the text that tells how many dimensions a function makes
_IDENTITY = re.compile(r"function ([\w\-]+)\(dim=\d+\)")


class Function(OneVector):
    """The encoder of a function. Its subclasses have the functions."""

    name: ClassVar[str]
    pair: ClassVar[tuple[Texts, Texts]]  # for documents, for queries
    _made: ClassVar[Function | None] = None

    @classmethod
    def made(cls) -> Function:
        """The only instance of this class. It lives as long as the class, so that nothing keeps a function after its database is closed."""
        if cls._made is None:
            cls._made = cls()  # by two threads at once: the same twice
        return cls._made

    def __init__(self) -> None:
        self.dim = self._call([_PROBE], query=False, dim=None).shape[1]
        self.identity = f"function {self.name}(dim={self.dim})"

    def vectors(self, texts: Sequence[str], query: bool) -> tuple[np.ndarray, np.ndarray]:
        """What the function returns. Blank texts, which it isn't given, and zeros are no vectors."""
        out = np.zeros((len(texts), self.dim or 0), np.float32)
        given = [row for row, text in enumerate(texts) if text and not text.isspace()]
        for low in range(0, len(given), _BATCH):
            deadline.check()
            rows = given[low : low + _BATCH]
            out[rows] = self._call([texts[row] for row in rows], query, self.dim)
        return out, np.asarray(out.any(axis=1))

    def _call(self, texts: list[str], query: bool, dim: int | None) -> np.ndarray:
        """Vectors float32 of texts. dim: their number of dimensions, None: whatever it is. Raises EncoderError if they are none."""
        called, function = f"encoder {self.name!r}: the function", self.pair[query]
        try:
            result = function(list(texts))
        except VectorDBError:
            raise
        except Exception as error:  # whatever the function raises
            what = f"{called} raised {type(error).__name__}: {error}"
            raise EncoderError(what, field="encoder", value=self.name) from error
        wanted = f"an array of floats ({len(texts)}, {'dimensions' if dim is None else dim})"
        try:
            values = np.asarray(result)
        except Exception as error:  # lists of different lengths, tensors on a GPU
            what = f"{called} must return {wanted}, not {shown(result)}: {error}"
            raise EncoderError(what, field="encoder", value=self.name) from error
        if values.dtype.kind not in "fiu":
            raise EncoderError(f"{called} must return {wanted}, not of {values.dtype}", field="encoder", value=self.name)
        if values.ndim != 2 or len(values) != len(texts) or not values.shape[1] or dim not in (None, values.shape[1]):
            what = f"{called} must return {wanted} for {many(len(texts), 'text')}, not {values.shape}"
            raise EncoderError(what, field="encoder", value=self.name)
        with np.errstate(over="ignore"):
            vectors = values.astype(np.float32)
            norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        bad = np.flatnonzero(~((norms <= MAX_NORM) & ((norms >= COSINE_NORMS[0]) | (norms == 0))))
        if len(bad):
            row = int(bad[0])
            wrong = next((float(value) for value in vectors[row] if not np.isfinite(value)), None)
            wrong = (
                f"has {wrong}"
                if wrong is not None
                else f"has the length {norms[row]:g}, which is not from {COSINE_NORMS[0]:g} to {MAX_NORM:g}"
            )
            raise EncoderError(f"{called} returned a vector for {shown(texts[row])} that {wrong}", field="encoder", value=self.name)
        return vectors


class _Named(NamedTuple):
    encoder: type[Function]
    owners: dict[object, str]  # the open databases that gave it, with their directories


_named: dict[str, _Named] = {}
_lock = threading.Lock()


def find(name: str) -> type[Encoder] | None:
    """The encoder of the function of a name; None if no open database has given one."""
    named = _named.get(name)
    return None if named is None else named.encoder


def called(identity: str) -> str | None:
    """The name of the function that an encoder's identity is of; None for other encoders."""
    match = _IDENTITY.fullmatch(identity)
    return match[1] if match else None


def checked(given: Any, taken: Sequence[str]) -> dict[str, tuple[Texts, Texts]]:
    """The functions of ``encoders=``. taken: names of other encoders. Raises InvalidArgumentError."""
    if not isinstance(given, Mapping):
        what = f'encoders must be a dict from names to functions, such as {{"mine": function}}, not {shown(given)}'
        raise InvalidArgumentError(what, field="encoders", value=given)
    pairs = {}
    for name, value in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            what = f"a name in encoders must be letters, digits, '_' and '-', beginning with a letter, not {shown(name)}"
            raise InvalidArgumentError(what, field="encoders", value=name)
        if name in taken:
            what = f"encoders has {name!r}, which is the name of another encoder; give the function another name"
            raise InvalidArgumentError(what, field="encoders", value=name)
        pair = value if isinstance(value, tuple) else (value, value)
        if len(pair) != 2 or not all(callable(each) and not isinstance(each, type) for each in pair):
            what = f"encoder {name!r} must be a function from texts to vectors, or a tuple of one for documents and one for queries, "
            raise InvalidArgumentError(f"{what}not {shown(value)}", field="encoders", value=value)
        pairs[name] = pair
    return pairs


def give(pairs: Mapping[str, tuple[Texts, Texts]], owner: object, directory: str) -> None:
    """Name functions until ``take_back``. For the same directory, a function given later replaces the earlier one.

    Raises InvalidArgumentError if another open directory has given another function by that name.
    """
    with _lock:
        for name, pair in pairs.items():
            before = _named.get(name)
            other = next((each for each in before.owners.values() if each != directory), None) if before else None
            if before and other is not None and not _same(before.encoder.pair, pair):
                what = f"encoder {name!r} is already another function, given to vectordb.open({other!r}); close that or take another name"
                raise InvalidArgumentError(what, field="encoders", value=name)
        for name, pair in pairs.items():
            before = _named.get(name)
            if before is None or not _same(before.encoder.pair, pair):
                owners = before.owners if before else {}
                before = _named[name] = _Named(type("Given", (Function,), {"name": name, "pair": pair}), owners)
            before.owners[owner] = directory


def take_back(owner: object) -> None:
    """Forget the functions that only this owner gave."""
    with _lock:
        for name, named in list(_named.items()):
            named.owners.pop(owner, None)
            if not named.owners:
                del _named[name]


def _same(first: tuple[Texts, Texts], second: tuple[Texts, Texts]) -> bool:
    return all(a is b or (isinstance(a, MethodType) and a == b) for a, b in zip(first, second, strict=True))
