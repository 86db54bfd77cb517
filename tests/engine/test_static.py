"""The encoder "static": a table of token vectors from a folder."""

import json

import numpy as np
import pytest

import vectordb
from vectordb import Dense, EncoderError, InvalidArgumentError, Schema, Text, encoders

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
TABLE = np.array([[9, 9, 9, 9], [1, 2, 0, 1], [0, 0, 4, 0], [3, 0, 0, 4]], np.float32)


def saved(path, **arrays):
    """Write a safetensors file."""
    names, head, data = {"<f4": "F32", "<i8": "I64", "<f2": "F16"}, {"__metadata__": {"a": "b"}}, b""
    for name, array in arrays.items():
        head[name] = {"dtype": names[array.dtype.str], "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture
def folder(tmp_path):
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "dog": 1, "sea": 2, "cat": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.enable_padding(length=20)
    made.enable_truncation(1)
    path = tmp_path / "model"
    path.mkdir()
    made.save(str(path / "tokenizer.json"))
    saved(path / "model.safetensors", embeddings=TABLE)
    return path


def vector(folder, text="dog cat cat what", options=""):
    encoders._loaded.clear()  # as in a new process
    return encoders.load(f"static(model={folder}{options})").encode_queries([text])[0]


def unit(values):
    return pytest.approx(np.asarray(values) / np.linalg.norm(values))


def test_a_vector_is_the_mean_of_the_known_tokens(folder):
    assert vector(folder) == unit(TABLE[[1, 3, 3]].mean(axis=0))
    assert vector(folder, options=", dim=2") == unit(TABLE[[1, 3, 3], :2].mean(axis=0))
    (folder / "config.json").write_text('{"normalize": false}')
    assert vector(folder) == pytest.approx(TABLE[[1, 3, 3]].mean(axis=0))


def test_each_form_of_a_table_is_read(folder):
    saved(folder / "model.safetensors", embeddings=TABLE.astype("<f2"))
    assert vector(folder) == unit(TABLE[[1, 3, 3]].mean(axis=0))
    weights, mapping = np.array([1, 2, 1, 0.5], "<f4"), np.array([0, 1, 1, 2], "<i8")
    saved(folder / "model.safetensors", embeddings=TABLE[:3], weights=weights, mapping=mapping)
    assert vector(folder) == unit((2 * TABLE[1] + TABLE[2]) / 3)
    (folder / "model.safetensors").unlink()
    np.save(folder / "embeddings.npy", TABLE)
    assert vector(folder) == unit(TABLE[[1, 3, 3]].mean(axis=0))


def test_texts_are_written_searched_and_a_changed_table_is_named(folder, tmp_path):
    schema = Schema({"v": Dense(4, encoder=f"static(model={folder})", source="body")}, {"body": Text()})
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", schema)
        docs.upsert(ids=[1, 2, 3], attributes={"body": ["a dog", "the sea", "what"]})
        assert docs.search(text="sea").ids.tolist()[0] == 2 and docs.search({"v": [1, 1, 1, 1]}).ids.tolist() == [1, 2]
        assert docs.info().statistics["v"]["encoder"].startswith("static(dim=4) ")
        with pytest.raises(InvalidArgumentError, match="text 'what' has nothing to encode"):
            docs.search(text="what")
        with pytest.raises(EncoderError, match="makes 4 dimensions, but the field has 3"):
            database.create_collection("no", Schema({"v": Dense(3, encoder=f"static(model={folder})")}))
    saved(folder / "model.safetensors", embeddings=TABLE[::-1])
    encoders._loaded.clear()
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        with pytest.raises(EncoderError, match=r"field 'v' was built with encoder static\(dim=4\).* is installed"):
            database["docs"].search(text="sea")
        assert database["docs"].search({"v": [0, 0, 1, 0]}, limit=1).ids.tolist() == [2]


def test_a_wrong_folder_is_refused(folder, tmp_path):
    for spec, message in (
        ("static", r"needs a model; write static\(model=/folder\)"),
        ("static(model=/nowhere)", "finds no model at '/nowhere'"),
        (f"static(model={tmp_path})", "finds no table in .*; it must hold model.safetensors or embeddings.npy"),
        (f"static(model={folder}, dim=5)", "has 4 dimensions, not 5; write dim=4 or less"),
    ):
        with pytest.raises(EncoderError, match=message):
            encoders.load(spec)
    bad = np.where(TABLE == 9, np.nan, TABLE).astype("<f4")
    for arrays, message in (
        ({"other": TABLE}, "has no array 'embeddings'; its arrays are: other"),
        ({"embeddings": TABLE[:2]}, "has 2 rows, and the tokenizer 4 tokens"),
        ({"embeddings": TABLE[0]}, r"must be finite numbers \(tokens, dimensions\), not \(4,\)"),
        ({"embeddings": bad}, "must be finite numbers"),
        ({"embeddings": TABLE, "weights": TABLE[0, :2]}, r"'weights' has the shape \(2,\), and the tokenizer 4 tokens"),
        ({"embeddings": TABLE, "mapping": np.full(4, 7)}, "'mapping' must be rows of 'embeddings', which has 4"),
    ):
        saved(folder / "model.safetensors", **arrays)
        with pytest.raises(EncoderError, match=message):
            encoders.load(f"static(model={folder})")
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(EncoderError, match=r"can't read .*model.safetensors: it isn't a safetensors file"):
        encoders.load(f"static(model={folder})")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match="finds no tokenizer at"):
        encoders.load(f"static(model={folder})")
