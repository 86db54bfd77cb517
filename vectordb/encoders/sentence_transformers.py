"""Models of the ``sentence-transformers`` library: dense embeddings and learned sparse vectors.

A sparse model of the SPLADE family (Formal et al., "SPLADE v2", 2021) gives each word piece of its vocabulary the weight ``max over tokens
of log(1 + relu(logit))``. The term id is the number of the word piece. A model is read from a folder, or from an installed package that
contains one. Models are never downloaded.
"""

from __future__ import annotations

import importlib.util
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from vectordb_client.errors import EncoderError, shown
from vectordb_client.model.fields import SparseColumn

from ..common import deadline
from .base import Encoded, Encoder, OneVector, State, fingerprint, integer, unknown, word

_INSTALL = "pip install 'sentence-transformers>=5.1'"
_MARKS = ("modules.json", "config.json")  # a folder with one of these holds a model
_SUFFIXES = {".safetensors", ".bin", ".json", ".txt", ".model"}  # the files that make up a model
_OTHER_BACKENDS = {"onnx", "openvino"}  # subfolders with the same model for backends that aren't used here
_BATCH = 32  # texts encoded in one call


class Model(Encoder):
    """The common part of models. A lock serialises their use, because Hugging Face tokenizers are not thread-safe."""

    install: ClassVar[str] = _INSTALL

    def __init__(self, name: str, cls: str, model: str | None, device: str | None, **arguments):
        if model is None:
            what = f"encoder {name!r} needs a model; write {name}(model=/folder) or {name}(model=package)"
            raise EncoderError(what, field="encoder", value=name)
        folder = _folder(name, model)
        self._check_folder(name, folder, model)
        library = _library(name, cls, self.install)
        self._lock = threading.Lock()
        with _quiet():
            try:
                self._model = self._loaded(library, cls, folder, device, **arguments)
            except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
                raise EncoderError(f"encoder {name!r} can't load the model in {folder}: {error}", field="encoder", value=model) from error
        self._model.eval()
        files = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and not _OTHER_BACKENDS & set(p.relative_to(folder).parts))
        self._fingerprint = fingerprint(files)

    def _check_folder(self, name: str, folder: Path, model: str) -> None:
        """Refuse models of the wrong kind. The library would load them and add layers that were never trained. Raises EncoderError."""
        _check_kind(name, folder, model)

    def _loaded(self, library: Any, cls: str, folder: Path, device: str | None, **arguments) -> Any:
        """The library's model of a folder."""
        return getattr(library, cls)(str(folder), device=device, local_files_only=True, **arguments)

    def _run(self, texts: Sequence[str], query: bool, **arguments) -> Iterator[tuple[np.ndarray, Any]]:
        """Encode the texts that aren't blank in batches of similar length. Yields (positions of the batch's texts, the model's output).

        Between batches it checks the deadline and releases the lock, so that other threads get their turn.
        """
        kept = np.array([i for i, text in enumerate(texts) if text and not text.isspace()], np.int64)
        kept = kept[np.argsort([-len(texts[i]) for i in kept], kind="stable")] if len(kept) else kept
        # Retrieval models may put different prompts before queries and documents; the library's two methods add them.
        encode = self._model.encode_query if query else self._model.encode_document
        for start in range(0, len(kept), _BATCH):
            places = kept[start : start + _BATCH]
            with self._lock:
                deadline.check()
                vectors = encode([texts[i] for i in places], batch_size=_BATCH, show_progress_bar=False, **arguments)
            yield places, vectors


class DenseModel(Model, OneVector):
    """A SentenceTransformer model.

    model: a folder, or the name of an installed package. device: as in torch, such as "cpu" or "cuda". dim: truncate the vectors of a
    Matryoshka model to this many dimensions and normalise them; None: leave the vectors as the model returns them.
    """

    kind = "dense"
    options = {"model": word, "device": word, "dim": integer(1, 65_536)}

    def __init__(self, model: str | None = None, device: str | None = None, dim: int | None = None):
        super().__init__("sentence-transformers", "SentenceTransformer", model, device)
        self._full = int(self._model.get_embedding_dimension())
        if dim is not None and dim > self._full:
            what = f"the model {shown(model)} has {self._full} dimensions, not {dim}; write dim={self._full} or less"
            raise EncoderError(what, field="encoder", value=dim)
        self.dim = self._kept = dim or self._full
        self.identity = f"sentence-transformers(dim={self.dim}) {self._fingerprint}"

    def vectors(self, texts: Sequence[str], query: bool) -> tuple[np.ndarray, np.ndarray]:
        """Vectors float32 ``(n, dim)``, and bool: which texts have one. Blank texts don't."""
        out, present = np.zeros((len(texts), self._kept), np.float32), np.zeros(len(texts), np.bool_)
        for places, vectors in self._run(texts, query, convert_to_numpy=True):
            vectors = np.asarray(vectors, dtype=np.float32)[:, : self._kept]
            out[places] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if self._kept < self._full else vectors
            present[places] = True
        return out, present


