"""Retrieval for a language model: the documentation of some modules in chunks, searched, and made into a prompt with numbered sources.

python ask_documents.py How do I copy a folder
"""

import importlib
import importlib.util
import inspect
import sys

import vectordb
from vectordb import Dense, Keyword, Schema, Sparse, Text

MODULES = ["argparse", "csv", "json", "logging", "shutil", "sqlite3", "tempfile", "textwrap", "threading"]


def chunks():
    """(document, heading, passage): each public function and class of a module."""
    for name in MODULES:
        for member, value in sorted(vars(importlib.import_module(name)).items()):
            text = inspect.getdoc(value) if inspect.isclass(value) or inspect.isroutine(value) else None
            if text and not member.startswith("_") and getattr(value, "__module__", None) == name:
                yield name, f"{name}.{member}", f"{name}.{member}: {text[:1500]}"


def make(db):
    """The collection: BM25, and embeddings where the package wordllama is installed."""
    vectors = {"words": Sparse(encoder="bm25", source="passage")}
    if importlib.util.find_spec("wordllama"):
        vectors["meaning"] = Dense(256, encoder="wordllama", source="passage")
    docs = db.create_collection("docs", Schema(vectors, {"document": Keyword(), "heading": Keyword(), "passage": Text()}))
    documents, headings, passages = map(list, zip(*chunks(), strict=True))
    docs.bulk(ids=headings, attributes={"document": documents, "heading": headings, "passage": passages})
    return docs


def retrieve(docs, question, limit=5, each=3):
    """The best chunks, at most ``each`` of a document."""
    kept, taken = [], {}
    for hit in docs.search(text=question, limit=10 * limit):
        document = hit.attributes["document"]
        taken[document] = taken.get(document, 0) + 1
        if taken[document] <= each:
            kept.append(hit)
    return kept[:limit]


def main():
    question = " ".join(sys.argv[1:]) or "How do I copy a folder with everything in it?"
    with vectordb.open(":memory:") as db:
        hits = retrieve(make(db), question)
    print("Answer from the passages below and from nothing else. Cite their numbers in brackets.\n")
    for number, hit in enumerate(hits, 1):
        print(f"[{number}] {hit.attributes['passage']}\n")
    print(f"Question: {question}\nAnswer:")  # what a language model is given


if __name__ == "__main__":
    main()
