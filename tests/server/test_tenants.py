"""API keys bound to a tenant. Each method of the service is refused to them, or answers as a service that has the tenant's points only."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from vectordb_client import AsyncClient, Client
from vectordb_client.rpc import changes
from vectordb_client.rpc.methods import METHODS
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from tests.support.places import TIMEOUT, serving
from vectordb import (
    AlreadyExistsError,
    Arm,
    Dense,
    Float,
    Int,
    InvalidArgumentError,
    Keyword,
    Like,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    Prefetch,
    Schema,
    Text,
)
from vectordb.cli.main import main
from vectordb.server.access import keys

SCHEMA = Schema(
    {"v": Dense(8), "w": Dense(8)},
    {"owner": Keyword(tenant=True), "color": Keyword(), "n": Int(), "x": Float(), "body": Text()},
)
N = 300
RANDOM = np.random.default_rng(9)
VECTORS = {name: RANDOM.standard_normal((N, 8)).astype(np.float32) for name in ("v", "w")}
COLORS = ["red", "green", "blue", "teal", "grey"]
QUERIES = RANDOM.standard_normal((4, 8)).astype(np.float32)
OWN = [i for i in range(N) if i % 3 == 1]  # the ids of acme's points
OTHER = [i for i in range(N) if i % 3 != 1]
Q = {"v": QUERIES[0]}


def fill(docs, ids) -> None:
    for some in np.array_split(np.array(ids), 3):
        docs.upsert(
            ids=some.tolist(),
            vectors={name: values[some] for name, values in VECTORS.items()},
            attributes={
                "owner": ["acme" if i % 3 == 1 else "zeta" if i % 2 else "Acme" for i in some.tolist()],
                "color": [COLORS[i % 5] for i in some.tolist()],
                "n": [i * 7 % 100 for i in some.tolist()],
                "x": [i / 7 for i in some.tolist()],
                "body": [f"words of {'acme' if i % 3 == 1 else 'others'} number{i}" for i in some.tolist()],
            },
            payload=[{"i": i, "mine": i % 3 == 1} for i in some.tolist()],
        )


def tokens_of(path):
    return {
        "acme": keys.create(path, "write", tenant="acme", vectors=True)[0],
        "blind": keys.create(path, "read", tenant="acme")[0],
        "empty": keys.create(path, "write", tenant="nobody", vectors=True)[0],
        "admin": keys.create(path, "admin", vectors=True)[0],
    }


@pytest.fixture(scope="module")
def read_only(tmp_path_factory):
    """(a client bound to acme of a service with everybody's points, a client of one with acme's points only, the tokens, an address)."""
    folder = tmp_path_factory.mktemp("tenants")
    with vectordb.open(folder / "all", maintenance=False) as every, vectordb.open(folder / "own", maintenance=False) as own:
        for database, ids in ((every, list(range(N))), (own, OWN)):
            docs = database.create_collection("docs", SCHEMA)
            fill(docs, ids)
            docs.delete([i for i in (4, 5, 40, 41) if i in ids])
            database.create_collection("plain", Schema({}, {"n": Int()})).upsert(ids=[1], attributes={"n": [1]})
        tokens = tokens_of(folder / "all" / "keys.json")
        with (
            serving(every) as address,
            serving(own) as other,
            Client(address, api_key=tokens["acme"], timeout=TIMEOUT) as bound,
            Client(other, timeout=TIMEOUT) as alone,
        ):
            yield bound, alone, tokens, address


def shown(hits):
    return [(hit.id, round(hit.score, 5), hit.attributes, hit.payload) for hit in hits]


def pages(docs, **options):
    ids, cursor = [], None
    while True:
        page = docs.search(Q, limit=9, cursor=cursor, with_attributes=False, **options)
        ids += page.ids.tolist()
        if page.next is None:
            return ids
        cursor = page.next


def scrolled(docs, **options):
    ids, cursor = [], None
    while True:
        page = docs.scroll(limit=13, cursor=cursor, **options)
        ids += [point.id for point in page.points]
        cursor = page.cursor
        if cursor is None:
            return ids


SEARCHES = [
    lambda docs: shown(docs.search(Q, limit=200)),
    lambda docs: [shown(docs.search(Q, limit=5, exact=exact)) for exact in (False, True)],
    lambda docs: shown(docs.search(Q, limit=20, filter="color = 'red' OR n > 50")),
    lambda docs: docs.search(Q, limit=7, with_attributes=False).ids.tolist(),
    lambda docs: shown(docs.search({"v": QUERIES[0], "w": QUERIES[1]}, limit=30)),
    lambda docs: shown(docs.search({"v": QUERIES[0], "w": QUERIES[1]}, limit=30, fusion="relative")),
    lambda docs: shown(docs.search({"a": Arm("v", QUERIES[0], filter="n > 20"), "b": ("v", QUERIES[1])}, limit=30)),
    lambda docs: shown(docs.search(Q, prefetch=Prefetch({"w": QUERIES[2]}, limit=15), limit=10)),
    lambda docs: [shown(hits) for hits in docs.search_batch({"v": QUERIES}, limit=12)],
    lambda docs: [shown(hits) for hits in docs.search_batch({"v": QUERIES}, limit=12, filter=["n > 5", None, "color = 'blue'", None])],
    lambda docs: shown(docs.search(Q, limit=50, score="calibrated")),
    lambda docs: shown(docs.search({"v": QUERIES[0], "w": QUERIES[1]}, limit=30, score="calibrated")),
    lambda docs: shown(docs.search({"v": Like([1, 7], unlike=[10])}, limit=20)),
    lambda docs: shown(docs.search({"v": Like([1, 7], context=[(13, 16)])}, limit=20)),
    lambda docs: shown(docs.search(Q, group_by="color", groups=3)),
    lambda docs: docs.search(Q, limit=3, facets=["color", "owner"]).facets,
    lambda docs: shown(docs.search(order_by=["-n", "x"], limit=40)),
    lambda docs: shown(docs.search(Q, limit=20, boost=[vectordb.Value("x")])),
    lambda docs: shown(docs.search(Q, limit=20, diversity=0.4)),
    lambda docs: shown(docs.search(Q, limit=20, min_score=0.1, offset=2)),
    lambda docs: [docs.prepare(limit=9)(Q).ids.tolist() for _ in range(3)],
    pages,
    lambda docs: pages(docs, filter="n < 90"),
]
# Method → calls, of a handle. They must give the same to a bound key as where nobody else's points are.
SAME = {
    "Search": SEARCHES,
    "Get": [
        lambda docs: docs.get(list(range(N)), with_vectors=False),
        lambda docs: [docs.get(1), docs.get(2), docs.get(41), 2 in docs, 1 in docs],
        lambda docs: [point and point.vectors["v"].tolist() for point in docs.get([1, 2, 3, 4, 7], with_vectors=["v"])],
    ],
    "Count": [lambda docs: docs.count(), lambda docs: docs.count("n > 50"), lambda docs: docs.count("owner != 'acme'"), len],
    "Scroll": [
        scrolled,
        lambda docs: scrolled(docs, filter="n > 30"),
        lambda docs: scrolled(docs, order_by=["-x"]),
        lambda docs: [point.id for point in docs],
    ],
    "Facets": [lambda docs: docs.facets(["color", "owner"]), lambda docs: docs.facets("owner", filter="n > 50")],
    "Aggregate": [lambda docs: docs.aggregate({"n": ["count", "min", "max", "mean", "p50"], "owner": ["distinct", "min", "max"]})],
    "Explore": [
        lambda docs: [(id, [other for other, _ in nearest]) for id, nearest in docs.neighbours("v", 4)],
        lambda docs: sorted((one, other) for one, other, _ in docs.duplicates("v", 0.8, filter="n > 20")),
        lambda docs: str(docs.health("v", sample=40)),
        lambda docs: [docs.cluster("v").central, docs.cluster("w", 3, sample=50).labels.tolist()],
        lambda docs: [round(docs.classify("v", "color").accuracy, 6), docs.classify("v", "owner").counts],
        lambda docs: docs.axis("v", [[1.0] * 8, [1.0] * 7 + [2.0]], [[-1.0] * 8, [-1.0] * 7 + [-2.0]]).vector.tolist(),
        lambda docs: docs.probe("v", [[9.0] * 8, [8.0] * 7 + [9]], sample=20).probability(VECTORS["v"][:5]).round(6).tolist(),
    ],
    "DescribeCollection": [lambda docs: docs.schema, lambda docs: docs.info().points],
    "Changes": [
        lambda docs: [change.ids for change in docs.changes(0)],
        lambda docs: [change.points for change in docs.changes(0, with_attributes=True)],
    ],
}
WRITES = {"Write", "Delete", "Transact"}  # below
NO_POINTS = {"ServerInfo", "ListCollections", "ListAliases"}


@pytest.mark.parametrize(("method", "number"), [(method, i) for method, calls in SAME.items() for i in range(len(calls))])
def test_reads_show_what_they_would_show_without_the_points_of_others(read_only, method, number):
    bound, alone, _, _ = read_only
    call = SAME[method][number]
    for _ in range(2):  # the second time from what is kept of the first
        found, expected = call(bound.collection("docs")), call(alone.collection("docs"))
        if method == "Changes":  # each point, in some batch
            found, expected = ([each for some in answer if some for each in some] for answer in (found, expected))
            found, expected = ([getattr(each, "id", each) for each in some] for some in (found, expected))
        elif method == "Get":
            found, expected = ([strip(each) for each in answer] for answer in (found, expected))
        assert found == expected


def strip(point):
    """A point without its version, which is the sequence of the batch."""
    return (point.id, point.attributes, point.payload) if isinstance(point, vectordb.Point) else point


def test_every_method_is_refused_or_tested(read_only):
    """A method with ``tenants: true`` that isn't in the tables above fails here: write its case before it is allowed."""
    bound = read_only[0]
    allowed = {name for name, method in METHODS.items() if method.tenants}
    assert allowed == set(SAME) | WRITES | NO_POINTS
    for name in METHODS.keys() - allowed:
        method = METHODS[name]
        with pytest.raises(PermissionDeniedError, match=r"needs a key without a tenant|needs the role"):
            _raw(bound, name, method.request())
    for name in METHODS.keys() - NO_POINTS - {"Transact"}:  # a collection without tenants may not be used at all
        method = METHODS[name]
        request = method.request(**({method.collection: "plain"} if method.collection else {}))
        with pytest.raises(PermissionDeniedError):
            _raw(bound, name, request)
    step = pb.TransactStep(delete=pb.DeleteRequest(collection="plain", ids=pb.Ids(integers=b"\1" + 7 * b"\0")))
    with pytest.raises(PermissionDeniedError, match="no attribute Keyword"):
        _raw(bound, "Transact", pb.TransactRequest(steps=[step]))


