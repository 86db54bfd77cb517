"""The BM25 encoder: words become stems, stems become term ids, and the terms are counted."""

import threading
import time
from collections import Counter

import numpy as np
import pytest
import xxhash
from vectordb_client.errors import EncoderError
from vectordb_client.model.schema import Sparse
from vectordb_client.model.vectors import query_vector

from vectordb import encoders
from vectordb.common.tokenize import words
from vectordb.encoders.bm25 import FrozenBM25

TEXTS = ["the quick brown fox jumps", "the lazy dog and the other dog", "fox", "a much longer text about dogs and foxes and dogs and dogs"]


def rows_of(column):
    return [
        dict(zip(column.terms[lo:hi].tolist(), column.weights[lo:hi].tolist(), strict=True))
        for lo, hi in zip(column.indptr[:-1], column.indptr[1:], strict=True)
    ]


def test_a_vector_says_how_often_a_text_says_each_term():
    encoder = encoders.load("bm25")
    column, counters, _ = encoder.encode_documents(TEXTS)
    expected = [Counter(encoder.term(word) for word in words(text)) for text in TEXTS]
    assert rows_of(column) == expected and counters is None
    assert encoders.load("bm25(k1=0.5, b=0.1)").encode_documents(TEXTS)[0].weights.tolist() == column.weights.tolist()


def test_a_column_is_csr_with_ascending_terms():
    column, _, _ = encoders.load("bm25").encode_documents(TEXTS)
    assert column.indptr.dtype == np.int64 and column.terms.dtype == np.uint64 and column.weights.dtype == np.float32
    for low, high in zip(column.indptr[:-1], column.indptr[1:], strict=True):
        assert (np.diff(column.terms[low:high].astype(object)) > 0).all()
    assert column.weights.all() and column.rows is None


def test_a_text_without_words_is_an_empty_row():
    column, _, _ = encoders.load("bm25").encode_documents(["", "fox", "…!", " "])
    assert np.diff(column.indptr).tolist() == [0, 1, 0, 0]
    assert len(encoders.load("bm25").encode_documents([])[0]) == 0
    column, _, _ = encoders.load("bm25").encode_documents(["", ""])
    assert len(column) == 2 and len(column.terms) == 0


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (2.0, 0.0), (0.0, 1.0)])
def test_fields_of_earlier_versions_go_on_with_finished_weights(k1, b):
    """The formula with the mean of everything so far and this batch, a term at a time."""
    today = encoders.load(f"bm25(k1={k1}, b={b})")
    frozen = encoders.load_as(f"bm25(k1={k1}, b={b})", today.identity.replace(", words=2", ""))
    assert type(frozen) is FrozenBM25 and frozen.identity != today.identity
    column, counters, _ = frozen.encode_documents(TEXTS, {"documents": 10, "words": 500})
    total = sum(len(words(text)) for text in TEXTS)
    assert counters == {"documents": 4, "words": total}
    for got, text in zip(rows_of(column), TEXTS, strict=True):
        counts = Counter(frozen.term(word) for word in words(text))
        norm = k1 * (1 - b + b * len(words(text)) / ((500 + total) / 14))
        assert got.keys() == counts.keys()
        assert all(abs(got[term] - n * (k1 + 1) / (n + norm)) < 1e-6 for term, n in counts.items())
    assert len(frozen.encode_queries(["ปลา"])[0][0]) == 1 and len(today.encode_queries(["ปลา"])[0][0]) == 2
    assert encoders.load_as("bm25", "bm25(something else)") is None


def test_a_query_counts_its_terms():
    encoder = encoders.load("bm25")
    terms, weights = encoder.encode_queries(["Foxes and the fox"])[0]
    got = dict(zip(terms.tolist(), weights.tolist(), strict=True))
    assert got == {encoder.term("fox"): 2.0, encoder.term("and"): 1.0, encoder.term("the"): 1.0}
    assert query_vector("terms", Sparse(), (terms, weights))[0].tolist() == terms.tolist()


def test_a_query_without_words_is_empty():
    terms, weights = encoders.load("bm25").encode_queries(["?!"])[0]
    assert len(terms) == len(weights) == 0
    assert len(query_vector("terms", Sparse(), (terms, weights))[0]) == 0


def test_stems_join_forms_of_a_word_and_case_does_not_matter():
    encoder = encoders.load("bm25")
    assert encoder.term("Running") == encoder.term("runs") == xxhash.xxh3_64_intdigest(b"run")
    assert encoders.load("bm25(language=none)").term("Running") == xxhash.xxh3_64_intdigest(b"running")
    assert encoders.load("bm25(language=german)").term("Häuser") == encoders.load("bm25(language=german)").term("haus")


def test_stop_words_are_left_out_of_terms_and_length():
    column, _, _ = encoders.load("bm25(stopwords=true)").encode_documents(["the fox and the dog"])
    assert np.diff(column.indptr).tolist() == [2] and column.weights.sum() == 2
    assert len(encoders.load("bm25(stopwords=true)").encode_queries(["the and of"])[0][0]) == 0


def test_stop_words_of_other_languages_are_refused_rather_than_ignored():
    with pytest.raises(EncoderError, match="english only"):
        encoders.load("bm25(language=german, stopwords=true)")


def test_an_unknown_language_lists_the_known_ones():
    with pytest.raises(EncoderError, match=r"'klingon'.*english"):
        encoders.load("bm25(language=klingon)")


def test_a_term_is_one_word():
    with pytest.raises(EncoderError, match="2 words"):
        encoders.load("bm25").term("two words")


def test_options_that_change_weights_change_the_identity():
    specs = ["bm25", "bm25(k1=1.3)", "bm25(b=0.7)", "bm25(stopwords=true)", "bm25(language=none)", "bm25(language=porter)"]
    assert len({encoders.load(s).identity for s in specs}) == len(specs)
    assert encoders.load("bm25").identity == encoders.load("bm25(k1=1.2, b=0.75, language=english)").identity


def test_threads_stem_alike():
    encoder = encoders.load("bm25(k1=1.21)")
    texts = [f"running{i} jumped{i % 97} houses dogs{i % 13}" for i in range(3000)]
    expected = rows_of(encoders.load("bm25(k1=1.210001)").encode_documents(texts)[0])
    results = {}

    def work(number):
        results[number] = rows_of(encoder.encode_documents(texts)[0])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all([r.keys() for r in results[n]] == [r.keys() for r in expected] for n in range(4))


def test_thousands_of_documents_a_second():
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"word{i}" for i in range(20_000)])
    texts = [" ".join(vocabulary[(rng.pareto(1.0, 100) * 20).astype(int) % 20_000]) for _ in range(2000)]
    encoder = encoders.load("bm25(b=0.7)")
    best = np.inf
    for _ in range(3):
        start = time.process_time()  # not by the clock: others may keep the machine busy
        encoder.encode_documents(texts)
        best = min(best, time.process_time() - start)
    assert 2000 / best > 2000, f"{2000 / best:.0f} documents of 100 words a second"
