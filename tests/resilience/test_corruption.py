"""Flipped bytes in data.mdb: answers are correct, or an error names the damage. Nothing is silently wrong.

Chunks and records have checksums, but LMDB's pages have none. A flipped byte in a page may hide points, which ``check`` detects. Rarely it
leads outside of the file and crashes the process, so these cases run in another process.
"""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

import vectordb
from tests.support.worker import Worker
from vectordb import CorruptionError, Dense, Int, Keyword, MultiVector, Schema, Sparse, StorageError, Text, VectorDBError
from vectordb.engine.check import check
from vectordb.storage import chunks

SCHEMA = Schema({"v": Dense(8), "s": Sparse(), "m": MultiVector(4)}, {"k": Keyword(), "n": Int(), "t": Text()})
N = 400


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a sound database whose chunks are larger than a page, and what it answers."""
    path = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(0)
    with vectordb.open(path) as database:
        collection = database.create_collection("c", SCHEMA)
        for first in range(0, N, 100):
            ids = range(first, first + 100)
            collection.upsert(
                ids=ids,
                vectors={
                    "v": rng.standard_normal((100, 8)),
                    "s": [{i % 5: 1.0, 2**63 + i: 0.1} for i in ids],
                    "m": [rng.standard_normal((1 + i % 3, 4)) for i in ids],
                },
                attributes={"k": [f"k{i % 4}" for i in ids], "n": ids, "t": [f"word{i % 7} and more of it" for i in ids]},
            )
        collection.delete(list(range(0, N, 17)))
    return (path / "data.mdb").read_bytes(), questions(path)


def questions(path) -> dict:
    """What the database says; a typed error counts as an answer, with its class and its message."""
    said = {}

    def ask(name, question):
        try:
            said[name] = question()
        except VectorDBError as error:
            said[name] = [type(error).__name__, str(error)]

    def hits(found):
        return [(hit.id, round(hit.score, 4), hit.attributes["n"]) for hit in found]

    ones = np.ones(8, np.float32)
    try:
        database = vectordb.open(path, create=False)
    except VectorDBError as error:
        return {"open": [type(error).__name__, str(error)]}
    try:
        collection = database.collection("c")
        ask("dense", lambda: hits(collection.search({"v": ones}, limit=30)))
        ask("sparse", lambda: hits(collection.search({"s": {1: 1.0, 2: 0.5}}, limit=30)))
        ask("multi", lambda: hits(collection.search({"m": ones.reshape(2, 4)}, limit=30)))
        ask("filtered", lambda: hits(collection.search({"v": ones}, filter="k = 'k1' AND n > 50 AND t MATCH 'word3'", limit=30)))
        ask("get", lambda: [point and (point.id, point.attributes["k"]) for point in collection.get(range(N), with_vectors=True)])
        ask("counts", lambda: [collection.count(f) for f in ("k = 'k1'", "n > 50", "t MATCH PHRASE 'and more'", "NOT n = 3")])
        ask("scroll", lambda: [point.id for point in collection.iterate(page=77)])
    except VectorDBError as error:
        said["collection"] = [type(error).__name__, str(error)]
    finally:
        database.close()
    return json.loads(json.dumps(said))


def is_error(answer) -> bool:
    return len(answer) == 2 and isinstance(answer[0], str) and answer[0].endswith("Error")


def place(path, data: bytes):
    path.mkdir(exist_ok=True)
    (path / "lock.mdb").unlink(missing_ok=True)
    (path / "data.mdb").write_bytes(data)
    return path


def chunk_places(data: bytes) -> list[tuple[int, int]]:
    """(offset, bytes) of what looks like a chunk: stale copies in free pages are among them."""
    magic, found, at = chunks.MAGIC.to_bytes(2, "little") + bytes([chunks.CHUNK_VERSION]), [], 0
    while (at := data.find(magic, at)) >= 0:
        size = chunks.size_in(data[at : at + chunks.HEADER])
        try:
            chunks.decode(data[at : at + size], "")
            found.append((at, size))
        except CorruptionError:
            pass
        at += 3
    return found


def test_a_flipped_byte_in_a_chunk_gives_the_right_answer_or_an_error_that_names_it(sound, tmp_path):
    data, right = sound
    rng = random.Random(5)
    places = chunk_places(data)
    assert len(places) > 15
    named = used = 0
    for start, size in places:
        damaged = bytearray(data)
        at = start + rng.randrange(size)
        damaged[at] ^= 1 << rng.randrange(8)
        path = place(tmp_path / "damaged", bytes(damaged))
        answers = questions(path)
        assert answers.keys() == right.keys()
        for name, answer in answers.items():
            if answer != right[name]:
                assert answer[0] == "CorruptionError" and "chunk collection 1 field " in answer[1], (name, answer)
                named += 1
        used += not check(path).ok
        assert check(path).ok == (answers == right)
    assert used == 9  # one a part of a field; the others are stale
    assert named > used


def test_flips_anywhere_never_raise_an_untyped_error_and_check_sees_what_they_change(sound, tmp_path):
    data, right = sound
    rng = random.Random(11)
    died, changed, worker = 0, 0, Worker()
    try:
        for _ in range(120):
            damaged = bytearray(data)
            for at in rng.sample(range(8192, len(data)), 3):  # after LMDB's two header pages, which name an older state when damaged
                damaged[at] ^= 1 << rng.randrange(8)
            path = place(tmp_path / "damaged", bytes(damaged))
            try:
                answers, sound_still = worker.call(questions_and_check, path)
            except (EOFError, ConnectionResetError):  # SIGBUS or SIGSEGV: a page number of LMDB's that leads out of the file
                died += 1
                worker.close()
                worker = Worker()
                continue
            wrong = {name for name, answer in answers.items() if answer != right.get(name)}
            changed += bool(wrong)
            assert not sound_still or not wrong, (wrong, answers)
    finally:
        worker.close()
    assert changed > 10
    assert died <= 3


def questions_and_check(path):
    answers = questions(path)
    try:
        return answers, check(path).ok
    except VectorDBError:
        return answers, False


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_truncated_file_is_refused_or_answered_by_errors(sound, tmp_path, cut):
    data, _ = sound
    path = place(tmp_path / "cut", data[: int(len(data) * cut) // 4096 * 4096])
    with Worker() as worker:
        try:
            answers = worker.call(questions, path)
        except (EOFError, ConnectionResetError):
            return  # the kernel ends a process that reads a mapped page behind the end of its file
        assert any(map(is_error, answers.values()))


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [("rubbish", b"rubbish." * 2048, CorruptionError), ("zeros", bytes(16384), CorruptionError), ("short", b"x" * 100, StorageError)],
)
def test_what_is_not_lmdb_is_refused_again_and_again_and_left_alone(tmp_path, name, data, error):
    path = place(tmp_path / name, data)
    for _ in range(3):
        with pytest.raises(error) as caught:
            vectordb.open(path)
        assert caught.value.field == "path" and caught.value.value == str(path)
        assert (path / "data.mdb").read_bytes() == data


def test_a_write_beside_damage_neither_spreads_nor_hides_it(sound, tmp_path):
    data, _ = sound
    start, size = max(chunk_places(data), key=lambda found: found[1])
    damaged = bytearray(data)
    damaged[start + size - 1] ^= 1
    path = place(tmp_path / "damaged", bytes(damaged))
    before = check(path).problems
    assert len(before) >= 1
    with vectordb.open(path) as database:
        collection = database.collection("c")
        written = collection.upsert(ids=["new"], vectors={"s": [{1: 9.0}]})
        assert collection.get("new").version == int(written)
    after = check(path).problems
    assert {line.split(" rows ")[0] for line in before} == {line.split(" rows ")[0] for line in after}
