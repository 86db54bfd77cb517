"""``vectordb bench tune`` on small collections of every vector type: its ground truth is correct, and its advice follows the figures."""

from __future__ import annotations

import json
from math import log

import numpy as np
import pytest
import scipy.sparse

import vectordb
from bench import cli, tune, tune_fields, tune_report
from vectordb import Dense, Int, Keyword, MultiVector, Schema, Sparse, Text

pytestmark = pytest.mark.usefixtures("full_calibration")

N = 400


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tune, "_SECONDS", 0.2)
    monkeypatch.setattr(tune, "_ROUNDS", 0.02)


def sparse_rows(rng, count: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Terms of which some are in most rows, so that idf matters, and some are past 2³²."""
    popular = np.concatenate([np.arange(12), 2**40 + np.arange(80)]).astype(np.uint64)
    share = np.r_[np.full(12, 4.0), np.ones(80)]
    rows = [np.sort(rng.choice(popular, size, replace=False, p=share / share.sum())) for _ in range(count)]
    return [(terms, rng.random(size).astype(np.float32) + 0.1) for terms in rows]


def made(kind: str, spec, rng) -> list:
    """A vector a point; every seventh point has none."""
    if kind == "dense":
        values = list(rng.standard_normal((N, spec.dim)).astype(np.float32))
    elif kind == "sparse":
        values = sparse_rows(rng, N, 9)
    else:
        values = [rng.standard_normal((int(rng.integers(1, 6)), spec.dim)).astype(np.float32) for _ in range(N)]
    return [None if i % 7 == 0 else value for i, value in enumerate(values)]


def filled(path, spec, seed: int = 0):
    """A database with the collection "things" whose field "v" is of this kind."""
    rng = np.random.default_rng(seed)
    database = vectordb.open(path, durability="batched")
    things = database.create_collection("things", Schema({"v": spec}, {"kw": Keyword(), "n": Int()}))
    values = made(spec.kind, spec, rng)
    points = [
        {"id": f"id{i}", "vectors": {} if value is None else {"v": value}, "attributes": {"kw": f"k{i % 10}", "n": i}}
        for i, value in enumerate(values)
    ]
    things.upsert(points)
    return database


SPECS = {
    "cosine": Dense(8),
    "l2 in float16": Dense(8, metric="l2", dtype="float16"),
    "dot": Dense(8, metric="dot"),
    "terms": Sparse(),
    "terms weighted by idf": Sparse(weighting="idf"),
    "maxsim": MultiVector(8),
    "best pair, dot": MultiVector(8, metric="dot", aggregation="max"),
    "maxsim in float16": MultiVector(8, dtype="float16"),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_kind_of_field_is_judged_by_an_exact_oracle(spec, tmp_path):
    with filled(tmp_path / "db", spec) as database:
        found = tune.tune(database.collection("things"), count=20)
    assert found["exact"] and found["kind"] == spec.kind and found["with_field"] == N - len(range(0, N, 7)) and found["queries"] > 10
    # Every limit but the one deeper than the truth is judged; a row short, or another, would show.
    assert [one["limit"] for one in found["limits"]] == [1, 10, 100]
    assert all(one["recall"]["min"] == 1.0 for one in found["limits"]), found["limits"]
    assert {one["field"] for one in found["filters"]} == {"kw", "n"}
    assert all(one["recall"]["min"] == 1.0 and 0 < one["matches"] < N for one in found["filters"])
    assert (found["float16"] is not None) == (spec.kind != "sparse" and spec.dtype == "float32")
    assert found["raw_vectors"] > 0 and found["disk"] > found["raw_vectors"]
    [said] = [text for text in tune_report.advice(found, [0.9, 0.95]) if "exact" in text]
    assert "recall 0.9, 0.95 all cost the same" in said


class Rough:
    """A collection whose searches find a share of the right rows: what an index does."""

    def __init__(self, collection, honest: bool):
        self.inner, self.honest = collection, honest

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def search(self, vectors, *, limit=10, recall=0.5, exact=False, explain=False, **options):
        hits = self.inner.search(vectors, limit=10 * limit, explain=explain, **options)
        right = limit if exact else round(recall * limit)
        plan = hits.plan
        if explain and self.honest:
            plan = {**plan, "arms": [{**plan["arms"][0], "exact": False}]}
        return vectordb.Hits([*hits[:right], *list(hits)[-(limit - right) :]][:limit] if right < limit else list(hits)[:limit], plan)


def test_an_inexact_search_is_measured_at_every_target(tmp_path, capsys):
    with filled(tmp_path / "db", Dense(8)) as database:
        rough = Rough(database.collection("things"), honest=True)
        found = tune.tune(rough, count=20, targets=[0.8, 1.0])
    assert not found["exact"]
    assert [one["target"] for one in found["targets"]] == [0.8, 1.0, None]
    assert [one["recall"]["mean"] for one in found["targets"]] == pytest.approx([0.8, 1.0, 1.0])
    found["targets"][0]["target"] = 0.95  # one that the same figures miss
    said = tune_report.advice(found, [0.95, 1.0])
    assert any("recall=0.95 is not met: the measured recall is 0.8000" in text for text in said)
    assert not any("are exact" in text for text in said)
    found["advice"] = said
    from rich.console import Console

    tune_report.show(Console(soft_wrap=True), found, [0.95, 1.0])
    shown = capsys.readouterr().out
    assert "recall=0.95" in shown and "exact=True" in shown and "0.8000" in shown


def test_a_search_that_calls_itself_exact_and_isnt_is_reported(tmp_path):
    with filled(tmp_path / "db", Sparse()) as database:
        found = tune.tune(Rough(database.collection("things"), honest=False), count=20)
    assert found["exact"] and found["base"]["recall"]["mean"] == pytest.approx(0.5)
    assert any("report this, please" in text for text in tune_report.advice(found, [0.9]))


def test_scores_of_terms_are_those_worked_by_hand():
    field = tune_fields.make("v", Sparse(weighting="idf"))
    rows = [([1, 5], [2.0, 1.0]), ([5, 2**40], [3.0, 4.0]), ([7], [1.0])]
    rows = [(np.array(terms, np.uint64), np.array(weights, np.float32)) for terms, weights in rows]
    field.see(rows[:2])
    field.see(rows[2:])
    field.ask([(np.array([5, 2**40], np.uint64), np.array([1.0, 0.5], np.float32)), (np.array([9], np.uint64), np.ones(1, np.float32))])
    scores, reached = field.scores(rows)
    twice, once = log(1 + 1.5 / 2.5), log(1 + 2.5 / 1.5)  # idf of a term in two of three rows, and in one
    assert scores.tolist() == pytest.approx(np.array([[twice, 3 * twice + 0.5 * 4 * once, 0], [0, 0, 0]]))
    assert reached.tolist() == [[True, True, False], [False, False, False]]
    assert field.about()["postings"] == 1.5  # three of the first query, none of the second


def test_scores_of_matrices_are_those_worked_by_hand():
    query, documents = np.array([[1.0, 0.0], [0.0, 2.0]]), [np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([[0.0, -1.0]])]
    for aggregation, metric, expected in (
        ("maxsim", "dot", [3 + 2, 0 - 2]),
        ("max", "dot", [3, 0]),
        ("maxsim", "cosine", [1 + 0.5**0.5, 0 - 1]),
        ("max", "cosine", [1, 0]),
    ):
        field = tune_fields.make("v", MultiVector(2, metric=metric, aggregation=aggregation))
        field.ask([query])
        [scores], reached = field.scores(documents)
        assert scores.tolist() == pytest.approx(expected) and reached is None


def test_matches_are_counted_for_each_query():
    truth = tune.Truth(2, 3)
    truth.add(["a", "b"], np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[True, True], [True, False]]))
    truth.add(["c"], np.array([[5.0], [0.0]]), np.array([[True], [False]]))
    assert truth.ids == [["c", "b", "a"], ["a"]] and truth.matches.tolist() == [3, 1]
    assert truth.recall(1, ["a"], 10) == 1.0 and truth.recall(1, ["b"], 10) == 0.0
    assert truth.recall(0, ["c", "a"], 2) == 0.5 and truth.recall(0, ["c", "c"], 2) == 0.5
    assert truth.knows(3) and not tune.Truth(1, 2).matches.any()
    short = tune.Truth(1, 1)
    short.add(["a", "b"], np.array([[1.0, 2.0]]))
    assert short.knows(1) and not short.knows(2)


def written(path, spec):
    filled(path / "db", spec).close()
    return str(path / "db" / "things")


def test_the_command_prints_what_it_measured(tmp_path, capsys):
    place, out = written(tmp_path, Dense(8)), tmp_path / "tune.json"
    assert cli.main(["tune", place, "--count", "30", "--recall", "0.9,0.99", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "400 points × 8 float32, cosine" in text and "Searches of this dense field are exact here: recall 0.9, 0.99" in text
    found = json.loads(out.read_text())
    assert found["raw_vectors"] == found["with_field"] * 8 * 4 and 0.98 < found["float16"] <= 1.0
    assert f"{found['base']['p50_ms']:.3g}" in text


@pytest.mark.parametrize(
    ("spec", "name", "value"),
    [
        (Dense(8), "asked.npy", np.ones((5, 8), np.float32)),
        (Sparse(), "asked.npz", scipy.sparse.csr_array(np.eye(5, 12, dtype=np.float32))),
        (MultiVector(8), "asked.npy", np.random.default_rng(0).standard_normal((5, 3, 8))),
    ],
    ids=["dense", "sparse", "multi"],
)
def test_queries_come_from_a_file(spec, name, value, tmp_path, capsys):
    path = tmp_path / name
    np.save(path, value) if name.endswith(".npy") else scipy.sparse.save_npz(path, value)
    out = tmp_path / "tune.json"
    assert cli.main(["tune", written(tmp_path, spec), "--queries", str(path), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["queries"] == 5 and found["queries_from"] == str(path) and found["base"]["recall"]["mean"] == 1.0
    assert "were points of the collection" not in capsys.readouterr().out


def test_queries_come_from_texts_where_the_field_has_an_encoder(tmp_path, capsys):
    path = tmp_path / "asked.txt"
    path.write_text("a cat\n\nthe seventh dog\n!!!\n")
    with vectordb.open(tmp_path / "db") as database:
        schema = Schema({"v": Sparse(weighting="idf", encoder="bm25", source="body")}, {"body": Text()})
        animals = ["cat", "dog", "bird"]
        points = [{"id": i, "attributes": {"body": f"The {animals[i % 3]} number {i}, seventh of all"}} for i in range(50)]
        database.create_collection("things", schema).upsert(points)
    out = tmp_path / "tune.json"
    assert cli.main(["tune", str(tmp_path / "db" / "things"), "--queries", str(path), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["queries"] == 2, "a text without words asks nothing"
    assert found["base"]["recall"]["min"] == 1.0 and found["postings"] > 10
    assert "Searches of sparse fields are exact here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "name", "content", "said"),
    [
        (Dense(8), "asked.npy", np.ones((5, 4)), "has vectors of 4 dimensions, but the field 'v' has 8"),
        (Dense(8), "asked.csv", None, "must be .npy or .fvecs"),
        (Dense(8), "asked.txt", "a text", "has no encoder"),
        (Sparse(), "asked.npy", np.ones((5, 4)), "must be .npz"),
        (MultiVector(8), "asked.npy", np.ones((5, 8)), "has shape (5, 8)"),
        (MultiVector(8), "asked.npz", None, "must be .npy"),
    ],
)
def test_a_file_that_holds_no_queries_of_the_field_is_refused(spec, name, content, said, tmp_path, capsys):
    path = tmp_path / name
    np.save(path, content) if isinstance(content, np.ndarray) else path.write_text(content or "")
    assert cli.main(["tune", written(tmp_path, spec), "--queries", str(path)]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("place", "said"), [("db/none", "none"), ("nowhere/things", "no database at")])
def test_what_isnt_there_is_named(place, said, tmp_path, capsys):
    vectordb.open(tmp_path / "db").close()
    assert cli.main(["tune", str(tmp_path / place)]) == 1
    assert said in capsys.readouterr().err


def test_a_field_that_isnt_there_is_named(tmp_path, capsys):
    assert cli.main(["tune", written(tmp_path, Sparse()), "--field", "w"]) == 1
    assert "no vector field 'w'; known: v" in capsys.readouterr().err


def test_ties_by_the_hundred_are_no_lost_hits(tmp_path):
    """Many points of one vector: any ten of them are right, also those that no list of the best keeps."""
    with vectordb.open(tmp_path / "db", maintenance=False) as database:
        things = database.create_collection("things", Schema({"v": Dense(4, metric="dot")}))
        rows = np.repeat(np.eye(4, dtype=np.float32), 400, axis=0)
        # The scan of the truth goes by id, a search by the order of writes: they keep different ones of equal rows.
        things.upsert(ids=[f"{9999 - i}" for i in range(1600)], vectors={"v": rows})
        found = tune.tune(things, count=20)
    judged = [one["recall"]["min"] for one in found["limits"] if one["recall"]]
    assert found["exact"] and judged == [1.0, 1.0, 1.0]  # of 1, 10 and 100 hits
    assert not any("report this" in text for text in tune_report.advice(found, [0.9]))


def test_scores_that_float32_rounds_are_no_lost_hits(tmp_path):
    rng = np.random.default_rng(0)
    with vectordb.open(tmp_path / "db", maintenance=False) as database:
        things = database.create_collection("things", Schema({"v": Dense(64, metric="dot")}))
        rows = rng.standard_normal((400, 64)).astype(np.float32)
        rows[:, 0] = 1000.0  # long vectors whose products nearly cancel out
        rows[:, 1] = np.where(np.arange(400) % 2, 1000.0, -1000.0)
        things.upsert(ids=list(range(400)), vectors={"v": rows})
        asked = tmp_path / "asked.npy"
        queries = rng.standard_normal((20, 64)).astype(np.float32)
        queries[:, 0], queries[:, 1] = 1000.0, 1000.0
        np.save(asked, np.concatenate([queries, queries * [[-1.0] + [1.0] * 63]]))
        found = tune.tune(things, queries=asked, count=40)
    assert all(one["recall"]["min"] == 1.0 for one in found["limits"]), found["limits"]


def contents(folder):
    """Every byte of a directory but those of the lock files, in which LMDB notes who reads."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("lock.mdb", ".lock"))
    }


@pytest.mark.parametrize("words", [("db", "things"), ("db/things",), ("--data", "db", "--collection", "things")])
def test_the_command_writes_nothing(words, tmp_path, capsys, monkeypatch):
    """Enough rows that a directory with maintenance on would be indexed meanwhile."""
    monkeypatch.chdir(tmp_path)
    with vectordb.open(tmp_path / "db", maintenance=False) as database:
        things = database.create_collection("things", Schema({"v": Dense(8)}))
        things.upsert(ids=list(range(12_000)), vectors={"v": np.random.default_rng(0).standard_normal((12_000, 8))})
    before = contents(tmp_path / "db")
    opened = []
    true = vectordb.open
    monkeypatch.setattr(vectordb, "open", lambda *a, **k: opened.append(k) or true(*a, **k))
    assert cli.main(["tune", *words, "--count", "20"]) == 0
    assert contents(tmp_path / "db") == before
    assert opened[0]["maintenance"] is False and "report this" not in capsys.readouterr().out


def test_a_command_line_that_names_no_collection_or_two_is_2(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vectordb.open("db").close()
    for words in ([], ["db"], ["db", "things", "--data", "other"], ["db", "things", "--collection", "other"]):
        assert cli.main(["tune", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
