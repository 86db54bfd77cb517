"""Users' own files: .npy, .fvecs, .hdf5 (ann-benchmarks' layout), .parquet; and folders of arrays, or in BEIR's or ir_datasets' layout."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import DataError, Dataset, unit

HELD_OUT = 1000


def load(path: Path, queries: Path | None = None, metric: str | None = None, column: str | None = None) -> Dataset:
    """Read a file or folder. Raises DataError.

    queries: a second file, of query vectors; without it a seeded random sample of the rows is held out as queries. metric: default the
    file's own, else "cosine". column: the vector column of a Parquet file, default the first column with lists of numbers.
    """
    if path.is_dir():
        return (folder if any(path.glob("corpus.jsonl*")) else arrays)(path, metric or "cosine")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: unknown format {path.suffix!r}; known: {', '.join(_READERS)} and folders of .npy files or with corpus.jsonl"
        )
    dataset = reader(path, column) if reader is parquet else reader(path)
    dataset.metric = metric or dataset.metric
    dataset.about = dataset.about or str(path)
    if queries is not None:
        dataset.queries = _READERS[queries.suffix.lower()](queries).vectors
    if dataset.queries is None:
        dataset = hold_out(dataset)
    if dataset.vectors.shape[1] != dataset.queries.shape[1]:
        raise DataError(f"{path} has vectors of {dataset.vectors.shape[1]} dimensions, but its queries have {dataset.queries.shape[1]}")
    if dataset.metric == "cosine":
        dataset.vectors, dataset.queries = unit(dataset.vectors), unit(dataset.queries)
    return dataset


def hold_out(dataset: Dataset, count: int = HELD_OUT, seed: int = 0, rows: np.ndarray | None = None) -> Dataset:
    """Move rows from the points to the queries: these, else a random sample of ``count``, at most a tenth."""
    n = len(dataset.vectors)
    count = min(count, n // 10)
    if rows is None and count == 0:
        raise DataError(f"{dataset.name}: {n} vectors are too few to hold out queries; pass --queries-file FILE")
    query_rows = np.sort(np.random.default_rng(seed).choice(n, count, replace=False)) if rows is None else np.unique(rows)
    kept = np.setdiff1d(np.arange(n), query_rows)
    pick = kept.tolist()
    dataset.attributes = dataset.attributes_of(kept)
    if dataset.texts is not None:
        dataset.query_texts, dataset.texts = [dataset.texts[row] for row in query_rows.tolist()], [dataset.texts[row] for row in pick]
    dataset.queries, dataset.vectors = np.asarray(dataset.vectors[query_rows]), np.asarray(dataset.vectors[kept])
    return dataset


def npy(path: Path) -> Dataset:
    values = np.load(path, mmap_mode="r")
    if values.ndim != 2:
        raise DataError(f"{path} has an array of shape {values.shape}; it must be (n, dim)")
    return Dataset(path.stem, vectors=np.asarray(values, dtype=np.float32))


def fvecs(path: Path) -> Dataset:
    """Read fvecs or bvecs (Jégou et al., TEXMEX): each vector is its dimension as int32, then its components."""
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    if len(raw) < 4:
        raise DataError(f"{path} is empty")
    dim, size = int(raw[:4].view(np.int32)[0]), 1 if path.suffix == ".bvecs" else 4
    stride = 4 + dim * size
    if dim <= 0 or len(raw) % stride:
        raise DataError(f"{path} is not {path.suffix[1:]}: {len(raw)} bytes don't divide into vectors of {dim} dimensions")
    body = raw.reshape(-1, stride)[:, 4:]
    values = body if size == 1 else np.ascontiguousarray(body).view("<f4")
    return Dataset(path.stem, "l2", vectors=values.astype(np.float32))


def hdf5(path: Path) -> Dataset:
    """Read ann-benchmarks' layout: ``train``, ``test`` and the attribute ``distance``. ``neighbors`` is ignored."""
    try:
        import h5py
    except ImportError:
        raise DataError("reading .hdf5 needs h5py: pip install h5py") from None
    with h5py.File(path, "r") as file:
        metrics = {"angular": "cosine", "euclidean": "l2", "dot": "dot", "ip": "dot"}
        distance = str(file.attrs.get("distance", "euclidean"))
        if distance not in metrics or "train" not in file:
            raise DataError(f"{path}: needs a 'train' data set and a distance of {', '.join(metrics)}, not {distance!r}")
        queries = np.asarray(file["test"], dtype=np.float32) if "test" in file else None
        return Dataset(path.stem, metrics[distance], vectors=np.asarray(file["train"], dtype=np.float32), queries=queries)


