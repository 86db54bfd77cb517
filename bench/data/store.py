"""Data sets in folders: arrays as .npy files, strings of attributes as integer codes, and ``meta.json`` with the SHA-256 of all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import Dataset
from .tokens import Ragged

_FORMAT = 1


def write(dataset: Dataset, folder: Path) -> None:
    """Write the data set to a folder atomically, and set ``dataset.hash``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(dataset, scratch)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _write(dataset: Dataset, folder: Path) -> None:
    digest = hashlib.sha256()

    def save(name: str, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values)
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.data.cast("B") if values.size else b"")
        np.save(folder / f"{name}.npy", values)

    for name in ("vectors", "queries"):
        if getattr(dataset, name) is not None:
            save(name, np.asarray(getattr(dataset, name), dtype=np.float32))
    for name in ("multi", "multi_queries"):
        if getattr(dataset, name) is not None:
            save(f"{name}.ends", getattr(dataset, name).ends)
            save(f"{name}.values", getattr(dataset, name).values)
    for name in ("sparse", "sparse_queries"):
        matrix = getattr(dataset, name)
        if matrix is not None:
            for part, kind in (("indptr", np.int64), ("indices", np.int32), ("data", np.float32)):
                save(f"{name}.{part}", getattr(matrix, part).astype(kind))
            save(f"{name}.shape", np.array(matrix.shape))
    kinds = {name: _save_column(name, values, save) for name, values in dataset.attributes.items()}
    words: dict[str, Any] = {"qrels": None if dataset.qrels is None else {str(q): _strings(rows) for q, rows in dataset.qrels.items()}}
    words |= {"texts": dataset.texts, "query_texts": dataset.query_texts, "kinds": kinds}
    text = json.dumps(words, ensure_ascii=False)
    digest.update(text.encode())
    (folder / "words.json").write_text(text, encoding="utf-8")
    dataset.hash = digest.hexdigest()
    meta = {"format": _FORMAT, "name": dataset.name, "metric": dataset.metric, "hash": dataset.hash, "about": dataset.about}
    (folder / "meta.json").write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")


def _strings(rows: dict[int, float]) -> dict[str, float]:
    return {str(row): grade for row, grade in rows.items()}


def _save_column(name: str, values: Any, save: Callable[[str, np.ndarray], None]) -> dict:
    """Save a column's arrays. Returns the metadata that reading needs."""
    name = f"attributes.{name}"
    if isinstance(values, np.ndarray):
        save(name, values)
        return {"kind": "numbers"}
    some = next((value for value in values if value is not None), 0)
    flat = [element for value in values if value for element in value] if isinstance(some, (list, tuple)) else values
    words = list(dict.fromkeys(element for element in flat if element is not None))
    codes = {word: code for code, word in enumerate(words)}
    save(name, np.array([-1 if element is None else codes[element] for element in flat], dtype=np.int32))
    if not isinstance(some, (list, tuple)):
        return {"kind": "values", "words": words}
    save(f"{name}.sizes", np.array([-1 if value is None else len(value) for value in values], dtype=np.int32))
    return {"kind": "lists", "words": words}


def read(folder: Path, attributes: Sequence[str] | None = None) -> Dataset:
    """Read a data set from its folder; arrays are memory-mapped. attributes: read only these (None: all)."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if meta["format"] != _FORMAT:
        raise ValueError(f"{folder} has format {meta['format']}, and this version reads format {_FORMAT}; delete the folder")
    words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    dataset = Dataset(meta["name"], meta["metric"], hash=meta["hash"], about=meta["about"])
    for name in ("vectors", "queries"):
        if (folder / f"{name}.npy").exists():
            setattr(dataset, name, np.load(folder / f"{name}.npy", mmap_mode="r"))
    for name in ("multi", "multi_queries"):
        if (folder / f"{name}.ends.npy").exists():
            setattr(dataset, name, Ragged(*(np.load(folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("ends", "values"))))
    for name in ("sparse", "sparse_queries"):
        if (folder / f"{name}.shape.npy").exists():
            import scipy.sparse

            parts = [np.load(folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("data", "indices", "indptr")]
            setattr(dataset, name, scipy.sparse.csr_matrix(tuple(parts), shape=tuple(np.load(folder / f"{name}.shape.npy"))))
    if words["qrels"] is not None:
        dataset.qrels = {int(q): {int(row): grade for row, grade in rows.items()} for q, rows in words["qrels"].items()}
    dataset.texts, dataset.query_texts = words["texts"], words["query_texts"]
    for name in words["kinds"] if attributes is None else attributes:
        dataset.attributes[name] = _read_column(folder / f"attributes.{name}.npy", words["kinds"][name])
    return dataset


def _read_column(path: Path, kind: dict) -> Any:
    values = np.load(path)
    if kind["kind"] == "numbers":
        return values
    words = [*kind["words"], None]  # code -1 is null
    flat = [words[code] for code in values.tolist()]
    if kind["kind"] == "values":
        return flat
    result, low = [], 0
    for size in np.load(path.with_name(f"{path.stem}.sizes.npy")).tolist():
        result.append(None if size < 0 else flat[low : low + size])
        low += max(size, 0)
    return result


def into_memory(dataset: Dataset) -> Dataset:
    """Copy the mapped arrays into memory, so that no page fault of the data's files is measured as a system's time or memory."""
    for name in ("vectors", "queries"):
        if getattr(dataset, name) is not None:
            setattr(dataset, name, np.array(getattr(dataset, name)))
    for name in ("multi", "multi_queries"):
        if getattr(dataset, name) is not None:
            setattr(dataset, name, Ragged(np.array(getattr(dataset, name).ends), np.array(getattr(dataset, name).values)))
    for name in ("sparse", "sparse_queries"):
        matrix = getattr(dataset, name)
        if matrix is not None:
            setattr(dataset, name, type(matrix)((matrix.data.copy(), matrix.indices.copy(), matrix.indptr.copy()), shape=matrix.shape))
    return dataset
