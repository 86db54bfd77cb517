"""Static word embeddings from the ``wordllama`` package (Miller, 2024): the mean of a text's token vectors. It needs no torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from vectordb_client.errors import EncoderError

from ..common import deadline
from .base import OneVector, choice, fingerprint

_BATCH = 256  # texts tokenised in one call
_INSTALL = "pip install wordllama==0.4.0.post1"


class WordLlama(OneVector):
    """Unit vectors of 256 dimensions. dim=64 or dim=128 keeps the first dimensions (Matryoshka) and normalises again."""

    options = {"dim": choice(256, 128, 64)}

    def __init__(self, dim: int = 256):
        self.dim = dim
        model, files = _model()
        # Only the tokenizer and the table are used: the package's embed() pads a batch to its longest text, which can take gigabytes.
        self._tokenizer = model.tokenizer
        self._tokenizer.no_padding()
        self._table = np.ascontiguousarray(model.embedding[:, :dim], dtype=np.float32)
        self.identity = f"wordllama(dim={dim}) {fingerprint(files)}"

    def vectors(self, texts: Sequence[str], query: bool) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors float32 ``(n, dim)``, and bool: which texts have one. Texts without a known token don't."""
        out = np.zeros((len(texts), self._table.shape[1]), np.float32)
        for low in range(0, len(texts), _BATCH):
            deadline.check()
            # The tokenizer is case-sensitive: it would split a text in capitals into single letters.
            batch = [text.lower() if text.isupper() else text for text in texts[low : low + _BATCH]]
            for row, encoding in enumerate(self._tokenizer.encode_batch(batch, add_special_tokens=False), low):
                if encoding.ids and not batch[row - low].isspace():
                    np.mean(self._table[encoding.ids], axis=0, out=out[row])
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        present = norms[:, 0] > 0
        np.divide(out, norms, out=out, where=norms > 0)
        return out, present


def _model():
    """(the loaded model, its files), read from the installed package only. Raises EncoderError."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        import wordllama
    except ImportError as error:
        raise EncoderError(f"encoder 'wordllama' needs the wordllama package: {_INSTALL}", field="encoder", value="wordllama") from error
    finally:
        # The package calls logging.basicConfig(INFO) when it is imported; restore the application's logging.
        root.handlers[:] = handlers
        root.setLevel(level)
    folder = Path(wordllama.__file__).parent
    try:
        # Without cache_dir the package would look for the folder "tokenizer/", but its wheel contains "tokenizers/".
        model = wordllama.WordLlama.load(dim=256, cache_dir=folder, disable_download=True)
        files = [folder / "weights" / "l2_supercat_256.safetensors", folder / "tokenizers" / "l2_supercat_tokenizer_config.json"]
        if not all(path.exists() for path in files):
            raise FileNotFoundError(f"no {files[0].name} in {folder}")
    except (OSError, ValueError, AttributeError) as error:
        what = f"the installed wordllama package has no model in it ({error}); reinstall it: {_INSTALL}"
        raise EncoderError(what, field="encoder", value="wordllama") from error
    return model, files
