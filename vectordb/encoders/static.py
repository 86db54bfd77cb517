"""Static embeddings: the mean of a text's token vectors, without torch. Model2Vec (van Dongen and Tulkens, 2024) makes such tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from vectordb_client.errors import EncoderError

from ..common import deadline
from . import files
from .base import OneVector, fingerprint, integer, word

_BATCH = 256  # texts tokenised in one call
_TABLES = ("model.safetensors", "embeddings.npy", "embeddings.safetensors")
_KEYS = ("embeddings", "embedding.weight", "embeddings.weight")
_NAME = "static"


def means(tokenizer: Any, table: np.ndarray, texts: Sequence[str], ids: Callable[[list[int]], Any], normalize: bool = True) -> np.ndarray:
    """The mean of the rows of a table for the tokens of each text, float32 ``(n, dim)``; zeros for a text without tokens.

    ids: the rows of a text's token ids; a tuple of rows and weights multiplies each row by its weight first. normalize: to length 1.
    """
    out = np.zeros((len(texts), table.shape[1]), np.float32)
    for low in range(0, len(texts), _BATCH):
        deadline.check()
        batch = texts[low : low + _BATCH]
        for row, encoding in enumerate(tokenizer.encode_batch(batch, add_special_tokens=False), low):
            if not encoding.ids or not batch[row - low] or batch[row - low].isspace():
                continue
            rows = ids(encoding.ids)
            weights = None
            if isinstance(rows, tuple):
                rows, weights = rows
            if len(rows):
                np.mean(table[rows] if weights is None else table[rows] * weights[:, None], axis=0, out=out[row])
    if normalize:
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        np.divide(out, norms, out=out, where=norms > 0)
    return out


class Static(OneVector):
    """A table of token vectors and a tokenizer.

    model: a folder with the table, ``model.safetensors`` or ``embeddings.npy``, and ``tokenizer.json``. A ``config.json`` may say
    ``"normalize": false``. dim: keep the first dimensions.
    """

    options = {"model": word, "dim": integer(1, 65_536)}

    def __init__(self, model: str | None = None, dim: int | None = None):
        folder = files.needed(_NAME, "model", model, "/folder")
        path = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
        if path is None:
            what = f"encoder {_NAME!r} finds no table in {folder}; it must hold {' or '.join(_TABLES[:2])}, and tokenizer.json"
            raise EncoderError(what, field="encoder", value=model)
        self._tokenizer = files.tokenizer(_NAME, folder / "tokenizer.json")
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown = self._tokenizer.token_to_id(unknown) if unknown else None
        config = folder / "config.json"
        self._normalize = bool(files.read_json(_NAME, config).get("normalize", True)) if config.is_file() else True
        table, self._mapping, self._weights = self._parts(path)
        if dim is not None and dim > table.shape[1]:
            what = f"the model {folder} has {table.shape[1]} dimensions, not {dim}; write dim={table.shape[1]} or less"
            raise EncoderError(what, field="encoder", value=dim)
        self.dim = dim or table.shape[1]
        self._table = np.ascontiguousarray(table[:, : self.dim], np.float32)
        read = [path, folder / "tokenizer.json", *([config] if config.is_file() else [])]
        self.identity = f"{_NAME}(dim={self.dim}) {fingerprint(read)}"

    def _parts(self, path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """The table; the row of each token id, and the weight of each token id, or None for both. Raises EncoderError."""
        found = files.arrays(_NAME, path)
        key = next((key for key in _KEYS if key in found), None)
        if key is None:
            raise files.unreadable(_NAME, path, f"it has no array {_KEYS[0]!r}; its arrays are: {', '.join(found) or 'none'}")
        table, mapping, weights = found[key], found.get("mapping"), found.get("weights")
        if table.ndim != 2 or not table.size or table.dtype.kind not in "fi" or not np.isfinite(table).all():
            raise files.unreadable(_NAME, path, f"{key!r} must be finite numbers (tokens, dimensions), not {table.shape} of {table.dtype}")
        tokens = self._tokenizer.get_vocab_size()
        for name, part in (("mapping", mapping), ("weights", weights)):
            if part is not None and (part.ndim != 1 or len(part) < tokens):
                raise files.unreadable(_NAME, path, f"{name!r} has the shape {part.shape}, and the tokenizer {tokens} tokens")
        if mapping is None and len(table) < tokens:
            raise files.unreadable(_NAME, path, f"{key!r} has {len(table)} rows, and the tokenizer {tokens} tokens")
        if mapping is not None and (mapping.dtype.kind not in "iu" or mapping.min() < 0 or mapping.max() >= len(table)):
            raise files.unreadable(_NAME, path, f"'mapping' must be rows of {key!r}, which has {len(table)}")
        if weights is not None and not np.isfinite(weights).all():
            raise files.unreadable(_NAME, path, "'weights' must be finite numbers")
        return table, mapping, None if weights is None else weights.astype(np.float32)

    def _rows(self, ids: list[int]) -> Any:
        known = np.array([each for each in ids if each != self._unknown], np.int64)
        rows = known if self._mapping is None else self._mapping[known]
        return rows if self._weights is None else (rows, self._weights[known])

    def vectors(self, texts: Sequence[str], query: bool) -> tuple[np.ndarray, np.ndarray]:
        """Means of the known tokens. Texts without one have no vector."""
        out = means(self._tokenizer, self._table, texts, self._rows, self._normalize)
        return out, np.asarray(out.any(axis=1))
