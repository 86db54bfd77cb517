"""``diversity``: maximal marginal relevance, equal to its formula, embedded, with a ``Client`` and with an ``AsyncClient``."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import Diversity, InvalidArgumentError, Prefetch, SchemaError

QUERY = [0.3, -1, 0.5, 0, 1, 0.25, 0, 1]
FAR = [1.0, 0, -1, 0.5]


def oracle(hits, field, weight, limit, sign=1.0):
    """The ids that the formula takes, one at a time."""
    scores = np.array([sign * hit.score for hit in hits])
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    vectors = [np.asarray(hit.vectors[field], np.float64) if field in hit.vectors else None for hit in hits]

    def cosine(a, b):
        return 0.0 if a is None or b is None else float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    taken = [0]
    while len(taken) < min(limit, len(hits)):
        rest = [i for i in range(len(hits)) if i not in taken]
        gains = [(1 - weight) * relevance[i] - weight * max(cosine(vectors[i], vectors[j]) for j in taken) for i in rest]
        taken.append(rest[int(np.argmax(gains))])
    return [hits[i].id for i in taken]


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.7, 1])
def test_hits_are_those_of_the_formula(same, weight):
    for query, field, sign, options in (
        ({"d": QUERY}, "d", 1, {}),
        ({"d": QUERY}, "half", 1, {"filter": "n < 60"}),
        ({"far": FAR}, "far", -1, {}),
        ({"s": {3: 1.0, 7: 0.5}}, "d", 1, {}),
        ({"d": QUERY, "far": FAR}, "d", 1, {"fusion": "linear"}),
        ({"d": QUERY, "far": FAR}, "d", 1, {"candidates": 60}),
        ({"d": QUERY}, "far", 1, {"prefetch": Prefetch({"s": {3: 1.0}}, limit=20)}),
    ):
        named = weight if [field] == list(query) else Diversity(weight, field)
        hits = same(lambda docs, q=query, n=named, o=options: docs.search(q, limit=7, diversity=n, **o))
        all_hits = same(lambda docs, q=query, f=field, o=options: docs.search(q, limit=50, with_vectors=[f], **o))
        assert hits.ids.tolist() == oracle(all_hits, field, weight, 7, sign)
        scores = {hit.id: hit.score for hit in all_hits}
        assert all(hit.score == scores[hit.id] for hit in hits)


def test_no_weight_is_the_order_of_the_search_and_over_is_the_number_of_candidates(same):
    plain = same(lambda docs: docs.search({"d": QUERY}, limit=9))
    assert same(lambda docs: docs.search({"d": QUERY}, limit=9, diversity=0)) == plain
    hits = same(lambda docs: docs.search({"d": QUERY}, limit=9, diversity=Diversity(0.8, over=9)))
    assert sorted(map(str, hits.ids)) == sorted(map(str, plain.ids)) and hits[0] == plain[0]
    assert len(same(lambda docs: docs.search({"d": QUERY}, limit=9, filter="n < 0", diversity=0.5))) == 0


def test_batches_prepared_searches_and_plans(same):
    one = same(lambda docs: docs.search({"d": QUERY}, limit=4, diversity=0.4, explain=True))
    assert one.plan["request"] == {"limit": 4, "diversity": {"weight": 0.4}}
    for call in (
        lambda docs: docs.search_batch({"d": [QUERY, QUERY]}, limit=4, diversity=0.4)[1],
        lambda docs: docs.prepare(limit=4, diversity=0.4)({"d": QUERY}),
    ):
        assert same(call) == one
    for _ in range(4):  # also where the same search without it is done directly
        plain = same(lambda docs: docs.search({"d": QUERY}, limit=5), "indexed")
        assert same(lambda docs: docs.search({"d": QUERY}, limit=5, diversity=0.9), "indexed") != plain


WRONG = [
    ({"d": QUERY}, 1.5, InvalidArgumentError, "diversity must be a number from 0"),
    ({"d": QUERY}, "much", InvalidArgumentError, "diversity must be a number from 0"),
    ({"d": QUERY}, float("nan"), InvalidArgumentError, "diversity must be a number from 0"),
    ({"d": QUERY}, Diversity(0.5, field=3), InvalidArgumentError, "field of Diversity must be a name, not 3"),
    ({"d": QUERY}, Diversity(0.5, over=0), InvalidArgumentError, "over of Diversity must be an integer"),
    ({"d": QUERY}, Diversity(0.5, "s"), SchemaError, "vectors of a dense field, and 's' is Sparse"),
    ({"d": QUERY}, Diversity(0.5, "nope"), SchemaError, "nope"),
    ({"d": QUERY, "far": FAR}, 0.5, InvalidArgumentError, r"diversity=Diversity\(0.5, field='…'\)"),
    ({"s": {1: 1.0}}, 0.5, InvalidArgumentError, r"diversity=Diversity\(0.5, field='…'\)"),
]


@pytest.mark.parametrize("query, diversity, error, text", WRONG)
def test_wrong_diversity_says_what_to_write(same, query, diversity, error, text):
    with pytest.raises(error, match=text):
        same(lambda docs: docs.search(query, diversity=diversity))


def test_groups_and_diversity_do_not_go_together(same):
    with pytest.raises(InvalidArgumentError, match="diversity and group_by don't go together"):
        same(lambda docs: docs.search({"d": QUERY}, diversity=0.5, group_by="lang"))
