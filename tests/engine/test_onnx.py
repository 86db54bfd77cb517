"""The encoder "onnx": a model file run by onnxruntime. The models here look vectors up in a table; their files are written by hand."""

import numpy as np
import pytest

import vectordb
from vectordb import Dense, EncoderError, InvalidArgumentError, Schema, Text, encoders

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'onnxruntime>=1.18'")
tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
TABLE = np.array([[9, 9, 9], [1, 2, 0], [0, 0, 4], [3, 0, 5], [0, 7, 0]], np.float32)
FLOAT, INT64 = 1, 7


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def part(number, value):
    """A field of a protobuf message: an integer, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def typed(name, kind, rank):
    shape = b"".join(part(1, part(2, f"d{i}")) for i in range(rank))
    return part(1, name) + part(2, part(1, part(1, kind) + part(2, shape)))


def model(table=TABLE, names=("input_ids", "attention_mask"), pooled=False):
    """A file of a model that returns the row of the table for each token, or for the first one."""
    kind = b"".join(part(1, n) for n in table.shape) + part(2, FLOAT) + part(8, "table") + part(9, table.tobytes())
    nodes = part(1, part(1, "table") + part(1, names[0]) + part(2, "rows") + part(4, "Gather"))
    if pooled:
        options = part(5, part(1, "axes") + part(8, 1) + part(20, 7)) + part(5, part(1, "keepdims") + part(3, 0) + part(20, 2))
        nodes += part(1, part(1, "rows") + part(2, "out") + part(4, "ReduceMax") + options)
    nodes += part(2, "g") + part(5, kind) + b"".join(part(11, typed(name, INT64, 2)) for name in names)
    nodes += part(12, typed("out" if pooled else "rows", FLOAT, 2 if pooled else 3))
    return part(1, 8) + part(7, nodes) + part(8, part(1, "") + part(2, 13))


@pytest.fixture
def folder(tmp_path):
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "dog": 1, "sea": 2, "cat": 3, "[CLS]": 4}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 4)])
    path = tmp_path / "model" / "onnx"
    path.mkdir(parents=True)
    made.save(str(path.parent / "tokenizer.json"))
    (path / "model.onnx").write_bytes(model())
    return path


def vectors(folder, *texts, options=", normalize=false"):
    encoders._loaded.clear()  # as in a new process
    return np.array(encoders.load(f"onnx(model={folder / 'model.onnx'}{options})").encode_queries(texts))


def test_token_vectors_are_pooled_without_padding(folder):
    expected = [TABLE[[4, 1]].mean(axis=0), TABLE[[4, 2, 3, 3]].mean(axis=0)]
    assert vectors(folder, "dog", "sea cat cat") == pytest.approx(np.array(expected))
    unit = vectors(folder, "dog", "sea cat cat", options="")
    assert unit == pytest.approx(expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert vectors(folder, "dog", options=", pooling=cls, normalize=false").tolist() == [TABLE[4].tolist()]
    assert vectors(folder, "sea cat cat", options=", max_length=2, dim=2, normalize=false").tolist() == [[0, 3.5]]
    tokenizer = (folder.parent / "tokenizer.json").rename(folder.parent / "other.json")
    assert vectors(folder, "dog", options=f", tokenizer={tokenizer}, normalize=false") == pytest.approx(np.array(expected[:1]))


def test_a_vector_a_text_needs_no_pooling(folder):
    (folder / "model.onnx").write_bytes(model(pooled=True))
    assert vectors(folder, "dog").tolist() == [np.maximum(TABLE[4], TABLE[1]).tolist()]
    with pytest.raises(EncoderError, match="returns one vector a text, so there is nothing to pool; leave pooling out"):
        vectors(folder, "dog", options=", pooling=mean")


def test_texts_are_written_searched_and_a_changed_model_is_named(folder, tmp_path):
    schema = Schema({"v": Dense(3, encoder=f"onnx(model={folder / 'model.onnx'})", source="body")}, {"body": Text()})
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", schema)
        docs.upsert(ids=range(40), attributes={"body": ["dog " * n if n != 7 else "sea" for n in range(40)]})
        assert docs.search(text="sea", limit=1).ids.tolist() == [7]
        assert len(docs.search({"v": [1, 1, 1]}, limit=50)) == 39  # the first text is blank
        assert docs.info().statistics["v"]["encoder"].startswith("onnx(dim=3, pooling=mean, max_length=512, normalize=true) ")
        with pytest.raises(InvalidArgumentError, match="text ' ' has nothing to encode"):
            docs.search(text=" ")
    (folder / "model.onnx").write_bytes(model(TABLE + 1))
    encoders._loaded.clear()
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        with pytest.raises(EncoderError, match=r"field 'v' was built with encoder onnx\(dim=3.* is installed"):
            database["docs"].search(text="sea")
        assert len(database["docs"].search({"v": [0, 0, 1]}, limit=3)) == 3


def test_a_wrong_model_is_refused(folder):
    file = folder / "model.onnx"
    for spec, message in (
        ("onnx", r"needs a model; write onnx\(model=/folder/model.onnx\)"),
        ("onnx(model=/nowhere.onnx)", r"finds no model at '/nowhere.onnx'"),
        (f"onnx(model={folder})", "needs the file of a model, and .* is a folder"),
        (f"onnx(model={file}, pooling=max)", "option pooling of encoder 'onnx' must be one of mean, cls"),
        (f"onnx(model={file}, dim=4)", "has 3 dimensions, not 4; write dim=3 or less"),
        (f"onnx(model={file}, tokenizer=/nowhere)", "finds no tokenizer at '/nowhere'"),
        (f"onnx(model={file}, tokenizer={file})", "can't read"),
    ):
        with pytest.raises(EncoderError, match=message):
            encoders.load(spec)
    for content, message in (
        (b"no", r"can't read .*model.onnx"),
        (model(names=("pixels",)), "has the inputs pixels; it may have integer input_ids"),
        (model(TABLE[:2]), "the model can't be run"),
        (model(np.full_like(TABLE, np.nan)), "returned a vector that isn't finite"),
    ):
        file.write_bytes(content)
        with pytest.raises(EncoderError, match=message):
            vectors(folder, "dog")
    file.write_bytes(model())
    (folder.parent / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"finds no tokenizer.json beside"):
        vectors(folder, "dog")
