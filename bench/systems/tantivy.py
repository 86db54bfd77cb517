"""tantivy: full-text search in Rust, the engine of Quickwit. It takes texts, not vectors of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import System, Unsupported


class Tantivy(System):
    """The texts of the data set in one field, with the analyzer ``en_stem``; a query is the disjunction of its words, ranked by BM25.

    It stems and weights in its own way (k1 1.2, b .75), so recall against other BM25 weights only says how much the rankings agree. What
    compares are the ranking metrics, on data with judgements.
    """

    name = "tantivy"
    kind = "database"
    needs = ("tantivy==0.27.0",)
    imports = ("tantivy",)
    does = frozenset({"sparse", "delete", "durable", "reopen"})
    texts = True
    notes = "BM25 of texts with its own stemming and weights: compare nDCG and MRR, not recall"
    HEAP = 256 << 20  # bytes that the writer buffers

    def create(self, dataset, folder, threads):
        if dataset.texts is None or dataset.query_texts is None:
            raise Unsupported("it searches texts, and this data set has none")
        self._begin(folder)
        import tantivy

        self.index = tantivy.Index(self.schema, path=str(self.place))
        self.writer = self.index.writer(heap_size=self.HEAP, num_threads=threads)
        return {"tokenizer": "en_stem", "k1": 1.2, "b": 0.75}

    def _begin(self, folder):
        import tantivy

        self.place = Path(folder) / "tantivy"
        self.place.mkdir(parents=True, exist_ok=True)
        builder = tantivy.SchemaBuilder()
        builder.add_integer_field("row", stored=False, indexed=True, fast=True)
        builder.add_text_field("body", stored=False, tokenizer_name="en_stem", index_option="freq")
        self.schema = builder.build()

    def insert(self, dataset, rows):
        import tantivy

        for row in rows.tolist():
            self.writer.delete_documents_by_term("row", row)
            self.writer.add_document(tantivy.Document(row=row, body=dataset.texts[row]))
        self.writer.commit()

    def delete(self, ids):
        for row in ids.tolist():
            self.writer.delete_documents_by_term("row", row)
        self.writer.commit()
        self._search()

    def finish(self):
        self.writer.commit()
        self.writer.wait_merging_threads()
        self.writer = self.index.writer(heap_size=self.HEAP)
        self._search()

    def _search(self):
        self.index.reload()
        self.searcher = self.index.searcher()

    def reopen(self, dataset, folder, threads):
        import tantivy

        self._begin(folder)
        self.index = tantivy.Index.open(str(self.place))
        self.writer = self.index.writer(heap_size=self.HEAP)
        self._search()

    def query(self, query):
        text = "".join(sign if sign.isalnum() else " " for sign in query)  # signs have a meaning in its query language
        return self.index.parse_query(text.lower(), ["body"])

    def search(self, query, k, where):
        return self.searcher.search(query, limit=k, count=False).hits

    def ids(self, hits):
        return np.array(self.searcher.fast_field_values("row", [address for _, address in hits]), dtype=np.int64)