class SparseModel(Model):
    """A SparseEncoder model (the SPLADE family). model: a folder, or the name of an installed package. device: as in torch."""

    kind = "sparse"
    options = {"model": word, "device": word}

    def __init__(self, model: str | None = None, device: str | None = None):
        super().__init__("sparse-encoder", "SparseEncoder", model, device)
        self.identity = f"sparse-encoder() {self._fingerprint}"

    def _encode(self, texts: Sequence[str], query: bool) -> SparseColumn:
        owners, terms, weights = [np.empty(0, np.int64)], [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
        for places, vectors in self._run(texts, query, convert_to_sparse_tensor=True):
            vectors = vectors.coalesce().cpu()
            (owner, term), weight = vectors.indices().numpy(), vectors.values().float().numpy()
            keep = weight != 0
            owners.append(places[owner[keep]])
            terms.append(term[keep].astype(np.uint64))
            weights.append(weight[keep])
        owner, term = np.concatenate(owners), np.concatenate(terms)
        order = np.lexsort((term, owner))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(texts)))]).astype(np.int64)
        return SparseColumn(indptr, term[order], np.concatenate(weights)[order])

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """The weights of word pieces. A blank text is an empty row. The encoder keeps no state."""
        column = self._encode(texts, query=False)
        terms = np.unique(column.terms)
        return Encoded(column, None, lambda known: self._pieces(terms[unknown(terms, known)].tolist()))

    def encode_queries(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The weights of word pieces. A blank text becomes an empty vector, which matches nothing."""
        column = self._encode(texts, query=True)
        ends = zip(column.indptr[:-1], column.indptr[1:], strict=True)
        return [(column.terms[low:high], column.weights[low:high]) for low, high in ends]

    def words_of(self, text: str, terms: Sequence[int]) -> dict[int, str]:
        """The word piece of each term, from the model's vocabulary."""
        return self._pieces(terms)

    def _pieces(self, terms: Sequence[int]) -> dict[int, str]:
        with self._lock:
            pieces = self._model.tokenizer.convert_ids_to_tokens([int(term) for term in terms])
        return {int(term): piece for term, piece in zip(terms, pieces, strict=True) if piece is not None}


def _folder(name: str, model: str) -> Path:
    """The folder of a model that is given as a path, or as the name of a package with the model in its folder or one level below.

    Raises EncoderError when there is none.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        folder = _marked([path])
    else:
        package = model.replace("-", "_")
        folder = None
        if re.fullmatch(r"[A-Za-z_]\w*", package):
            spec = importlib.util.find_spec(package)
            roots = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
            folder = _marked([*roots, *(child for root in roots for child in sorted(root.iterdir()) if child.is_dir())])
    if folder is None:
        raise EncoderError(
            f"encoder {name!r} finds no model at {shown(model)}; give a folder with a model, or an installed package that contains one "
            "(models are not downloaded)",
            field="encoder",
            value=model,
        )
    return folder


def _marked(folders: Sequence[Path]) -> Path | None:
    return next((folder for mark in _MARKS for folder in folders if (folder / mark).is_file()), None)


def _check_kind(name: str, folder: Path, model: str) -> None:
    modules = read_json(folder / "modules.json") or []
    sparse = any("sparse_encoder" in str(module.get("type", "")) for module in modules)
    if name == "sparse-encoder":
        architectures = (read_json(folder / "config.json") or {}).get("architectures") or []
        if not sparse and (modules or not any(a.endswith("ForMaskedLM") for a in architectures)):
            what = f"the model {shown(model)} is not a sparse model; use sentence-transformers(model={model})"
            raise EncoderError(what, field="encoder", value=model)
    elif sparse or not modules:
        why = f"has no modules.json in {folder}, which says how its token vectors become one vector; save it with sentence-transformers"
        if sparse:
            why = f"is a sparse model; use sparse-encoder(model={model})"
        raise EncoderError(f"the model {shown(model)} {why}", field="encoder", value=model)


def read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise EncoderError(f"can't read {path}: {error}", field="encoder", value=str(path)) from error


def _library(name: str, cls: str, install: str):
    try:
        import sentence_transformers
    except ImportError as error:
        raise EncoderError(f"encoder {name!r} needs sentence-transformers: {install}", field="encoder", value=name) from error
    if not hasattr(sentence_transformers, cls) or not hasattr(sentence_transformers.SentenceTransformer, "get_embedding_dimension"):
        raise EncoderError(f"encoder {name!r} needs a newer sentence-transformers: {install}", field="encoder", value=name)
    return sentence_transformers


@contextmanager
def _quiet():
    """Show no progress bar while weights are read. The application's own setting is restored afterwards."""
    from transformers.utils import logging

    shown_before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown_before:
            logging.enable_progress_bar()
