"""What a fit of concepts (``SAE``) does beyond learning: it labels them by attributes, and keeps the names that users gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import structs

from ..common import deadline
from ..common.tokenize import words as words_of
from ..derivations import DERIVATIONS, sae, sample
from ..engine.deriving import Made
from ..engine.snapshot import View
from ..storage import derived, term_words
from ..storage.derived import Record
from ..storage.format import Txn

LABEL_ROWS = 20_000  # of the sample whose words are counted, at most
LABEL_TEXT = 2_000  # characters of a text that are read
_AT_ONCE = 1_024  # records read at a time
_ALL = 1 << 20  # more words than a field of concepts can have


def words_in(view: View, docids: np.ndarray, seed: int) -> list[frozenset[str]]:
    """The words of Text attributes and the values of Keyword attributes, of the first rows of a sample in its own order.

    docids: int64 ascending, of the sample.
    """
    texts = {name: spec.stored == "text" for name, spec in view.schema.attributes.items() if spec.stored in ("text", "string")}
    if not texts or not len(docids):
        return []
    chosen = docids[sample.order_of(view.ids(docids), seed)][:LABEL_ROWS]
    found: list[frozenset[str]] = []
    for low in deadline.each(range(0, len(chosen), _AT_ONCE), 1):
        for row in view.records(chosen[low : low + _AT_ONCE].tolist()):
            words: set[str] = set()
            for name, text in texts.items():
                value = row.attributes.get(name)
                for each in value if isinstance(value, list) else () if value is None else (value,):
                    words.update(words_of(each[:LABEL_TEXT]) if text else (each,))
            found.append(frozenset(filter(_usable, words)))
    return found


def _usable(word: str) -> bool:
    """Whether a word can stand in a label. Single letters and digits say little."""
    return 1 < len(word) <= sae.LABEL_CHARACTERS and word.isprintable() and not word.isdecimal()


def named(txn: Txn, collection: int, field: int) -> dict[int, str]:
    """term → the name that a user gave."""
    return term_words.page(txn, collection, field, None, _ALL)


def finished(
    record: Record, spec: Any, rows: np.ndarray, words: list[frozenset[str]], before: Made | None, names: Mapping[int, str]
) -> Record:
    """The record of a fit with labels, families and residual; latents that match named ones of the fit before have their numbers.

    rows: of the sample; the last ``record.report["held_out"]`` were not fitted to. words: of its first rows.
    """
    given, parts = spec.derived, record.parts
    method: Any = DERIVATIONS[given.name]
    if before is not None and names:
        old = before.parts["decoder"]
        parts = sae.renumbered(parts, sae.matched(old, parts["decoder"], sorted(t for t in names if t < len(old)), given.signed))
    held = record.report["held_out"]
    report = record.report | {"residual": round(method.residual(given, parts, rows[len(rows) - held :]), 4)}
    report["families"] = sae.families(parts["decoder"])
    codes = method.derive(given, spec, parts, rows[: len(words)])
    labels = sae.labels(codes, len(parts["bias"]), words) if words else []
    return structs.replace(record, arrays=derived.packed(parts), report=report, labels=labels)


def carry(txn: Txn, collection: int, new: int, words: Mapping[int, str], before: Record | None) -> None:
    """Give the names of the latents of an earlier fit to those of field number ``new`` that match them, and note those that are lost."""
    record = derived.read(txn, collection, new)
    if record is None or before is None or not words or "decoder" not in record.arrays or "decoder" not in before.arrays:
        return
    old = before.parts["decoder"]
    matches = sae.matched(old, record.parts["decoder"], sorted(term for term in words if term < len(old)), False)
    term_words.add(txn, collection, new, {match.new: words[match.old] for match in matches})
    lost = {str(term): word for term, word in sorted(words.items()) if term not in {match.old for match in matches}}
    derived.write(txn, collection, new, structs.replace(record, report=record.report | {"lost": lost}))


def told(view: View, field: str, made: Made) -> dict[str, Any]:
    """The concepts of a fitted field for its report: number → label, whether a user named it, and the share of the sample that has it."""
    names = named(view.txn, view.store.collection, view.fields[field])
    labels = made.record.labels or [""] * len(made.parts["frequency"])
    return {
        "concepts": {
            str(term): {"label": names.get(term, labels[term]), "named": term in names, "frequency": round(float(share), 5)}
            for term, share in enumerate(made.parts["frequency"])
        }
    }
