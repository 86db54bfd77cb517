"""Encoders: how they are named, what they refuse, and the vectors of wordllama."""

import logging
import sys

import numpy as np
import pytest
from vectordb_client.errors import EncoderError, InvalidArgumentError
from vectordb_client.model.schema import Dense, MultiVector, Sparse
from vectordb_client.model.vectors import query_vector

from vectordb import encoders

wordllama = pytest.importorskip("wordllama", reason="the wordllama package is not installed")


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("bm25", ("bm25", {})),
        (" bm25 ( language = german , k1=0.9 ) ", ("bm25", {"language": "german", "k1": "0.9"})),
        ("bm25()", ("bm25", {})),
        ("sparse-encoder(model='/a, b/(c)')", ("sparse-encoder", {"model": "/a, b/(c)"})),
        ("sentence-transformers(model=/models/x y,dim=64)", ("sentence-transformers", {"model": "/models/x y", "dim": "64"})),
    ],
)
def test_a_spec_is_a_name_with_options(spec, expected):
    assert encoders.parse(spec) == expected


@pytest.mark.parametrize(
    "spec", ["", "bm25(", "bm25)", "bm25(k1)", "bm25(k1=1, k1=2)", "bm25(k1=1;b=2=3)", "b m25", "bm25(language='a)", 7]
)
def test_a_spec_that_does_not_read_is_refused(spec):
    with pytest.raises(EncoderError) as caught:
        encoders.load(spec)
    assert caught.value.field == "encoder"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(EncoderError, match=r"no encoder 'bert'.*wordllama"):
        encoders.load("bert")


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(EncoderError, match=r"no option 'lang'.*language"):
        encoders.load("bm25(lang=german)")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("wordllama(dim=100)", "one of 256, 128, 64"),
        ("bm25(k1=high)", "a number from 0 to 100"),
        ("bm25(b=nan)", "a number from 0 to 1"),
        ("bm25(stopwords=1)", "true or false"),
        ("bm25(language=)", "at least one character"),
    ],
)
def test_a_bad_option_says_what_would_be_good(spec, message):
    with pytest.raises(EncoderError, match=message):
        encoders.load(spec)


def test_an_encoder_is_made_once_a_process():
    assert encoders.load("bm25") is encoders.load(" bm25( )")
    assert encoders.load("bm25(k1=1.5, b=0.5)") is encoders.load("bm25(b=0.50,k1=1.5)")
    assert encoders.load("bm25") is not encoders.load("bm25(k1=1.5)")


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(encoders, "_loaded", {})
    monkeypatch.setitem(sys.modules, "wordllama", None)
    monkeypatch.setitem(sys.modules, "Stemmer", None)
    with pytest.raises(EncoderError, match=r"pip install wordllama==0.4.0.post1"):
        encoders.load("wordllama")
    with pytest.raises(EncoderError, match="pip install 'PyStemmer"):
        encoders.load("bm25")
    encoders.load("bm25(language=none)")


def test_a_missing_library_of_models_is_named_with_the_command(monkeypatch, tmp_path):
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Transformer"}]')
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(EncoderError, match=r"pip install 'sentence-transformers>=5.1'"):
        encoders.load(f"sentence-transformers(model={tmp_path})")


@pytest.mark.parametrize("name", ["sentence-transformers", "sparse-encoder"])
def test_models_are_never_downloaded(name):
    with pytest.raises(EncoderError, match=r"finds no model at.*not downloaded"):
        encoders.load(f"{name}(model=sentence-transformers/all-MiniLM-L6-v2)")
    with pytest.raises(EncoderError, match="needs a model"):
        encoders.load(name)


def test_a_plain_checkpoint_is_not_taken_for_a_text_embedder(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["BertForMaskedLM"]}')
    with pytest.raises(EncoderError, match=r"no modules\.json"):
        encoders.load(f"sentence-transformers(model={tmp_path})")


