"""Python functions as encoders: ``vectordb.open(path, encoders={"mine": function})``."""

import numpy as np
import pytest
from vectordb_client import Client

import vectordb
from tests.support.places import serving
from vectordb import Dense, EncoderError, InvalidArgumentError, Schema, Sparse, Text

SCHEMA = Schema({"v": Dense(3, encoder="mine", source="body")}, {"body": Text()})


def letters(texts):
    """How often each text has a, b and c."""
    return [[text.count(letter) for letter in "abc"] for text in texts]


def opened(path=":memory:", function=letters):
    return vectordb.open(path, maintenance=False, encoders={"mine": function})


def filled(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=[1, 2, 3, 4], attributes={"body": ["aab", "bbb", "  ", "xyz"]})
    return docs


def test_it_encodes_documents_and_queries():
    with opened() as database:
        docs = filled(database)
        assert docs.search(text="b", limit=1).ids.tolist() == [2]
        assert docs.get(1, with_vectors=True).vectors["v"].tolist() == [2, 1, 0]
        assert docs.search({"v": [1, 1, 1]}).ids.tolist() == [1, 2]  # neither blank texts nor zeros
        docs.update(ids=[3], attributes={"body": ["c"]})
        assert docs.search(text="cc", limit=1).ids.tolist() == [3]
        assert docs.info().statistics["v"]["encoder"] == "function mine(dim=3)"
        with pytest.raises(InvalidArgumentError, match="text 'zzz' has nothing to encode"):
            docs.search(text="zzz")


def test_documents_and_queries_may_have_functions_of_their_own():
    def query(texts):
        return np.roll(letters(texts), 1, axis=1)

    with opened(function=(letters, query)) as database:
        docs = filled(database)
        assert docs.search(text="a", limit=1).ids.tolist() == [2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda texts: np.ones((len(texts), 4)), r"must return an array of floats \(2, 3\) for 2 texts, not \(2, 4\)"),
        (lambda texts: np.ones(3), r"\(2, 3\) for 2 texts, not \(3,\)"),
        (lambda texts: np.ones((1, 3)), r"not \(1, 3\)"),
        (lambda texts: [[1, 2, 3], [1]], r"must return an array of floats \(2, 3\), not "),
        (lambda texts: [["a"] * 3] * 2, "not of <U1"),
        (lambda texts: np.ones((2, 3), complex), "not of complex128"),
        (lambda texts: [[1, 1, 1], [1, np.nan, 1]], "returned a vector for 'b' that has nan"),
        (lambda texts: [[1, 1, 1], [1, 1e300, 1]], "returned a vector for 'b' that has inf"),
        (lambda texts: [[1, 1, 1], [1, 1e30, 1]], "for 'b' that has the length 1e.30, which is not from 1e-30 to 1e.16"),
        (lambda texts: 1 / 0, "raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_it_returns_is_checked(wrong, message):
    with opened(function=lambda texts: letters(texts) if texts == ["vectordb"] else wrong(texts)) as database:
        docs = database.create_collection("docs", SCHEMA)
        with pytest.raises(EncoderError, match=f"encoder 'mine': the function .*{message}") as caught:
            docs.upsert(ids=[1, 2], attributes={"body": ["a", "b"]})
        assert (caught.value.field, docs.count()) == ("encoder", 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([letters], "encoders must be a dict from names to functions"),
        ({"a b": letters}, "a name in encoders must be letters"),
        ({"bm25": letters}, "'bm25', which is the name of another encoder"),
        ({"mine": 3}, "encoder 'mine' must be a function from texts to vectors"),
        ({"mine": (letters,)}, "encoder 'mine' must be a function"),
    ],
)
def test_what_is_no_function_is_refused(given, message, tmp_path):
    with pytest.raises(InvalidArgumentError, match=message):
        vectordb.open(tmp_path / "new", encoders=given)
    assert not (tmp_path / "new").exists()


def test_the_field_must_fit():
    with opened() as database:
        for field, message in (
            (Dense(4, encoder="mine"), "encoder 'mine' makes 3 dimensions, but the field has 4"),
            (Sparse(encoder="mine"), "makes dense vectors, but the field is sparse"),
            (Dense(3, encoder="mine(dim=3)"), "encoder 'mine' has no option 'dim'; it has no options"),
        ):
            with pytest.raises(EncoderError, match=message):
                database.create_collection("docs", Schema({"v": field}))


def test_without_the_function_texts_are_refused_and_vectors_work(tmp_path):
    with opened(tmp_path) as database:
        filled(database)
    with vectordb.open(tmp_path, maintenance=False) as database:
        docs = database["docs"]
        for call in (lambda: docs.search(text="a"), lambda: docs.upsert(ids=[5], attributes={"body": ["a"]})):
            with pytest.raises(EncoderError, match=r"field 'v' is encoded by the Python function 'mine', which isn't given here") as caught:
                call()
            assert (caught.value.field, caught.value.value) == ("v", "mine")
        assert docs.search({"v": [0, 1, 0]}, limit=1).ids.tolist() == [2]
        docs.upsert(ids=[5], vectors={"v": [[0, 0, 1]]}, attributes={"body": ["a"]})
        assert docs.info().statistics["v"]["encoder"] == "function mine(dim=3)"
        with pytest.raises(EncoderError, match=r"no encoder 'mine'.*vectordb.open\(path, encoders=\{'mine': function\}\)"):
            database.create_collection("more", SCHEMA)
    with opened(tmp_path) as database:
        assert database["docs"].search(text="c", limit=1).ids.tolist() == [5]
    with (
        opened(tmp_path, lambda texts: np.ones((len(texts), 4))) as database,
        pytest.raises(EncoderError, match=r"built with encoder function mine\(dim=3\), but function mine\(dim=4\) is installed"),
    ):
        database["docs"].search(text="c")


def test_a_name_is_of_one_function_in_open_directories(tmp_path):
    with opened(tmp_path / "one"):
        with pytest.raises(InvalidArgumentError, match=r"encoder 'mine' is already another function, given to vectordb\.open"):
            opened(tmp_path / "two", lambda texts: letters(texts))
        with opened(tmp_path / "two") as two:
            filled(two)
    with opened(tmp_path / "two", lambda texts: letters(texts)) as two:  # the other was closed
        assert two["docs"].search(text="b", limit=1).ids.tolist() == [2]
        with opened(tmp_path / "two", lambda texts: letters(["b" for _ in texts])):  # the same directory: the newest
            assert two["docs"].search(text="a", limit=1).ids.tolist() == [2]


def test_a_service_refuses_its_texts(tmp_path):
    with opened(tmp_path) as database:
        filled(database)
    with vectordb.open(tmp_path, maintenance=False) as database, serving(database) as address, Client(address) as client:
        docs = client["docs"]
        for call in (lambda: docs.search(text="a"), lambda: docs.upsert(ids=[5], attributes={"body": ["a"]})):
            with pytest.raises(EncoderError, match=r"the Python function 'mine', .* A service can't call it"):
                call()
        assert docs.search({"v": [0, 1, 0]}, limit=1).ids.tolist() == [2]
        with pytest.raises(EncoderError, match="no encoder 'mine'"):
            client.create_collection("more", SCHEMA)
