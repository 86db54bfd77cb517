"""The contract of a derivation, as schemas know it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np

from ..errors import SchemaError, shown


class Derivation:
    """Base class of derivations.

    Attributes:
        name: its name in ``DERIVATIONS`` and in JSON.
        learned: whether it is fitted to the vectors of a collection. Until then the field has no vectors.
        makes: the kind of the derived field.
        source: the dense field whose vectors it reads; of ``Series`` the attribute.
        of_attributes: whether it reads attributes instead of vectors. A mapping of attributes to values is then a query.
        words: of which it needs the vectors, as the encoder of the source makes them; the word at position i is the word of term i.
        steers: whether a search of the source can be steered along what it has learned, and a fit labels its terms.
    """

    name: ClassVar[str]
    learned: ClassVar[bool] = False
    makes: ClassVar[str] = "dense"
    words: Sequence[str] = ()
    steers: ClassVar[bool] = False
    of_attributes: ClassVar[bool] = False
    source: str

    def __post_init__(self):
        if not isinstance(self.source, str) or not self.source:
            what = f"source must be the name of a dense field, as in {type(self).__name__}('v'), not {shown(self.source)}"
            raise SchemaError(what, field="derived", value=self.source)

    @property
    def sources(self) -> tuple[str, ...]:
        """The fields or attributes that it reads."""
        return (self.source,)

    def reading(self, names: Mapping[str, str]) -> Derivation:
        """The same derivation where what it reads has new names (old → new)."""
        return dataclasses.replace(cast(Any, self), source=names.get(self.source, self.source))

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Derivation:
        """The derivation with the options of ``to_dict``. Raises SchemaError."""
        return cls(**options)

    def check_attributes(self, field: str, dim: int, types: Mapping[str, Any]) -> None:
        """Check a derivation of attributes against those of the schema. Raises SchemaError."""
        raise NotImplementedError(self.name)

    def vectors(self, dim: int, rows: Sequence[Mapping[str, Any]], types: Mapping[str, Any]) -> np.ndarray:
        """The vectors of points by their stored attributes, float32 ``(n, dim)``; zeros where nothing of them is known."""
        raise NotImplementedError(self.name)

    def options(self) -> dict[str, Any]:
        """The options that don't have their default, without the source."""
        values = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: value for name, (value, usual) in values.items() if name != "source" and value != usual}

    def to_dict(self) -> dict[str, Any]:
        return {"by": self.name, "source": self.source, **self.options()}
