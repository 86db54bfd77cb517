"""``vectordb bench tune --codes``: what codes keep of the exact results, judged without an index."""

from __future__ import annotations

import json

import numpy as np
import pytest

import vectordb
from bench import cli, codes
from vectordb import Dense, Schema, Sparse

DIM = 16


def clustered(count: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).standard_normal((40, DIM))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 40, count)] + 0.7 * rng.standard_normal((count, DIM))).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_longer_codes_keep_more(metric, monkeypatch):
    """Observed for all metrics: RaBitQ of 8, 4, 2, 1 bits .98, .83, .58, .36 or more."""
    monkeypatch.setattr(codes, "_TRAINED", 900 if metric == "cosine" else 1 << 20)  # with fewer rows there is no product quantisation
    monkeypatch.setattr(codes, "_ROUNDS", 2)
    figures = {one["name"]: one for one in codes.compare(clustered(1_000, 1), clustered(60, 2), metric)}
    bits = [figures[f"RaBitQ, {count} bit{'s' * (count > 1)}"] for count in (8, 4, 2, 1)]
    assert [one["recall"] for one in bits] == sorted((one["recall"] for one in bits), reverse=True)
    assert min(one["recall"] - floor for one, floor in zip(bits, (0.95, 0.78, 0.5, 0.28), strict=True)) >= 0
    assert figures["float16"]["recall"] >= 0.98 and figures["float16"]["bytes"] == 2 * DIM
    levels = [figures[f"recurrent binary, {count} level{'s' * (count > 1)}"]["recall"] for count in (4, 2, 1)]
    assert levels == sorted(levels, reverse=True)
    assert figures["prefix 8, int8"]["bytes"] == 8
    if metric == "cosine":
        assert figures["OPQ, 4 parts (faiss)"]["bytes"] == 4 and figures["PQ, 4 parts (faiss)"]["scanned"] > 0
    for one in figures.values():
        assert 0 < one["recall"] <= one["rescored"][30] <= one["rescored"][100] <= 1 and one["encoded"] > 0
        assert one["entropy"] is None or 0.2 < one["entropy"] <= 1.0001
        assert one["imbalance"] is None or 0.999 <= one["imbalance"] < 6


def test_codes_of_a_collection(tmp_path, capsys):
    with vectordb.open(tmp_path / "db", durability="batched") as database:
        docs = database.create_collection("docs", Schema({"v": Dense(DIM, metric="l2"), "words": Sparse()}))
        docs.upsert(ids=range(400), vectors={"v": clustered(400, 3)})
    out = tmp_path / "codes.json"
    assert run(["tune", str(tmp_path / "db"), "docs", "--codes", "--count", "20", "--json", str(out)]) == 0
    shown, results = capsys.readouterr().out, json.loads(out.read_text())
    assert "RaBitQ, 4 bits" in shown and "rows/µs scanned" in shown
    assert (results["points"], results["rows"], results["queries"], results["metric"]) == (400, 380, 20, "l2")
    assert [one["bytes"] for one in results["codes"]] == sorted((one["bytes"] for one in results["codes"]), reverse=True)
    for options, why in (
        (["--codes", "--field", "words"], "'words' is sparse; pass --field NAME"),
        (["--codes", "--limit", "20"], "--limit is for searches of an index"),
        (["--codes", "--recall", "0.9"], "--recall is for searches of an index"),
        (["--recall", "0.9,x"], "--recall must be numbers separated by commas, such as 0.90,0.95,0.99, not '0.9,x'"),
        (["--codes", "--json", str(tmp_path / "none" / "codes.json")], "there is no directory"),
    ):
        assert run(["tune", str(tmp_path / "db"), "docs", *options]) == 1
        assert why in " ".join(capsys.readouterr().err.split())


def test_too_few_vectors_are_refused():
    with pytest.raises(ValueError, match="at least 20 vectors and one query, but there are 19 and 1"):
        codes.compare(clustered(19, 1), clustered(1, 2), "cosine")


def run(arguments: list[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    cli.add_commands(parser)
    given = parser.parse_args(arguments)
    return given.run(given)
