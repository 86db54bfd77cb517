"""Transformer models in ONNX files, run by onnxruntime: no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from vectordb_client.errors import EncoderError

from ..common import deadline
from . import files
from .base import OneVector, boolean, choice, fingerprint, integer, word

_BATCH = 32  # texts in one run of the model
_NAME = "onnx"
_INSTALL = "pip install 'onnxruntime>=1.18' 'tokenizers>=0.20'"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class Onnx(OneVector):
    """An ONNX model that takes token ids, and returns a vector a token or a vector a text.

    model: the file. tokenizer: a ``tokenizer.json``; None: the one beside the model, or in the folder above. pooling: how token vectors
    become one: "mean" of those of the text, or "cls", the first. dim: keep the first dimensions. max_length: tokens of a text; the rest is
    cut off. normalize: to length 1.
    """

    options = {
        "model": word,
        "tokenizer": word,
        "pooling": choice("mean", "cls"),
        "dim": integer(1, 65_536),
        "max_length": integer(2, 1 << 20),
        "normalize": boolean,
    }

    def __init__(
        self,
        model: str | None = None,
        tokenizer: str | None = None,
        pooling: str | None = None,
        dim: int | None = None,
        max_length: int = 512,
        normalize: bool = True,
    ):
        path = files.needed(_NAME, "model", model, "/folder/model.onnx")
        if path.is_dir():
            what = f"encoder {_NAME!r} needs the file of a model, and {path} is a folder; write onnx(model={path / 'model.onnx'})"
            raise EncoderError(what, field="encoder", value=model)
        place = _beside(path) if tokenizer is None else files.needed(_NAME, "tokenizer", tokenizer, "tokenizer.json")
        self._session = _session(path)
        self._tokenizer = files.tokenizer(_NAME, place)
        self._tokenizer.enable_truncation(max_length)
        self._inputs = self._read_inputs(path)
        self._normalize, self._pooling = normalize, pooling or "mean"
        full, pooled = self._probe(path)
        if pooled and pooling is not None:
            what = f"the model {path} returns one vector a text, so there is nothing to pool; leave pooling out"
            raise EncoderError(what, field="encoder", value=pooling)
        if dim is not None and dim > full:
            what = f"the model {path} has {full} dimensions, not {dim}; write dim={full} or less"
            raise EncoderError(what, field="encoder", value=dim)
        self.dim = dim or full
        how = f"dim={self.dim}, pooling={'model' if pooled else self._pooling}, max_length={max_length}, normalize={str(normalize).lower()}"
        weights = sorted(each for each in path.parent.glob(f"{path.name}*data") if each.is_file())  # of large models
        self.identity = f"{_NAME}({how}) {fingerprint([path, *weights, place])}"

    def vectors(self, texts: Sequence[str], query: bool) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of texts. Blank texts have none. Texts of similar length are run together."""
        out = np.zeros((len(texts), self.dim or 0), np.float32)
        kept = sorted((row for row, text in enumerate(texts) if text and not text.isspace()), key=lambda row: (len(texts[row]), row))
        for low in range(0, len(kept), _BATCH):
            deadline.check()
            rows = kept[low : low + _BATCH]
            out[rows] = self._run([texts[row] for row in rows])[:, : self.dim]
        if self._normalize:
            norms = np.linalg.norm(out, axis=1, keepdims=True)
            np.divide(out, norms, out=out, where=norms > 0)
        return out, np.asarray(out.any(axis=1))

    def _run(self, texts: Sequence[str]) -> np.ndarray:
        """The model's vectors, float32 ``(n, dimensions)``. Raises EncoderError."""
        output, mask = self._outputs(texts)
        if output.ndim == 3:
            if self._pooling == "cls":
                output = output[:, 0]
            else:
                output = (output * mask[:, :, None]).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)[:, None]
        vectors = np.asarray(output, np.float32)
        if not np.isfinite(vectors).all():
            raise EncoderError(f"encoder {_NAME!r}: the model returned a vector that isn't finite", field="encoder", value=_NAME)
        return vectors

    def _outputs(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The model's first output of texts, and float32 ``(n, tokens)``: 1 for each of their tokens, 0 for padding."""
        encoded = self._tokenizer.encode_batch(list(texts))
        width = max((len(each.ids) for each in encoded), default=0) or 1
        arrays = {name: np.zeros((len(texts), width), np.int64) for name in _INPUTS}
        for row, each in enumerate(encoded):
            for name, values in zip(_INPUTS, (each.ids, each.attention_mask, each.type_ids), strict=True):
                arrays[name][row, : len(values)] = values
        given = {name: arrays[name].astype(dtype) for name, dtype in self._inputs.items()}
        try:
            output = np.asarray(self._session.run(None, given)[0])
        except Exception as error:  # onnxruntime has many kinds
            raise EncoderError(f"encoder {_NAME!r}: the model can't be run: {error}", field="encoder", value=_NAME) from error
        return output, arrays["attention_mask"].astype(np.float32)

    def _read_inputs(self, path: Path) -> dict[str, Any]:
        """Name → dtype of the model's inputs. Raises EncoderError if it takes anything but tokens."""
        inputs = {each.name: _TYPES.get(each.type) for each in self._session.get_inputs()}
        wrong = [name for name, dtype in inputs.items() if name not in _INPUTS or dtype is None]
        if wrong or "input_ids" not in inputs:
            what = f"the model {path} has the inputs {', '.join(inputs)}; it may have integer {', '.join(_INPUTS)}, and needs input_ids"
            raise EncoderError(what, field="encoder", value=str(path))
        return inputs

    def _probe(self, path: Path) -> tuple[int, bool]:
        """The number of dimensions, and whether the model returns one vector a text. Raises EncoderError."""
        output, mask = self._outputs(["vectordb", "a longer text"])
        fits = output.ndim in (2, 3) and output.shape[:-1] == mask.shape[: output.ndim - 1] and output.dtype.kind == "f"
        if not fits or not output.shape[-1]:
            what = (
                f"the model {path} returns {output.shape} of {output.dtype} for {mask.shape[0]} texts of {mask.shape[1]} tokens; its first "
            )
            what += "output must be floats (texts, tokens, dimensions) or (texts, dimensions)"
            raise EncoderError(what, field="encoder", value=str(path))
        return output.shape[-1], output.ndim == 2


def _beside(path: Path) -> Path:
    """The tokenizer of a model's folder, or of the one above it. Raises EncoderError."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    what = f"encoder {_NAME!r} finds no tokenizer.json beside {path}; write onnx(model=…, tokenizer=/folder/tokenizer.json)"
    raise EncoderError(what, field="encoder", value=str(path))


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EncoderError(f"encoder {_NAME!r} needs onnxruntime: {_INSTALL}", field="encoder", value=_NAME) from error
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has many kinds
        raise files.unreadable(_NAME, path, error) from error
