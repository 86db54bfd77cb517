"""Vectors of texts: static embeddings of wordllama, whose package contains the model, and BM25 weights."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import DataError

_WORD = re.compile(r"\w+")
_STOP = "a an and are as at be by for from has in is it of on or that the to was were which with"


def embed(texts: Sequence[str]) -> np.ndarray:
    """Embeddings, (n, 256) float32 of unit length. A text without a known token gets a random vector, because zero has no neighbours."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        import wordllama
    except ImportError:
        raise DataError("embedding texts needs wordllama: pip install wordllama==0.4.0.post1") from None
    finally:  # importing wordllama calls logging.basicConfig
        root.handlers[:] = handlers
        root.setLevel(level)
    # wordllama looks for "tokenizer/" under cache_dir, but its wheel has "tokenizers/". With the package's folder it downloads nothing.
    model = wordllama.WordLlama.load(dim=256, cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    model.tokenizer.no_padding()
    table = np.ascontiguousarray(model.embedding[:, :256], dtype=np.float32)
    rng, out = np.random.default_rng(0), np.empty((len(texts), 256), dtype=np.float32)
    for low in range(0, len(texts), 512):
        batch = [text.lower() if text.isupper() else text for text in texts[low : low + 512]]
        for row, encoding in enumerate(model.tokenizer.encode_batch(batch, add_special_tokens=False), low):
            vector = table[encoding.ids].mean(axis=0) if encoding.ids else rng.standard_normal(256)
            norm = np.linalg.norm(vector)
            out[row] = vector / norm if norm else rng.standard_normal(256) / 16
    return out


def words(text: str) -> list[str]:
    """Lower-case words without stop words and without a plural's s."""
    stop = _STOP.split()
    kept = (word for word in _WORD.findall(text.lower()) if word not in stop)
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in kept]


def bm25(documents: Sequence[str], queries: Sequence[str], k1: float = 0.9, b: float = 0.4):
    """(documents, queries) as CSR matrices whose inner product is the BM25 score (Robertson, Zaragoza 2009; k1 and b as in Anserini)."""
    import scipy.sparse

    terms: dict[str, int] = {}
    counted = [Counter(words(text)) for text in documents]
    lengths = np.array([sum(counts.values()) for counts in counted], dtype=np.float64)
    for counts in counted:
        for word in counts:
            terms.setdefault(word, len(terms))

    def matrix(rows: Sequence[Counter]):
        data = [count for counts in rows for word, count in counts.items() if word in terms]
        places = [terms[word] for counts in rows for word in counts if word in terms]
        ends = np.cumsum([0] + [sum(word in terms for word in counts) for counts in rows])
        return scipy.sparse.csr_matrix((np.array(data, dtype=np.float32), np.array(places, dtype=np.int32), ends), (len(rows), len(terms)))

    weighted = matrix(counted)
    holding = np.bincount(weighted.indices, minlength=len(terms))
    idf = np.log1p((len(documents) - holding + 0.5) / (holding + 0.5))
    norms = np.repeat(k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9)), np.diff(weighted.indptr))
    weighted.data = (idf[weighted.indices] * weighted.data * (k1 + 1) / (weighted.data + norms)).astype(np.float32)
    weighted.sort_indices()
    query_matrix = matrix([Counter(words(text)) for text in queries])
    query_matrix.sort_indices()
    return weighted, query_matrix
