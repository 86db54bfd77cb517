"""``vectordb demo --concepts``: what it shows, and what it leaves behind. Nothing in it depends on speed."""

from __future__ import annotations

import pytest
from vectordb_client.errors import AlreadyExistsError, EncoderError

import vectordb
from vectordb import cli
from vectordb.demo import concepts, show


def test_concepts_are_found_steered_by_and_migrated(tmp_path, capsys):
    pytest.importorskip("wordllama")
    assert cli.main(["demo", str(tmp_path / "data"), "--concepts", "--limit-points", "600"]) == 0
    out = capsys.readouterr().out
    assert "600 docstrings embedded and stored" in out and f"{concepts.HIDDEN} concepts fitted to" in out
    listed = out.split('collection.fit("concepts")')[1].split("A search steered")[0].splitlines()
    assert len([line for line in listed if line[:6].strip().isdigit()]) == concepts.SHOWN
    before, after = out.split("collection.search(text=")[1:3]
    assert "steer={" in after and before.splitlines()[1] != after.splitlines()[1]  # other points are found
    assert "600 docstrings have the concept" in out and "searches answered by vectors of wordllama(dim=64) meanwhile" in out
    assert "now vectors of wordllama(dim=256) answer" in out and "Done" in out
    assert "\x1b" not in out and max(map(len, out.splitlines())) <= show.WIDTH
    with vectordb.open(tmp_path / "data", create=False) as database:
        docs = database["concepts"]
        assert docs.schema.vectors["text"].dim == 256 and docs.count() == 600
    with pytest.raises(AlreadyExistsError, match="has a collection 'concepts' already; name another directory, or delete it"):
        concepts.run(tmp_path / "data")


def test_it_needs_the_encoder(tmp_path, monkeypatch):
    def load(spec):
        raise EncoderError("encoder 'wordllama' needs the wordllama package")

    monkeypatch.setattr(concepts, "load", load)
    with pytest.raises(EncoderError, match="needs the wordllama package"):
        concepts.run(tmp_path / "data")
    assert not (tmp_path / "data").exists()
