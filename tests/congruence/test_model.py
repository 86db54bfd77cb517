"""Random schemas and operations against the model of ``reference``: here, in a second process and through a service; with reopening.

Scores must agree with float64 sums within ``reference.TOLERANCE``. The hits must be the best ones, except for ties within this tolerance.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import tempfile
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from vectordb_client import Client
from vectordb_client.model import filter_nodes as f

import vectordb
from tests.support import filter_model
from tests.support.nightly import cases
from tests.support.places import TIMEOUT, serving
from tests.support.reference import Model, Stored, check_ranking, stored_vector, tolerance
from tests.support.worker import Worker
from vectordb import Dense, MultiVector, NotFoundError, PreconditionError, Prefetch, Schema, Sparse
from vectordb.engine.check import check

IDS = [*filter_model.IDS, *range(100, 130), 2**64 - 1, "b", "é", "z" * 480]
FIELDS = ["vec", "vec2", "vec3"]  # filters of filter_model ask for the first two
NAMES = list(filter_model.SCHEMA.attributes)
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # without shrinking, which would take as long again for each step
METHODS = ["rrf", "relative", "dbsf", "linear"]
TERMS = [0, 1, 2, 7, 1000, 2**64 - 1]
NUMBERS = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 0.5, -0.25, 1.5, 100.0]
PAYLOADS = [None, True, 0, -9, "", "é", [], [1, [None]], {"a": {"b": [1.5]}}]
# The values that filters of filter_model ask for, and others.
VALUES = {
    "kw": ["", "a", "ab", "abc", "b", "a*c", "[a]", "é'\"`\\", "k" * 480],
    "n": [*range(-4, 7), -(2**63), 2**63 - 1],
    "x": [-1.5, -0.0, 0.0, 1.0, 2.5, math.nextafter(2.5, 3), math.nextafter(2.5, 2), 5e-324, 1.7976931348623157e308],
    "ok": [True, False],
    "at": [datetime(2024, 1, day, 12, 30, 0, micro, UTC) for day in (1, 2) for micro in (0, 1)] + ["1969-12-31T23:00:00-02:30"],
    "body": ["", "red", "Fox", "the red dog-fox", "fox red the the", "red the", "…", "the\tRED\nthe"],
    "u": [uuid.UUID(int=n) for n in (1, 2, 2**100)],
    "place": [(lat, lon) for lat in (-90.0, -10.0, 0.0, 52.5) for lon in (-180.0, -170.0, 0.0, 13.4, 179.0, 180.0)],
}
seeds = st.integers(0, 2**32 - 1).map(random.Random)  # what a step writes or asks is drawn from one number: Hypothesis keeps it all
specs = st.one_of(
    st.builds(Dense, st.integers(1, 9), st.sampled_from(["cosine", "dot", "l2"]), st.sampled_from(["float32", "float16"])),
    st.builds(Sparse, st.sampled_from([None, "idf"])),
    st.builds(
        MultiVector,
        st.integers(1, 5),
        st.sampled_from(["cosine", "dot"]),
        st.sampled_from(["float32", "float16"]),
        st.sampled_from(["maxsim", "max"]),
    ),
)


def vector_of(rng, spec):
    if isinstance(spec, Sparse):
        return {term: rng.choice(NUMBERS) for term in rng.sample(TERMS, rng.randrange(5))}
    if isinstance(spec, MultiVector):
        return np.array([row_of(rng, spec) for _ in range(rng.randint(1, 3))], np.float32)
    return np.array(row_of(rng, spec), np.float32)


def row_of(rng, spec):
    row = [rng.choice(NUMBERS) for _ in range(spec.dim)]
    return row if spec.metric != "cosine" or any(row) else [1.0] * spec.dim


def value_of(rng, name):
    if filter_model.SCHEMA.attributes[name].array:
        return [rng.choice(VALUES[name.removesuffix("s")]) for _ in range(rng.randrange(4))]
    return rng.choice(VALUES[name])


_open: dict[str, vectordb.Database] = {}


def elsewhere(path: str, method: str, arguments: dict):
    """A method of the collection, called in the other process; ``close`` closes its database."""
    if method == "close":
        if path in _open:
            _open.pop(path).close()
        return None
    if path not in _open:
        _open[path] = vectordb.open(path, durability="batched", create=False)
    return getattr(_open[path].collection("c"), method)(**arguments)


class Remote:
    """The collection as the other process has it."""

    def __init__(self, worker: Worker, path: str):
        self._worker, self._path = worker, path

    def __getattr__(self, method):
        return lambda **arguments: self._worker.call(elsewhere, self._path, method, arguments)


class Machine(RuleBasedStateMachine):
    worker: Worker
    filters = Bundle("filters")

    def __init__(self):
        super().__init__()
        self.path = tempfile.mkdtemp(prefix="vectordb-model-")
        self.service = contextlib.ExitStack()
        self.opened = None

    @initialize(vectors=st.lists(specs, min_size=1, max_size=3), rng=seeds)
    def create(self, vectors, rng):
        attributes = NAMES if rng.random() < 0.6 else rng.sample(NAMES, rng.randrange(len(NAMES)))
        schema = Schema(dict(zip(FIELDS, vectors, strict=False)), {name: filter_model.SCHEMA.attributes[name] for name in attributes})
        self.open()
        # Made first: its last keys and the chunks of "c" are neighbours then, on one page.
        self.other = self.database.create_collection("other", Schema({"v": Dense(2)}, {"k": vectordb.Keyword()}))
        self.database.create_collection("c", schema)
        self.model = Model(schema)
        self.open_collection()
        self.apply(rng, "upsert", rng.sample(IDS, rng.choice([5, len(IDS)])))

    def open(self):
        self.database = vectordb.open(self.path, durability="batched")

    def open_collection(self):
        self.here = self.database.collection("c")
        self.there = Remote(self.worker, self.path)
        address = self.service.enter_context(serving(self.database))
        self.served = self.service.enter_context(Client(address, timeout=TIMEOUT)).collection("c")

    def teardown(self):
        try:
            self.worker.call(elsewhere, self.path, "close", {})
            self.service.close()
            if hasattr(self, "database"):
                self.database.close()
                assert check(self.path).problems == ()
        finally:
            shutil.rmtree(self.path)

    def side(self, rng):
        """The collection as one of its users has it."""
        return rng.choices([self.here, self.there, self.served], [6, 2, 2])[0]

    # Writing

    def write(self, rng, kind, ids):
        """Draw a batch for the ids; returns (arguments, what it makes of each point)."""
        schema, model = self.model.schema, self.model
        points = {}
        for i in ids:
            old = model.points[i] if kind == "update" else Stored()
            points[i] = Stored(dict(old.vectors), dict(old.attributes), old.payload)
        rows = [{"id": i} for i in ids]
        columns = {"ids": list(ids), "vectors": {}, "attributes": {}}
        for name, spec in schema.vectors.items():
            if rng.random() < 0.15:
                continue
            full = rng.random() < 0.5
            column = [vector_of(rng, spec) if full or rng.random() < 0.7 else None for _ in ids]
            for i, row, value in zip(ids, rows, column, strict=True):
                row.setdefault("vectors", {})[name] = value
                points[i].vectors.pop(name, None)
                if value is not None:
                    points[i].vectors[name] = stored_vector(spec, value)
            columns["vectors"][name] = self.as_array(rng, spec, column) if full and ids else column
        for name, spec in schema.attributes.items():
            if rng.random() < 0.3:
                continue
            column = [value_of(rng, name) if rng.random() < 0.8 else None for _ in ids]
            columns["attributes"][name] = column
            for i, row, value in zip(ids, rows, column, strict=True):
                row.setdefault("attributes", {})[name] = value
                points[i].attributes.pop(name, None)
                if value is not None:
                    points[i].attributes[name] = spec.coerce(name, value)
        if rng.random() < 0.5:
            columns["payload"] = [rng.choice(PAYLOADS) for _ in ids]
            for i, row, value in zip(ids, rows, columns["payload"], strict=True):
                row["payload"] = points[i].payload = value
        return {"points": rows} if rng.random() < 0.5 else columns, points

    @staticmethod
    def as_array(rng, spec, column):
        """A whole column in another form that users may give."""
        if rng.random() < 0.3:
            return column
        if isinstance(spec, Dense):
            return np.array(column)
        if isinstance(spec, Sparse):
            return [(np.array(list(v), np.uint64), np.array(list(v.values()), np.float32)) for v in column]
        return column

    @rule(rng=seeds)
    def upsert(self, rng):
        self.apply(rng, "upsert", rng.sample(IDS, rng.choice([0, 1, 2, 10])))

    @rule(rng=seeds)
    def update(self, rng):
        there = list(self.model.points)
        self.apply(rng, "update", rng.sample(there, min(len(there), rng.choice([1, 3, 12]))))

    @rule(rng=seeds, node=filter_model.filters)
    def upsert_if(self, rng, node):
        there = list(self.model.points)
        self.apply(rng, rng.choice(["upsert", "update"]), rng.sample(there, min(len(there), 2)), node)

    def apply(self, rng, kind, ids, condition=None):
        arguments, points = self.write(rng, kind, ids)
        model, fails = self.model, None
        if condition is not None:
            arguments["if_filter"] = condition
            if self.unknown(condition):
                return
            fails = None if set(ids) <= model.matches(condition) else PreconditionError
        elif ids and rng.random() < 0.3:
            versions = [model.points[i].version if i in model.points else 0 for i in ids]
            if rng.random() < 0.5:
                versions[rng.randrange(len(ids))] += rng.randint(1, 3)
                fails = PreconditionError
            arguments["if_version"] = dict(zip(ids, versions, strict=True)) if rng.random() < 0.5 else versions
        side = self.side(rng)
        if fails is not None:
            with pytest.raises(fails):
                getattr(side, kind)(**arguments)
            return
        result = getattr(side, kind)(**arguments)
        model.sequence += bool(ids)
        assert (int(result), result.count) == (model.sequence, len(ids))
        model.rows += len(ids)
        for i, point in points.items():
            point.version = model.sequence
            model.points[i] = point

    @rule(rng=seeds)
    def update_of_a_missing_point_changes_nothing(self, rng):
        ids = rng.sample(IDS, 3)
        if not set(ids) <= set(self.model.points):
            with pytest.raises(NotFoundError):
                self.side(rng).update(ids=ids, payload=[{"wrong": True}] * len(ids))

    @rule(rng=seeds)
    def delete(self, rng):
        ids = rng.sample(IDS, rng.randrange(4))
        gone = [i for i in ids if i in self.model.points]
        self.deleted(self.side(rng).delete(ids=ids), gone)

    @rule(rng=seeds, node=filter_model.filters)
    def delete_by_filter(self, rng, node):
        side = self.side(rng)
        if self.unknown(node):
            return
        gone = self.model.matches(node)
        if len(gone) <= len(self.model.points) // 2:  # never all: there must be something to search
            self.deleted(side.delete(filter=node), gone)

    def deleted(self, result, gone):
        self.model.sequence += bool(gone)
        assert (int(result), result.count) == (self.model.sequence, len(gone))
        for i in gone:
            del self.model.points[i]

    @rule(rng=seeds, spec=specs)
    def add_fields(self, rng, spec):
        schema = self.model.schema
        vectors = dict.fromkeys(FIELDS[len(schema.vectors) :][:1], spec)
        missing = [name for name in filter_model.SCHEMA.attributes if name not in schema.attributes]
        chosen = rng.sample(missing, rng.randint(0, len(missing)))
        if vectors or chosen:
            attributes = {name: filter_model.SCHEMA.attributes[name] for name in chosen}
            self.side(rng).add_fields(vectors=vectors, attributes=attributes)
            self.model.schema = schema.with_fields(vectors, attributes)
            self.model.sequence += 1

    @rule(n=st.integers(1, 30))
    def write_to_another_collection(self, n):
        """Pages are shared by collections, and are used again by other writes."""
        for i in range(n):
            self.other.upsert(ids=[i], vectors={"v": [[1, i]]}, attributes={"k": ["k" * i]})

    @rule()
    def reopen(self):
        self.service.close()
        self.database.close()
        self.open()
        self.other = self.database.collection("other")
        self.open_collection()

    # Reading

    def unknown(self, node):
        """Whether the filter names what the schema lacks (yet). That is a key of the payload, or taken for a misspelt attribute."""
        return not set(_named(node)) <= {*self.model.schema.vectors, *self.model.schema.attributes}

    @rule(target=filters, node=filter_model.filters)
    def keep_filter(self, node):
        """Asked again later, when its bitmaps are remembered."""
        return node

    @rule(rng=seeds, node=st.none() | filter_model.filters | filters, limit=st.integers(1, 50), queries=st.integers(1, 3))
    def search(self, rng, node, limit, queries):
        side, model = self.side(rng), self.model
        name = rng.choice(list(model.schema.vectors))
        spec = model.schema.vectors[name]
        asked = [vector_of(rng, spec) for _ in range(queries)]
        options = {"filter": node, "limit": limit}
        if node is not None and self.unknown(node):
            return
        alone = [side.search(vectors={name: query}, **options) for query in asked]
        for query, hits in zip(asked, alone, strict=True):
            model.check_hits(hits, name, query, node, limit)
            for hit in hits:
                assert hit.attributes == model.attributes(hit.id)
                assert hit.payload == model.points[hit.id].payload
        together = side.search_batch(vectors={name: asked}, **options)
        assert [list(hits) for hits in together] == [list(hits) for hits in alone]

    @precondition(lambda self: len(self.model.schema.vectors) > 1)
    @rule(rng=seeds, node=st.none() | filter_model.filters, limit=st.integers(1, 50), fusion=st.sampled_from(METHODS))
    def search_with_several_arms(self, rng, node, limit, fusion):
        if node is not None and self.unknown(node):
            return
        model, names = self.model, list(self.model.schema.vectors)[:2]
        asked = {name: vector_of(rng, model.schema.vectors[name]) for name in names}
        hits = self.side(rng).search(vectors=asked, filter=node, limit=limit, fusion=fusion, with_vectors=names)
        scores = {name: model.scores(name, query, node) for name, query in asked.items()}
        union = set().union(*scores.values())
        far = [name for name in names if getattr(model.schema.vectors[name], "metric", "") == "l2"]
        if fusion == "linear":  # without a distance there is no sum
            union = union.intersection(*(scores[name] for name in far))
            self.check_sums(hits, scores, far, union, limit)
        assert len(hits) == min(limit, len(union))
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for hit in hits:
            assert hit.id in union
            assert hit.score == pytest.approx(sum(arm.contribution for arm in hit.arms.values()))
            for name, arm in hit.arms.items():
                assert (arm.rank is None) == (hit.id not in scores[name])  # every match is a candidate here
                if arm.rank is not None:
                    expected, size = scores[name][hit.id]
                    assert abs(arm.score - expected) <= tolerance(size)
            self.same_vectors(hit.vectors, hit.id, names)
        for name in names:
            ranked = [(hit.arms[name].rank, hit) for hit in hits if hit.arms[name].rank is not None]
            assert len({rank for rank, _ in ranked}) == len(ranked)
            if len(hits) == len(union):
                lower = getattr(model.schema.vectors[name], "metric", "") == "l2"
                whole = [SimpleNamespace(id=hit.id, score=hit.arms[name].score) for _, hit in sorted(ranked, key=lambda pair: pair[0])]
                check_ranking(whole, scores[name], len(whole), lower)

    @staticmethod
    def check_sums(hits, scores, far, union, limit):
        """Linear fusion: the scores added up, −d² for an l2 field."""
        sums = {}
        for i in union:
            parts = [(-said[i][0] if name in far else said[i][0], said[i][1]) for name, said in scores.items() if i in said]
            sums[i] = sum(value for value, _ in parts), sum(size for _, size in parts)
        check_ranking(list(hits), sums, limit, lower=False)

    @precondition(lambda self: len(self.model.schema.vectors) > 1)
    @rule(rng=seeds, node=st.none() | filter_model.filters, limit=st.integers(1, 9), before=st.integers(1, 30))
    def search_in_stages(self, rng, node, limit, before):
        if node is not None and self.unknown(node):
            return
        model, (first, second) = self.model, list(self.model.schema.vectors)[:2]
        asked = {name: vector_of(rng, model.schema.vectors[name]) for name in (first, second)}
        side, options = self.side(rng), {"filter": node}
        candidates = side.search(vectors={first: asked[first]}, limit=before, **options)
        stage = Prefetch({first: asked[first]}, limit=before)
        hits = side.search(vectors={second: asked[second]}, prefetch=stage, limit=limit, **options)
        scores = model.scores(second, asked[second], node)
        lower = getattr(model.schema.vectors[second], "metric", "") == "l2"
        check_ranking(list(hits), {hit.id: scores[hit.id] for hit in candidates if hit.id in scores}, limit, lower)

    def same_vectors(self, given, i, names):
        kept = self.model.points[i].vectors
        assert set(given) == set(kept) & set(names)
        for name, vector in given.items():
            if isinstance(self.model.schema.vectors[name], Sparse):
                assert dict(zip(vector[0].tolist(), vector[1].tolist(), strict=True)) == kept[name]
            else:
                assert vector.dtype == kept[name].dtype
                np.testing.assert_array_equal(vector, kept[name])

    @rule(rng=seeds)
    def get(self, rng):
        ids = rng.choices(IDS, k=rng.randrange(9))
        names = list(self.model.schema.vectors)
        points = self.side(rng).get(ids=ids, with_vectors=True)
        for i, point in zip(ids, points, strict=True):
            assert (point is None) == (i not in self.model.points)
            if point is not None:
                kept = self.model.points[i]
                assert (type(point.id), point.id) == (type(i), i)
                assert (point.version, point.payload, point.attributes) == (kept.version, kept.payload, self.model.attributes(i))
                self.same_vectors(point.vectors, i, names)

    @rule(rng=seeds, node=st.none() | filter_model.filters | filters)
    def count(self, rng, node):
        side = self.side(rng)
        if node is None or not self.unknown(node):
            assert side.count(filter=node) == len(self.model.matches(node))

    @rule(rng=seeds, node=st.none() | filter_model.filters, page=st.integers(1, 7))
    def scroll(self, rng, node, page):
        if node is not None and self.unknown(node):
            return
        side, found, cursor = self.side(rng), [], None
        while True:
            answer = side.scroll(filter=node, limit=page, cursor=cursor)
            found.extend(answer)
            cursor = answer.cursor
            if cursor is None:
                break
            assert len(answer) == page
        assert [point.id for point in found] == self.model.in_order(self.model.matches(node))
        assert all(point.attributes == self.model.attributes(point.id) for point in found)

    @invariant()
    def the_counts_are_right(self):
        if hasattr(self, "model"):
            info = self.here.info()
            model = self.model
            assert (info.points, info.sequence, info.deleted_rows) == (len(model.points), model.sequence, model.rows - len(model.points))
            assert info.schema == model.schema


def _named(node):
    """Fields that a filter names."""
    if hasattr(node, "children"):
        for child in node.children:
            yield from _named(child)
    elif isinstance(node, f.Not):
        yield from _named(node.child)
    elif hasattr(node, "field"):
        yield node.field


def test_every_answer_is_the_models(worker):
    Machine.worker = worker
    examples = int(os.environ.get("VECTORDB_MODEL_EXAMPLES", cases(30, 600)))
    run_state_machine_as_test(Machine, settings=settings(max_examples=examples, stateful_step_count=40, phases=PHASES))
