"""One flipped bit in any file of a directory: answers stay correct, or an error names the damage. No process crashes.

Every case runs in another process. Bits are drawn evenly from several kinds of places, because most of a file is vectors, which have
checksums.
"""

from __future__ import annotations

import collections
import json
import random
import shutil
import struct

import numpy as np
import pytest

import vectordb
from tests.resilience.test_corruption import SCHEMA, is_error
from tests.support.nightly import cases, record
from tests.support.upkeep import hurry, until
from tests.support.worker import Worker
from vectordb import CorruptionError, VectorDBError
from vectordb.engine.check import check
from vectordb.storage import format

FLIPS = cases(60, 3_000)
PAGE = 4_096
N = 500


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A directory with index files, a tree of three levels, free pages, and what it answers with and without its index files."""
    path = tmp_path_factory.mktemp("sound") / "data"
    rng = np.random.default_rng(0)
    with vectordb.open(path, maintenance=False) as database, pytest.MonkeyPatch.context() as patch:
        c = database.create_collection("c", SCHEMA)
        for first in range(0, N, 100):
            ids = range(first, first + 100)
            c.upsert(
                ids=[f"{i:03}" + "x" * 200 for i in ids],
                vectors={
                    "v": rng.standard_normal((100, 8)),
                    "s": [{i % 5: 1.0, 2**63 + i: 0.1} for i in ids],
                    "m": [rng.standard_normal((1 + i % 3, 4)) for i in ids],
                },
                attributes={"k": [f"k{i % 4}" for i in ids], "n": ids, "t": [f"word{i % 7} and more of {i}" for i in ids]},
            )
        c.delete([f"{i:03}" + "x" * 200 for i in range(0, N, 17)])
        hurry(patch)
        c.optimize()
        c.upsert(ids=["new"], vectors={"v": rng.standard_normal((1, 8))}, attributes={"n": [N]})
    bare = path.with_name("bare")
    shutil.copytree(path, bare)
    shutil.rmtree(bare / "indexes")
    answers = []
    for directory in (path, bare):
        copy = path.with_name("copy")
        shutil.copytree(directory, copy)
        answers.append((asked(copy), asked(copy)))
        shutil.rmtree(copy)
    return path, *answers


def asked(path) -> dict:
    """What a directory answers; a typed error counts as an answer, with its class and its message."""
    said = {}

    def ask(name, question):
        try:
            said[name] = question()
        except VectorDBError as error:
            said[name] = [type(error).__name__, str(error)]

    def hits(query, **more):
        return lambda: [(hit.id, round(hit.score, 4), hit.attributes["n"]) for hit in c.search(query, limit=30, **more)]

    ones = np.ones(8, np.float32)
    try:
        database = vectordb.open(path, create=False, maintenance=False)
    except VectorDBError as error:
        return {"open": [type(error).__name__, str(error)]}
    try:
        c = database.collection("c")
        c.search({"v": ones})
        c.search({"s": {1: 1.0}})
        until(database.directory.index_files.verified)  # before that, damage of an index may cost recall
        ask("dense", hits({"v": ones}))
        ask("sparse", hits({"s": {1: 1.0, 2: 0.5}}))
        ask("multi", hits({"m": ones.reshape(2, 4)}))
        ask("filtered", hits({"v": ones}, filter="k = 'k1' AND n > 50 AND t MATCH 'word3'"))
        ids = [f"{i:03}" + "x" * 200 for i in range(N)]
        ask("get", lambda: [point and (point.id, point.attributes["k"]) for point in c.get(ids, with_vectors=True)])
        ask("counts", lambda: [c.count(f) for f in ("k = 'k1'", "n > 50", "t MATCH PHRASE 'and more'", "NOT n = 3", None)])
        ask("scroll", lambda: [point.id for point in c.iterate(page=77)])
        ask("write", lambda: [c.upsert(ids=["later"], attributes={"n": [1]}).count])
        if not is_error(said["write"]):
            ask("written", lambda: [c.get("later").attributes["n"], c.count()])
    except VectorDBError as error:
        said["collection"] = [type(error).__name__, str(error)]
    finally:
        database.close()
    return json.loads(json.dumps(said))


def asked_again(path):
    """Twice: what is written beside damage must not spread it."""
    try:
        sound = check(path).ok
    except VectorDBError:
        sound = False
    return asked(path), asked(path), sound


def places(path) -> dict[str, list[tuple[str, int, int]]]:
    """Kind of place → ranges (file, start, end)."""
    found = collections.defaultdict(list)
    data = (path / "data.mdb").read_bytes()
    at = 0
    while at < len(data):
        flags, many = struct.unpack_from("<HI", data, at + 10)
        span = PAGE * (many if flags == 4 and 0 < many <= (len(data) - at) // PAGE else 1)
        kind = "first pages" if at < 2 * PAGE else {1: "branch pages", 2: "leaf pages"}.get(flags, "large values")
        if kind == "first pages":
            found[kind].append(("data.mdb", at, at + 160))  # what LMDB uses of them
        else:
            found[kind].append(("data.mdb", at, at + span))
        at += span
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != "data.mdb" and file.stat().st_size:
            found["index files" if file.suffix == ".index" else "lock files"].append((str(file.relative_to(path)), 0, file.stat().st_size))
    return found


def test_one_flipped_bit_is_noticed_or_does_no_harm(sound, tmp_path):
    path, right, exact = sound
    assert not any(is_error(answer) for said in (*right, *exact) for answer in said.values())
    kinds = places(path)
    assert kinds.keys() == {"first pages", "branch pages", "leaf pages", "large values", "index files", "lock files"}
    rng, seen, worker = random.Random(7), collections.Counter(), Worker()
    try:
        for case in range(FLIPS):
            kind = sorted(kinds)[case % len(kinds)]
            file, start, end = rng.choices(kinds[kind], [end - start for _, start, end in kinds[kind]])[0]
            at, bit = rng.randrange(start, end), rng.randrange(8)
            damaged = tmp_path / "damaged"
            shutil.rmtree(damaged, ignore_errors=True)
            shutil.copytree(path, damaged)
            content = bytearray((damaged / file).read_bytes())
            content[at] ^= 1 << bit
            (damaged / file).write_bytes(content)
            where = f"bit {bit} of byte {at} of {file}, {kind}"
            try:
                first, second, clean = worker.call(asked_again, damaged)
            except (EOFError, ConnectionResetError):
                pytest.fail(f"{where}: the process ended")
            wrong = [
                name
                for turn, said in enumerate((first, second))
                for name, answer in said.items()
                if not is_error(answer) and answer not in [given[t][name] for given in (right, exact) for t in range(turn + 1)]
            ]
            assert not wrong, (where, wrong, first, second)
            errors = sum(map(is_error, first.values()))
            assert not clean or not errors, (where, first)
            seen["refused" if "open" in first else "some answers are errors" if errors else "harmless"] += 1
            seen[f"flips in {kind}"] += 1
    finally:
        worker.close()
    record("bit_flips", flips=FLIPS, **seen)
    assert seen["refused"] > FLIPS // 10 and seen["harmless"] > FLIPS // 10


@pytest.mark.parametrize("missing", ["record", "digest"])
def test_records_that_are_missing_or_changed_are_refused_unless_salvaged(sound, tmp_path, missing):
    """Well-formed pages, other records: only the digest can tell."""
    path, right, _ = sound
    damaged = tmp_path / "damaged"
    shutil.copytree(path, damaged)
    with vectordb.open(damaged) as database:
        key = format.id_key(1, "new") if missing == "record" else format.DIGEST_KEY
        database.directory.env.write(lambda txn: txn._txn.delete(key), "commit", 10.0)
    with pytest.raises(CorruptionError, match="damaged") as caught:
        vectordb.open(damaged)
    assert (caught.value.field, caught.value.value) == ("path", str(damaged))
    assert not check(damaged).ok
    with vectordb.open(damaged, salvage=True) as database:
        c = database.collection("c")
        assert len(list(c.iterate())) == len(right[0]["scroll"]) - (missing == "record")
        with pytest.raises(CorruptionError, match="is damaged, so writes are refused"):
            c.delete(["001"])
        with pytest.raises(CorruptionError):
            vectordb.open(damaged)