def _raw(client, name, request):
    if METHODS[name].streams:
        return list(client._stream(name, request, changes.Assembly(), TIMEOUT, ends_quietly=False))
    return client._call(name, request, None)


def test_points_of_others_are_no_examples(read_only):
    bound, alone, _, _ = read_only
    for docs in (bound.collection("docs"), alone.collection("docs")):
        for query, options in (({"v": Like([2])}, {}), ({"v": Like([1], unlike=[3])}, {}), ({"a": Arm("v", Like([2]))}, {})):
            with pytest.raises(NotFoundError, match=r"no point with the id [23]"):
                docs.search(query, **options)


def test_a_plan_is_not_shown(read_only):
    with pytest.raises(PermissionDeniedError, match="explain needs an API key without a tenant"):
        read_only[0].collection("docs").search(Q, explain=True)


def test_statistics_of_others_are_not_shown(read_only):
    info = read_only[0].collection("docs").info()
    assert (info.statistics, info.bytes, info.deleted_rows, info.maintenance) == ({}, 0, 0, {})


def test_a_tenant_without_points_and_a_missing_collection(read_only):
    _, _, tokens, address = read_only
    with Client(address, api_key=tokens["empty"]) as client:
        docs = client.collection("docs")
        assert docs.count() == 0 and len(docs.search(Q)) == 0 and docs.get([1, 2]) == [None, None] and list(docs) == []
        with pytest.raises(NotFoundError) as caught:
            client.collection("nothing")
        assert "docs" not in caught.value.message
    with Client(address, api_key=tokens["blind"]) as client:
        with pytest.raises(PermissionDeniedError, match="read vectors"):
            client.collection("docs").get(1, with_vectors=True)
        with pytest.raises(PermissionDeniedError, match="role write"):
            client.collection("docs").delete([1])


