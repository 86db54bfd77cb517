"""Static word embeddings from the ``wordllama`` package (Miller, 2024): a mean of token vectors, thousands of texts a second, no torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import deadline
from ..errors import EncoderError, InvalidArgumentError, shown
from .base import Encoded, Encoder, State, choice, dense_column, fingerprint

_BATCH = 256
_INSTALL = "pip install wordllama==0.4.0.post1"


class WordLlama(Encoder):
    """256-dimensional unit vectors; dim=64 or 128 keeps the first dimensions (Matryoshka) and normalises again."""

    kind = "dense"
    options = {"dim": choice(256, 128, 64)}

    def __init__(self, dim: int = 256):
        self.dim = dim
        model, files = _model()
        # Its own embed() pads each batch to its longest text; one long text would cost gigabytes. Only its parts are used.
        self._tokenizer = model.tokenizer
        self._tokenizer.no_padding()
        self._table = np.ascontiguousarray(model.embedding[:, :dim], dtype=np.float32)
        self.identity = f"wordllama(dim={dim}) {fingerprint(files)}"

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """``(n, dim)`` unit vectors and the mask of texts that have one."""
        out = np.zeros((len(texts), self.dim), np.float32)
        for low in range(0, len(texts), _BATCH):
            deadline.check()
            # The tokenizer knows case: a text all in capitals would come out as single letters.
            batch = [text.lower() if text.isupper() else text for text in texts[low : low + _BATCH]]
            for row, encoding in enumerate(self._tokenizer.encode_batch(batch, add_special_tokens=False), low):
                if encoding.ids and not batch[row - low].isspace():
                    np.mean(self._table[encoding.ids], axis=0, out=out[row])
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        there = norms[:, 0] > 0
        np.divide(out, norms, out=out, where=norms > 0)
        return out, there

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """Unit vectors; a blank text has no row. No state is kept."""
        return Encoded(dense_column(*self._encode(texts)))

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Unit vectors. Raises InvalidArgumentError on a text with nothing to encode."""
        values, there = self._encode(texts)
        if not there.all():
            text = texts[int(np.flatnonzero(~there)[0])]
            raise InvalidArgumentError(f"text {shown(text)} holds nothing to encode", field="text", value=text)
        return list(values)


def _model():
    """(the loaded model, the files it came from), from the installed package alone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        import wordllama
    except ImportError as error:
        raise EncoderError(f"encoder 'wordllama' needs the wordllama package: {_INSTALL}", field="encoder", value="wordllama") from error
    finally:
        # Importing it calls logging.basicConfig(INFO): an application's logging is not a library's to set up.
        root.handlers[:] = handlers
        root.setLevel(level)
    folder = Path(wordllama.__file__).parent
    try:
        # cache_dir points into the package because it looks for "tokenizer/" there while the wheel ships "tokenizers/".
        model = wordllama.WordLlama.load(dim=256, cache_dir=folder, disable_download=True)
        files = [folder / "weights" / "l2_supercat_256.safetensors", folder / "tokenizers" / "l2_supercat_tokenizer_config.json"]
        if not all(path.exists() for path in files):
            raise FileNotFoundError(f"no {files[0].name} in {folder}")
    except (OSError, ValueError, AttributeError) as error:
        what = f"the installed wordllama package doesn't hold its model ({error}): {_INSTALL}"
        raise EncoderError(what, field="encoder", value="wordllama") from error
    return model, files