def parquet(path: Path, column: str | None = None) -> Dataset:
    """Read a Parquet file. A column with lists of numbers is the vector; integers, strings and lists of strings become attributes."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError("reading .parquet needs pyarrow: pip install pyarrow") from None
    table = pq.read_table(path)

    def listed(kind) -> bool:
        return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)

    vector = column or next((f.name for f in table.schema if listed(f.type) and pa.types.is_floating(f.type.value_type)), None)
    if vector is None or vector not in table.column_names:
        raise DataError(f"{path} has no column {vector!r} of numbers" if vector else f"{path} has no column with lists of numbers")
    chunks = table.column(vector).combine_chunks()
    flat = chunks.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    if chunks.null_count or len(flat) % len(chunks):
        raise DataError(f"{path}: vectors in column {vector!r} are null or differ in length")
    dataset = Dataset(path.stem, vectors=flat.reshape(len(chunks), -1))
    for part in table.schema:
        words = listed(part.type) and pa.types.is_string(part.type.value_type)
        if part.name != vector and (pa.types.is_integer(part.type) or pa.types.is_string(part.type) or words):
            values = table.column(part.name).to_pylist()
            whole = pa.types.is_integer(part.type) and None not in values
            dataset.attributes[part.name] = np.array(values, dtype=np.int64) if whole else values
    return dataset


_READERS = {".npy": npy, ".fvecs": fvecs, ".bvecs": fvecs, ".hdf5": hdf5, ".h5": hdf5, ".parquet": parquet}


def folder(path: Path, metric: str = "cosine") -> Dataset:
    """Read a folder in BEIR's layout.

    Texts: ``corpus.jsonl`` and ``queries.jsonl`` (``_id``, ``title``, ``text``), or the same with .gz. Judgements: ``qrels/test.tsv`` or
    ``qrels.tsv``. Dense vectors: ``*docs*.npy`` and ``*queries*.npy``; if missing, wordllama embeds the texts. Sparse vectors:
    ``*docs*.npz`` and ``*queries*.npz`` (SciPy CSR); if missing, BM25 weights are computed.
    """
    from . import texts

    corpus, query_entries = list(_lines(path, "corpus")), list(_lines(path, "queries"))
    dense, sparse = _pair(path, ".npy"), _pair(path, ".npz")
    documents = [f"{entry.get('title', '')} {entry['text']}".strip() for entry in corpus]
    questions = [entry["text"] for entry in query_entries]
    dataset = Dataset(path.name, metric, texts=documents, query_texts=questions, about=str(path))
    if dense:
        dataset.vectors, dataset.queries = (np.load(part).astype(np.float32) for part in dense)
    else:
        dataset.vectors, dataset.queries = texts.embed(documents), texts.embed(questions)
    if metric == "cosine":
        dataset.vectors, dataset.queries = unit(dataset.vectors), unit(dataset.queries)
    if sparse:
        import scipy.sparse

        dataset.sparse, dataset.sparse_queries = (scipy.sparse.load_npz(part).tocsr().astype(np.float32) for part in sparse)
    else:
        dataset.sparse, dataset.sparse_queries = texts.bm25(documents, questions)
    rows = {str(entry["_id"]): row for row, entry in enumerate(corpus)}
    dataset.qrels = _qrels(path, {str(entry["_id"]): i for i, entry in enumerate(query_entries)}, rows)
    if len(dataset.vectors) != len(corpus) or len(dataset.queries) != len(query_entries) or dataset.sparse.shape[0] != len(corpus):
        raise DataError(f"{path}: the number of vectors differs from the {len(corpus)} documents or the {len(query_entries)} queries")
    return dataset


def arrays(path: Path, metric: str = "cosine") -> Dataset:
    """Read a folder of arrays.

    Points: ``base.npy``, or the .npy file with the most numbers. Queries: ``query.npy`` or ``queries.npy``, or the rows of the points that
    ``query_rows.npy`` lists, else a random sample of them. Attributes: ``points.jsonl``, or the same with .gz, a JSON object a point; a
    ``text`` in it is the point's text.
    """
    found = {part.stem: np.load(part, mmap_mode="r") for part in path.glob("*.npy")}
    matrices = {name: values for name, values in found.items() if values.ndim == 2 and values.dtype.kind == "f"}
    if not matrices:
        raise DataError(f"{path} has neither corpus.jsonl (with queries.jsonl and qrels) nor a .npy file of vectors")
    points = matrices.get("base", max(matrices.values(), key=lambda values: values.size))
    asked = matrices.get("query", matrices.get("queries"))
    dataset = Dataset(path.name, metric, np.asarray(points, np.float32), about=str(path))
    if any(path.glob("points.jsonl*")):
        dataset.attributes, dataset.texts = _columns(list(_lines(path, "points")), len(points))
    if asked is not None:
        dataset.queries = np.asarray(asked, np.float32)
    else:
        dataset = hold_out(dataset, rows=found.get("query_rows"))
    if metric == "cosine":
        dataset.vectors, dataset.queries = unit(dataset.vectors), unit(dataset.queries)
    return dataset


def _columns(entries: list[dict], count: int) -> tuple[dict[str, Any], list[str] | None]:
    """(attributes, texts) of JSON objects: integers, strings, lists of strings, and null beside them. What identifies a point is left out:
    strings of which more than half are different."""
    if len(entries) != count:
        raise DataError(f"points.jsonl has {len(entries):,} lines for {count:,} vectors")
    columns: dict[str, Any] = {}
    for name in entries[0]:
        values = [entry.get(name) for entry in entries]
        kinds = {type(value) for value in values if value is not None}
        if (kinds == {str} and len(set(values)) * 2 <= count) or kinds == {list}:
            columns[name] = values
        elif kinds == {int}:
            columns[name] = values if None in values else np.array(values, dtype=np.int64)
    return columns, [entry["text"] for entry in entries] if "text" in entries[0] else None


def _lines(path: Path, stem: str) -> Iterator[dict[str, Any]]:
    for name, opener in ((f"{stem}.jsonl", open), (f"{stem}.jsonl.gz", gzip.open)):
        if (path / name).exists():
            with opener(path / name, "rt", encoding="utf-8") as file:
                for line in file:
                    entry = json.loads(line)
                    if stem != "points" and "_id" not in entry:  # ir_datasets names it doc_id or query_id
                        entry["_id"] = next(entry[key] for key in ("doc_id", "query_id", "id") if key in entry)
                    yield entry
            return
    raise DataError(f"{path} has no {stem}.jsonl; the folder must have corpus.jsonl, queries.jsonl and qrels")


def _pair(path: Path, suffix: str) -> tuple[Path, Path] | None:
    for part in sorted(path.glob(f"*docs*{suffix}"), key=lambda p: ("bm25" in p.name, p.name)):
        other = path / part.name.replace("docs", "queries")
        if other.exists():
            return part, other
    return None


def _qrels(path: Path, queries: dict[str, int], rows: dict[str, int]) -> dict[int, dict[int, float]]:
    place = next((p for p in (path / "qrels" / "test.tsv", path / "qrels.tsv") if p.exists()), None)
    if place is None:
        raise DataError(f"{path} has neither qrels/test.tsv nor qrels.tsv")
    judged: dict[int, dict[int, float]] = {}
    with open(place, encoding="utf-8", newline="") as file:
        for line in csv.reader(file, delimiter="\t"):
            query, row, grade = line[0], line[-2], line[-1]  # BEIR: query, document, grade; TREC: query, 0, document, grade
            if query in queries and row in rows:
                judged.setdefault(queries[query], {})[rows[row]] = float(grade)
    return judged