def test_an_asyncio_client(read_only):
    _, alone, tokens, address = read_only

    async def ask():
        async with AsyncClient(address, api_key=tokens["acme"]) as client:
            docs = await client.collection("docs")
            return (await docs.search(Q, limit=50)).ids.tolist(), await docs.count(), [each.ids async for each in docs.changes(0)]

    ids, count, batches = asyncio.run(ask())
    docs = alone.collection("docs")
    assert ids == docs.search(Q, limit=50).ids.tolist() and count == docs.count()
    assert {each for some in batches for each in some} <= set(OWN)


# ---- Writes ----


@pytest.fixture
def shared(tmp_path):
    """(handle bound to acme, handle of an administrator, client bound to acme)."""
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        database.create_collection("docs", Schema({}, {"owner": Keyword(tenant=True), "n": Int()}))
        tokens = tokens_of(tmp_path / "data" / "keys.json")
        with (
            serving(database) as address,
            Client(address, api_key=tokens["acme"]) as bound,
            Client(address, api_key=tokens["admin"]) as admin,
        ):
            everything = admin.collection("docs")
            everything.upsert(ids=[1, 2, 3], attributes={"owner": ["acme", "zeta", "zeta"], "n": [1, 2, 3]}, payload=["a", "b", "c"])
            yield bound.collection("docs"), everything, bound


