"""Models of the ``sentence-transformers`` library: dense embeddings, and learned sparse ones.

A sparse model of the SPLADE family (Formal et al., "SPLADE v2", 2021) weighs every word piece of its vocabulary by
``max over tokens of log(1 + relu(logit))``; the word piece's number is the term id. Models come from a folder or from an
installed package that ships one; none is ever downloaded.
"""

from __future__ import annotations

import importlib.util
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import deadline
from ..errors import EncoderError, InvalidArgumentError, shown
from ..types import SparseColumn
from .base import Encoded, Encoder, State, dense_column, fingerprint, integer, unknown, word

_INSTALL = "pip install 'sentence-transformers>=5.1'"
_MARKS = ("modules.json", "config.json")
_SUFFIXES = {".safetensors", ".bin", ".json", ".txt", ".model"}
_OTHER_BACKENDS = {"onnx", "openvino"}
_BATCH = 32


class _Model(Encoder):
    """What dense and sparse models share. A lock serialises their use: Hugging Face tokenizers change state while they work."""

    def __init__(self, name: str, cls: str, model: str | None, device: str | None, **arguments):
        if model is None:
            raise EncoderError(f"encoder {name!r} needs a model: {name}(model=/folder or package)", field="encoder", value=name)
        folder = _folder(name, model)
        _check_kind(name, folder, model)
        library = _library(name, cls)
        self._lock = threading.Lock()
        with _quiet():
            try:
                self._model = getattr(library, cls)(str(folder), device=device, local_files_only=True, **arguments)
            except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
                raise EncoderError(f"encoder {name!r} can't load the model in {folder}: {error}", field="encoder", value=model) from error
        self._model.eval()
        files = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and not _OTHER_BACKENDS & set(p.relative_to(folder).parts))
        self._fingerprint = fingerprint(files)

    def _run(self, texts: Sequence[str], query: bool, **arguments) -> Iterator[tuple[np.ndarray, Any]]:
        """(places, the model's output) of the texts that aren't blank, some at a time, those of like length together. Looks at the deadline
        between them, and lets others have their turn.
        """
        kept = np.array([i for i, text in enumerate(texts) if text and not text.isspace()], np.int64)
        kept = kept[np.argsort([-len(texts[i]) for i in kept], kind="stable")] if len(kept) else kept
        # Models made for retrieval may want another prompt before a query than before a document; the two methods know.
        encode = self._model.encode_query if query else self._model.encode_document
        for at in range(0, len(kept), _BATCH):
            places = kept[at : at + _BATCH]
            with self._lock:
                deadline.check()
                made = encode([texts[i] for i in places], batch_size=_BATCH, show_progress_bar=False, **arguments)
            yield places, made


class DenseModel(_Model):
    """A SentenceTransformer. model: a folder or an importable package; device: as torch names it; dim: keep the first
    dimensions of a Matryoshka model and normalise (without it, vectors are as the model gives them)."""

    kind = "dense"
    options = {"model": word, "device": word, "dim": integer(1, 65_536)}

    def __init__(self, model: str | None = None, device: str | None = None, dim: int | None = None):
        super().__init__("sentence-transformers", "SentenceTransformer", model, device)
        self._full = int(self._model.get_embedding_dimension())
        if dim is not None and dim > self._full:
            raise EncoderError(f"the model {shown(model)} has {self._full} dimensions, not {dim}", field="encoder", value=dim)
        self.dim = dim or self._full
        self.identity = f"sentence-transformers(dim={self.dim}) {self._fingerprint}"

    def _encode(self, texts: Sequence[str], query: bool) -> tuple[np.ndarray, np.ndarray]:
        out, there = np.zeros((len(texts), self.dim), np.float32), np.zeros(len(texts), np.bool_)
        for places, made in self._run(texts, query, convert_to_numpy=True):
            made = np.asarray(made, dtype=np.float32)[:, : self.dim]
            out[places] = made / np.linalg.norm(made, axis=1, keepdims=True) if self.dim < self._full else made
            there[places] = True
        return out, there

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """The model's document vectors; a blank text has no row. No state is kept."""
        return Encoded(dense_column(*self._encode(texts, query=False)))

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The model's query vectors. Raises InvalidArgumentError on a blank text."""
        values, there = self._encode(texts, query=True)
        if not there.all():
            text = texts[int(np.flatnonzero(~there)[0])]
            raise InvalidArgumentError(f"text {shown(text)} holds nothing to encode", field="text", value=text)
        return list(values)


