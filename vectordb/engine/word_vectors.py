"""Vectors of the words of derivations, which the encoder of a field's source makes before the transaction that creates the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, shown
from vectordb_client.model.norms import MAX_NORM
from vectordb_client.model.schema import Schema

from ..derivations import DERIVATIONS, lengths
from ..storage import derived
from ..storage.derived import Record
from .encoding import load_encoder


def begun(schema: Schema, names: Iterable[str], identities: Mapping[str, str]) -> dict[str, Record]:
    """The records of new derived fields that learn nothing from points. names: the new vector fields. identities: field → identity of its
    encoder. Raises as ``record`` does.
    """
    fields = {name: schema.vectors[name].derived for name in names}
    return {name: record(schema, name, identities) for name, by in fields.items() if by is not None and not by.learned}


def record(schema: Schema, name: str, identities: Mapping[str, str], version: int = 1) -> Record:
    """The record of a derived field that learns nothing from points: with the vectors of the words of its derivation, if it has words, and
    the identity of the encoder that made them.

    Raises EncoderError as ``load_encoder`` does, and InvalidArgumentError for a word that can't be encoded.
    """
    by = schema.vectors[name].derived
    if not by.words:
        return Record(by.to_dict(), version)
    identity = identities[by.source]
    encoder: Any = load_encoder(by.source, schema.vectors[by.source], identity)
    try:
        vectors = np.array(encoder.encode_queries(list(by.words)), np.float32)
    except InvalidArgumentError as error:
        what = f"vector field {name!r}: words of {type(by).__name__} can't be encoded: {error.message}"
        raise InvalidArgumentError(what, field=name, value=error.value) from None
    sizes = lengths(vectors)
    wrong = np.flatnonzero(~((sizes > 0) & (sizes <= MAX_NORM)))
    if len(wrong):
        word = by.words[int(wrong[0])]
        what = f"vector field {name!r}: the encoder of {by.source!r} makes no usable vector of the word {shown(word)}; leave it out"
        raise InvalidArgumentError(what, field=name, value=word)
    parts = derived.packed(DERIVATIONS[by.name].parts_of(vectors))
    return Record(by.to_dict(), version, arrays=parts, report={"encoder": identity})