def state(docs):
    return {point.id: (point.attributes.get("owner"), point.attributes.get("n")) for point in docs}


def test_the_tenant_is_filled_in_and_another_one_is_refused(shared):
    bound, everything, _ = shared
    bound.upsert(ids=[1, 10, 11], attributes={"owner": [None, "acme", None], "n": [5, 6, 7]})
    bound.upsert([{"id": 12}])
    assert state(everything) == {1: ("acme", 5), 2: ("zeta", 2), 3: ("zeta", 3), 10: ("acme", 6), 11: ("acme", 7), 12: ("acme", None)}
    before = state(everything)
    for call in (
        lambda: bound.upsert(ids=[20, 21], attributes={"owner": ["acme", "zeta"]}),
        lambda: bound.update(ids=[1], attributes={"owner": ["zeta"]}),
        lambda: bound.update(ids=[1], attributes={"owner": [None]}),
        lambda: bound.update(filter="ALL", attributes={"owner": "zeta"}),
    ):
        with pytest.raises(PermissionDeniedError, match="bound to tenant 'acme'") as caught:
            call()
        assert caught.value.field == "owner"
    assert bound.update(ids=[1], attributes={"owner": ["acme"], "n": [8]}).count == 1
    assert state(everything) == before | {1: ("acme", 8)}