def test_a_dense_model_is_not_taken_for_a_sparse_one(tmp_path):
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Transformer"}]')
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(EncoderError, match="not a sparse model"):
        encoders.load(f"sparse-encoder(model={tmp_path})")


def test_check_compares_kind_and_dimension():
    encoders.load("wordllama").check(Dense(256, encoder="wordllama"))
    encoders.load("bm25").check(Sparse(encoder="bm25"))
    with pytest.raises(EncoderError, match=r"makes 256 dimensions, but the field has 384; write Dense\(256"):
        encoders.load("wordllama").check(Dense(384, encoder="wordllama"))
    with pytest.raises(EncoderError, match="makes dense vectors, but the field is sparse; use a Dense field"):
        encoders.load("wordllama").check(Sparse(encoder="wordllama"))
    with pytest.raises(EncoderError, match="makes sparse vectors, but the field is multi"):
        encoders.load("bm25").check(MultiVector(256, encoder="bm25"))


def test_wordllama_gives_unit_vectors_that_know_meaning():
    encoder = encoders.load("wordllama")
    column, delta, _ = encoder.encode_documents(["a small dog barks", "the puppy is barking", "quarterly tax revenue"])
    assert column.values.shape == (3, 256) and column.values.dtype == np.float32 and column.rows is None and delta is None
    assert np.allclose(np.linalg.norm(column.values, axis=1), 1, atol=1e-6)
    assert cosine(column.values[0], column.values[1]) > cosine(column.values[0], column.values[2]) + 0.3


def test_a_document_is_encoded_the_same_in_any_company():
    encoder = encoders.load("wordllama")
    alone = encoder.encode_documents(["short text"])[0].values[0]
    many = encoder.encode_documents(["word " * 3000, "short text", *["x y z"] * 300])[0].values[1]
    assert np.array_equal(alone, many)
    assert np.array_equal(alone, encoder.encode_queries(["short text"])[0])


def test_text_in_capitals_means_what_it_means_in_small_letters():
    encoder = encoders.load("wordllama")
    loud, quiet = encoder.encode_queries(["OPEN A FILE FOR READING", "open a file for reading"])
    assert np.array_equal(loud, quiet)


def test_fewer_dimensions_are_the_first_ones_normalised():
    full, half = (encoders.load(spec).encode_queries(["open a file"])[0] for spec in ("wordllama", "wordllama(dim=128)"))
    assert half.shape == (128,) and np.allclose(half, full[:128] / np.linalg.norm(full[:128]), atol=1e-6)


@pytest.mark.parametrize("texts", [["a b", "", "  \n", "c d"], ["", "x"], [""], []])
def test_blank_documents_have_no_row(texts):
    column, _, _ = encoders.load("wordllama").encode_documents(texts)
    rows = np.arange(len(texts)) if column.rows is None else column.rows
    assert rows.tolist() == [i for i, text in enumerate(texts) if text.strip()]
    assert len(column.values) == len(rows) and column.values.any(axis=1).all()


def test_a_blank_query_is_refused():
    with pytest.raises(InvalidArgumentError, match="nothing to encode"):
        encoders.load("wordllama").encode_queries(["fine", " "])


def test_queries_are_accepted_as_query_vectors():
    spec = Dense(256, encoder="wordllama")
    query = encoders.load("wordllama").encode_queries(["open a file"])[0]
    assert query_vector("text", spec, query).shape == (256,)


def test_the_identity_names_the_model_and_what_changes_the_output():
    assert encoders.load("wordllama").identity != encoders.load("wordllama(dim=64)").identity
    assert encoders.load("wordllama").identity.startswith("wordllama(dim=256) ")


def test_loading_leaves_the_logging_of_the_application_alone(monkeypatch):
    monkeypatch.setattr(encoders, "_loaded", {})
    for name in [m for m in sys.modules if m == "wordllama" or m.startswith("wordllama.")]:
        monkeypatch.delitem(sys.modules, name)
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    encoders.load("wordllama")
    assert (root.handlers[:], root.level) == before