class SparseModel(_Model):
    """A SparseEncoder (SPLADE and its kin). model: a folder or an importable package; device: as torch names it."""

    kind = "sparse"
    options = {"model": word, "device": word}

    def __init__(self, model: str | None = None, device: str | None = None):
        super().__init__("sparse-encoder", "SparseEncoder", model, device)
        self.identity = f"sparse-encoder() {self._fingerprint}"

    def _encode(self, texts: Sequence[str], query: bool) -> SparseColumn:
        owners, terms, weights = [np.empty(0, np.int64)], [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
        for places, made in self._run(texts, query, convert_to_sparse_tensor=True):
            made = made.coalesce().cpu()
            (owner, term), weight = made.indices().numpy(), made.values().float().numpy()
            keep = weight != 0
            owners.append(places[owner[keep]])
            terms.append(term[keep].astype(np.uint64))
            weights.append(weight[keep])
        owner, term = np.concatenate(owners), np.concatenate(terms)
        order = np.lexsort((term, owner))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(texts)))]).astype(np.int64)
        return SparseColumn(indptr, term[order], np.concatenate(weights)[order])

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """Weights of word pieces; a blank text is an empty row. No state is kept."""
        column = self._encode(texts, query=False)
        terms = np.unique(column.terms)
        return Encoded(column, None, lambda known: self._pieces(terms[unknown(terms, known)].tolist()))

    def encode_queries(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights of word pieces. A blank text is an empty vector, which matches nothing."""
        column = self._encode(texts, query=True)
        ends = zip(column.indptr[:-1], column.indptr[1:], strict=True)
        return [(column.terms[low:high], column.weights[low:high]) for low, high in ends]

    def words_of(self, text: str, terms: Sequence[int]) -> dict[int, str]:
        """The word pieces of the model's vocabulary."""
        return self._pieces(terms)

    def _pieces(self, terms: Sequence[int]) -> dict[int, str]:
        with self._lock:
            pieces = self._model.tokenizer.convert_ids_to_tokens([int(term) for term in terms])
        return {int(term): piece for term, piece in zip(terms, pieces, strict=True) if piece is not None}


def _folder(name: str, model: str) -> Path:
    """The folder of a model given as a path, or as the name of a package that has one inside (itself or one level down)."""
    path = Path(model).expanduser()
    if path.is_dir():
        found = _marked([path])
    else:
        package = model.replace("-", "_")
        found = None
        if re.fullmatch(r"[A-Za-z_]\w*", package):
            spec = importlib.util.find_spec(package)
            roots = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
            found = _marked([*roots, *(child for root in roots for child in sorted(root.iterdir()) if child.is_dir())])
    if found is None:
        raise EncoderError(
            f"encoder {name!r} finds no model at {shown(model)}: give a folder that holds one, or an installed package that does "
            "(models are not downloaded)",
            field="encoder",
            value=model,
        )
    return found


def _marked(folders: Sequence[Path]) -> Path | None:
    return next((folder for mark in _MARKS for folder in folders if (folder / mark).is_file()), None)


def _check_kind(name: str, folder: Path, model: str) -> None:
    """Refuse what the library would load by inventing layers: it puts an untrained autoencoder on a dense model made sparse."""
    modules = _json(folder / "modules.json") or []
    sparse = any("sparse_encoder" in str(module.get("type", "")) for module in modules)
    if name == "sparse-encoder":
        architectures = (_json(folder / "config.json") or {}).get("architectures") or []
        if not sparse and (modules or not any(a.endswith("ForMaskedLM") for a in architectures)):
            raise EncoderError(f"the model {shown(model)} is not a sparse one", field="encoder", value=model)
    elif sparse or not modules:
        why = f"has no modules.json in {folder}, so nothing says how its tokens become one vector"
        if sparse:
            why = "is a sparse one: use sparse-encoder"
        raise EncoderError(f"the model {shown(model)} {why}", field="encoder", value=model)


def _json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise EncoderError(f"can't read {path}: {error}", field="encoder", value=str(path)) from error


def _library(name: str, cls: str):
    try:
        import sentence_transformers
    except ImportError as error:
        raise EncoderError(f"encoder {name!r} needs sentence-transformers: {_INSTALL}", field="encoder", value=name) from error
    if not hasattr(sentence_transformers, cls) or not hasattr(sentence_transformers.SentenceTransformer, "get_embedding_dimension"):
        raise EncoderError(f"encoder {name!r} needs a newer sentence-transformers: {_INSTALL}", field="encoder", value=name)
    return sentence_transformers


@contextmanager
def _quiet():
    """No progress bar while weights are read; the application's own setting is put back."""
    from transformers.utils import logging

    shown_before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown_before:
            logging.enable_progress_bar()