def test_ids_of_others_are_refused_without_their_contents(shared):
    bound, everything, _ = shared
    before = state(everything)
    for options in ({}, {"if_absent": True}, {"if_version": [0, 0]}, {"if_filter": "n = 2"}):
        with pytest.raises(AlreadyExistsError, match="id 2 belongs to another tenant") as caught:
            bound.upsert(ids=[30, 2], attributes={"n": [1, 1]}, **options)
        assert "zeta" not in caught.value.message
    assert state(everything) == before


def test_points_of_others_are_not_there(shared):
    bound, everything, _ = shared
    before = state(everything)
    with pytest.raises(NotFoundError, match="no point 2"):
        bound.update(ids=[1, 2], attributes={"n": [9, 9]})
    with pytest.raises(NotFoundError, match="no point 2"):
        bound.update(ids=[2], increment={"n": 1})
    with pytest.raises(PreconditionError):
        bound.delete([2], if_version=[1])
    assert bound.delete([2, 3, 99]).count == 0 and bound.delete(filter="owner = 'zeta'").count == 0
    assert bound.update(filter="n > 0", payload=None, increment={"n": 0}).count == 1
    assert state(everything) == before
    assert bound.delete(filter="ALL").count == 1
    assert state(everything) == {2: ("zeta", 2), 3: ("zeta", 3)}
    everything.delete([2])
    everything.upsert(ids=[40], attributes={"owner": ["acme"]})
    shown = [(change.kind, change.ids) for change in bound.changes(0)]
    assert [ids for kind, ids in shown if kind == "delete" and ids] == [(1,)] and (40,) in [ids for _, ids in shown]
    assert (2,) in [change.ids for change in everything.changes(0)]


def test_transactions(shared):
    _, everything, client = shared
    with client.transaction() as t:
        t["docs"].upsert(ids=[50], attributes={"n": [1]})
        t["docs"].delete([2, 1])
        t["docs"].update(filter="n < 100", attributes={"n": 4})
    assert [result.count for result in t.results] == [1, 1, 1]
    assert state(everything) == {2: ("zeta", 2), 3: ("zeta", 3), 50: ("acme", 4)}
    for write in (
        lambda each: each.upsert(ids=[3], attributes={"n": [1]}),
        lambda each: each.upsert(ids=[60], attributes={"owner": ["zeta"]}),
        lambda each: each.update(ids=[3], attributes={"n": [1]}),
    ):
        with pytest.raises((AlreadyExistsError, PermissionDeniedError, NotFoundError)), client.transaction() as t:
            t["docs"].upsert(ids=[51], attributes={"n": [1]})
            write(t["docs"])
    assert state(everything) == {2: ("zeta", 2), 3: ("zeta", 3), 50: ("acme", 4)}


def test_a_dropped_tenant_attribute_ends_the_use_of_the_collection(shared):
    bound, everything, _ = shared
    everything.rename_fields({"owner": "whose"})
    assert bound.count() == 1
    everything.drop_fields("whose")
    for call in (bound.count, lambda: bound.get(1), lambda: bound.delete([1]), lambda: list(bound.changes(0))):
        with pytest.raises(PermissionDeniedError, match="no attribute Keyword"):
            call()


def test_a_key_for_all_of_a_tenant_can_not_be_an_administrators(tmp_path):
    with pytest.raises(InvalidArgumentError, match="choose the role read or write"):
        keys.create(tmp_path / "keys.json", "admin", tenant="acme")
    _, key = keys.create(tmp_path / "keys.json", "read", tenant="")
    assert keys.read(tmp_path / "keys.json") == (key,) and key.tenant == ""


def test_the_command_line_makes_and_lists_them(tmp_path, capsys):
    assert main(["keys", "create", str(tmp_path / "data"), "--create", "--role", "write", "--tenant", "acme"]) == 0
    assert "write all collections, tenant 'acme', without vectors" in capsys.readouterr().err
    assert main(["keys", "list", str(tmp_path / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["tenant"] == "acme"
    assert main(["keys", "create", str(tmp_path / "data"), "--role", "admin", "--tenant", "acme"]) != 0
