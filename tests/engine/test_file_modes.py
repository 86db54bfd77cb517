"""Permissions of created files: only the owner can read them, unless other modes were requested."""

from __future__ import annotations

import os
import stat

import pytest

import vectordb
from tests.support.directories import SCHEMA, put
from vectordb import InvalidArgumentError
from vectordb.cli import main
from vectordb.server.settings import Settings
from vectordb.storage import modes
from vectordb.transfer import import_points, state_file


@pytest.fixture(params=[0o000, 0o022])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def kinds(folder) -> set[tuple[str, str]]:
    """(file or folder, its mode) of all there are."""
    return {
        ("folder" if path.is_dir() else "file", oct(stat.S_IMODE(path.stat().st_mode)))
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink()
    }


def everything(tmp_path, **options) -> None:
    """Whatever a database makes, under ``made``."""
    made = tmp_path / "made"
    with vectordb.open(made / "deep" / "data", maintenance=False, **options) as database:
        c = database.create_collection("c", SCHEMA)
        put(c, 0, 600)
        c.optimize()
        c.delete(list(range(10)))
        database.purge()
        database.snapshot(made / "snapshots" / "one")
        database.snapshot(made / "snapshots" / "archive", archive=True)
        assert (made / "deep" / "data" / "swap.lock").exists() and list((made / "deep" / "data" / "indexes").glob("*.index"))


def test_what_is_made_is_its_owners_alone(tmp_path, umask):
    everything(tmp_path)
    vectordb.restore(tmp_path / "made" / "snapshots" / "archive", tmp_path / "made" / "again")
    assert kinds(tmp_path / "made") == {("folder", "0o700"), ("file", "0o600")}


def test_a_mode_that_is_asked_for_is_less_the_umask(tmp_path, umask):
    everything(tmp_path, file_mode=0o664)
    vectordb.restore(tmp_path / "made" / "snapshots" / "archive", tmp_path / "made" / "again", file_mode=0o664)
    expected = {0o000: {("folder", "0o775"), ("file", "0o664")}, 0o022: {("folder", "0o755"), ("file", "0o644")}}
    assert kinds(tmp_path / "made") - {("folder", "0o700")} <= expected[umask] | {("file", "0o600")}
    data = tmp_path / "made" / "deep" / "data"
    assert kinds(data) == expected[umask] == kinds(tmp_path / "made" / "again")
    assert kinds(tmp_path / "made" / "snapshots") == expected[umask]


def test_files_that_are_there_keep_their_mode_and_new_ones_are_like_the_data(tmp_path):
    path = tmp_path / "data"
    with vectordb.open(path, maintenance=False) as database:
        put(database.create_collection("c", SCHEMA), 0, 600)
    (path / "data.mdb").chmod(0o640)
    (path / "write.lock").chmod(0o666)
    path.chmod(0o755)
    with vectordb.open(path, maintenance=False) as database:
        database.collection("c").optimize()
        database.collection("c").delete([1])
        database.purge()
    seen = {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in path.iterdir()}
    assert (seen["data.mdb"], seen["write.lock"], seen["lock.mdb"], seen["indexes"]) == ("0o640", "0o666", "0o600", "0o750")
    assert {oct(stat.S_IMODE(file.stat().st_mode)) for file in (path / "indexes").glob("*.index")} == {"0o640"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_exports_and_imports_are_private_too(tmp_path, umask, capsys):
    data, out = str(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    with vectordb.open(data, maintenance=False) as database:
        put(database.create_collection("c", SCHEMA), 0, 20)
    for name in ("points.jsonl", "points.csv", "points.jsonl.gz", "points.parquet"):
        words = ["export", "--data", data, "--collection", "c", "--with-vectors", "--out", str(out / name)]
        assert main([*words, "--schema", str(out / f"{name}.json")]) == 0
    assert {mode for kind, mode in kinds(out) if kind == "file"} == {"0o600"}
    (out / "points.csv").chmod(0o644)
    assert main(["export", "--data", data, "--collection", "c", "--force", "--out", str(out / "points.csv")]) == 0
    assert stat.S_IMODE((out / "points.csv").stat().st_mode) == 0o644
    (out / "bad.jsonl").write_text('{"id": 1, "n": "x"}\n')
    words = ["import", str(out / "points.jsonl"), "--data", str(tmp_path / "new"), "--collection", "c", "--create", "--file-mode", "640"]
    assert main([*words, "--schema", str(out / "points.jsonl.json"), "--rejects", str(out / "rejects")]) == 0
    assert stat.S_IMODE((out / "rejects").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new" / "data.mdb").stat().st_mode) == 0o640


def test_the_place_of_an_import_is_private(tmp_path, umask):
    source = tmp_path / "points.jsonl"
    source.write_text("".join(f'{{"id": {i}, "vectors": {{"v": [1, 1, 1, 1]}}}}\n' for i in range(2500)) + "no JSON\n")
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        state = state_file(tmp_path / "data", "c", source)
        with pytest.raises(InvalidArgumentError):
            import_points(database.create_collection("c", SCHEMA), source, state=state)
    assert kinds(tmp_path / "data" / "imports") == {("folder", "0o700"), ("file", "0o600")}


@pytest.mark.parametrize("mode", [600, 0o400, 0o700, 0o1600, -1, True, "600", 0.5])
def test_a_mode_that_is_none_is_refused_by_name(tmp_path, mode):
    for call in (
        lambda: vectordb.open(tmp_path / "data", file_mode=mode),
        lambda: vectordb.restore(tmp_path / "a", tmp_path / "b", file_mode=mode),
    ):
        with pytest.raises(InvalidArgumentError, match=r"file_mode must be (between|an octal)") as caught:
            call()
        assert caught.value.field == "file_mode"
    assert list(tmp_path.iterdir()) == []


def test_a_service_has_the_setting(tmp_path):
    assert Settings().mode is None and Settings(file_mode="640").mode == 0o640
    for wrong in ("8", "rw", "0o1000", "400", "777"):
        with pytest.raises(InvalidArgumentError, match=r"file_mode must be (between|an octal)"):
            Settings(file_mode=wrong)


def test_folders_may_be_entered_by_who_may_read_the_files():
    assert [oct(modes.folder_mode(mode)) for mode in (0o600, 0o640, 0o644, 0o660, 0o620)] == ["0o700", "0o750", "0o755", "0o770", "0o720"]
