"""Derivations of attributes. What they compute is in ``vectordb_client.model.attribute_vectors``, because queries are made by clients."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Method, Parts


class AttributesMethod(Method):
    name = "attributes"

    def derive(self, given: Any, spec: Any, parts: Parts, rows: Any) -> np.ndarray:
        """rows: for each point its stored attributes. A point without any of those that it reads gets zeros."""
        return given.vectors(spec.dim, rows, spec.attribute_types)


class SeriesMethod(AttributesMethod):
    name = "series"
