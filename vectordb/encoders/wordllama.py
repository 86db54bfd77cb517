"""Static word embeddings from the ``wordllama`` package (Miller, 2024): the mean of a text's token vectors. It needs no torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from vectordb_client.errors import EncoderError

from .base import OneVector, choice, fingerprint
from .static import means

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
        # The tokenizer is case-sensitive: it would split a text in capitals into single letters.
        out = means(self._tokenizer, self._table, [text.lower() if text.isupper() else text for text in texts], list)
        return out, np.asarray(out.any(axis=1))


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
