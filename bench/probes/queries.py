"""Probes of query forms: facets, orders, groups, diversity, calibrated scores, filters on payloads, and words with typos."""

from __future__ import annotations

import random
import re
import string
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import timing
from ..data.synthetic import SEED
from ..filters import Filter
from ..systems import Unsupported
from .release import Figures

LIMIT, TURNS = 10, 5
VALUES = "u_1000"  # 1,000 keywords, each of as many rows
TYPOS, WORDS = 500, 12  # queries, and words of each


def forms(worker) -> Figures:
    """Facets, the first and the second page of an order, and diverse hits; beside the usual search of the same round."""
    system, dataset, queries = worker.system, worker.dataset, worker.first_queries()
    raw = [dataset.query(i) for i in worker.queries]
    where = Filter({"op": "eq", "field": "u_20", "value": "u3"}, worker.columns)
    _, (asked,) = system.prepare([], [where])
    words, prices = np.array(dataset.attributes[VALUES]), np.asarray(dataset.attributes["price"])
    distinct = len(set(dataset.attributes[VALUES]))

    calls: dict[str, tuple[Callable, Sequence]] = {"search, p50": (lambda query: system.search(query, LIMIT, None), queries)}
    for chosen, rows, name in ((None, slice(None), "no filter"), (asked, where.mask, "a keyword filter, 5 %")):
        counted = system.counts(system.facets(VALUES, distinct, chosen))
        assert counted == dict(zip(*(each.tolist() for each in np.unique(words[rows], return_counts=True)), strict=True)), name
        first, after = system.ordered("price", LIMIT, chosen)
        second, _ = system.ordered("price", LIMIT, chosen, after)
        found = prices[np.concatenate([system.ids(first), system.ids(second)])]
        if len(found) > LIMIT:
            assert found[:LIMIT].tolist() == np.sort(prices[rows])[:LIMIT].tolist() and (np.diff(found) >= 0).all(), name
        times = [0] * 20
        calls[f"facets of {distinct:,} values, {name}, p50"] = (lambda _, chosen=chosen: system.facets(VALUES, distinct, chosen), times)
        calls[f"order_by a number, {name}, page 1, p50"] = (lambda _, chosen=chosen: system.ordered("price", LIMIT, chosen), times)
        following = [after] * len(times)
        calls[f"order_by a number, {name}, page 2, p50"] = (lambda at, chosen=chosen: system.ordered("price", LIMIT, chosen, at), following)
    calls["diverse hits of 50, p50"] = (lambda query: system.diverse(query, LIMIT, 0.3, 50), raw)
    for what, taken in in_turns(calls).items():
        yield what, np.median(taken) / 1e3, "ms"


def ranked(worker) -> Figures:
    """Groups and calibrated scores, beside the plain search of as many hits; and the order of keywords."""
    docs, queries, once = worker.system.collection, worker.first_queries(), [None] * 20
    plain, groups, calibrated = (f"{name}, limit {LIMIT}, p50" for name in ("plain search", "groups of 1", "calibrated scores"))
    calls: dict[str, tuple[Callable, Sequence]] = {
        plain: (lambda query: docs.search(query, limit=LIMIT), queries),
        groups: (lambda query: docs.search(query, group_by=VALUES, groups=LIMIT), queries),
        calibrated: (lambda query: docs.search(query, limit=LIMIT, score="calibrated"), queries),
    }
    for where in (None, "u_20 = 'u3'"):
        name = "no filter" if where is None else "a keyword filter, 5 %"
        page = docs.search(order_by=[VALUES], filter=where, limit=LIMIT)

        def ordered(after, where=where):
            return docs.search(order_by=[VALUES], filter=where, limit=LIMIT, cursor=after)

        calls[f"order_by a keyword, {name}, page 1, p50"] = ordered, once
        if page.next is not None:
            calls[f"order_by a keyword, {name}, page 2, p50"] = ordered, [page.next] * len(once)
    taken = in_turns(calls)
    for what, times in taken.items():
        yield what, np.median(times) / 1e3, "ms"
    for what in (groups, calibrated):
        yield what.replace(", p50", " ÷ plain"), np.median(taken[what]) / np.median(taken[plain]), "× plain"


def payloads(worker) -> Figures:
    """Filters on a path of payloads, which is indexed when it is used for the second time, beside filters on an attribute of the same
    values. Each filter is new."""
    import vectordb
    from vectordb import Dense, F, Int, Keyword, Schema

    dataset = worker.dataset
    columns = {name: np.asarray(dataset.attributes[name]).tolist() for name in (VALUES, "price")}
    rng = np.random.default_rng(SEED + 9 + worker.turn)
    words = rng.permutation(sorted(set(columns[VALUES]))).tolist()
    lows = rng.integers(0, 900_000, 200).tolist()
    with (
        tempfile.TemporaryDirectory(dir=worker.folder) as folder,
        vectordb.open(folder, durability="batched", maintenance=False) as database,
    ):
        docs = database.create_collection("docs", Schema({"v": Dense(2)}, {VALUES: Keyword(), "price": Int()}))
        for low in range(0, len(dataset), 5_000):
            part = slice(low, min(low + 5_000, len(dataset)))
            attributes = {name: column[part] for name, column in columns.items()}
            deep = [{"meta": dict(zip(attributes, values, strict=True))} for values in zip(*attributes.values(), strict=True)]
            docs.upsert(ids=range(part.start, part.stop), attributes=attributes, payload=deep)
        for use in range(3):
            for name, value in ((VALUES, words[use]), ("price", use)):
                assert docs.count(F(f"meta.{name}") == value) == docs.count(F(name) == value)
        kinds: dict[str, tuple[Callable, Sequence]] = {
            "a keyword": (lambda name, word: F(name) == word, words[3:203]),
            "a range of numbers": (lambda name, low: F(name).between(low, low + 50_000), lows),
        }
        for what, (made, values) in kinds.items():
            parts = {"an attribute": _filters(made, VALUES if what == "a keyword" else "price", values)}
            parts["a payload path"] = _filters(made, f"meta.{VALUES if what == 'a keyword' else 'price'}", values)
            shares = len(values) // TURNS
            taken: dict[str, list[np.ndarray]] = {part: [] for part in parts}
            for turn in range(TURNS):
                for part in parts if turn % 2 else reversed(parts):
                    fresh = parts[part][turn * shares : (turn + 1) * shares]
                    taken[part].append(timing.calls(docs.count, fresh, warm=0))
            medians = {part: np.median(np.concatenate(times)) for part, times in taken.items()}
            for part, median in medians.items():
                yield f"count of {what}, {part}, new filter, p50", median, "µs"
            yield f"count of {what}, a payload path ÷ an attribute", medians["a payload path"] / medians["an attribute"], "× plain"


def _filters(made: Callable, name: str, values: Sequence) -> list:
    """The filters of some values."""
    return [made(name, value) for value in values]


def in_turns(calls: dict[str, tuple[Callable, Sequence]]) -> dict[str, np.ndarray]:
    """Microseconds of each call of some functions with their values. The functions take turns, because the machine's speed changes."""
    taken: dict[str, list[np.ndarray]] = {what: [] for what in calls}
    for turn in range(TURNS):
        for what in calls if turn % 2 == 0 else reversed(calls):
            call, values = calls[what]
            taken[what].append(timing.calls(call, values[:100], cap=0.4, warm=5))
    return {what: np.concatenate(times) for what, times in taken.items()}


def typos(worker, encoders: tuple[str, ...] = ("bm25", "trigram", "trigram(buckets=8192)")) -> Figures:
    """MRR@10 of known texts, asked by some of their words as they are, and with a typo in each word of four letters or more."""
    import vectordb
    from vectordb import Schema, Sparse, Text

    if worker.dataset.texts is None:
        raise Unsupported(f"the data set {worker.dataset.name} has no texts")
    texts = [text for text in dict.fromkeys(worker.dataset.texts) if len(_words(text)) >= 8]
    chance, wanted, clean, typed = random.Random(SEED + worker.turn), [], [], []
    for row in chance.sample(range(len(texts)), min(TYPOS, len(texts))):
        distinct = list(dict.fromkeys(_words(texts[row])))
        query = chance.sample(distinct, min(WORDS, len(distinct)))
        wanted.append(row)
        clean.append(" ".join(query))
        typed.append(" ".join(misspelt(word, chance) for word in query))
    fields = dict(zip(string.ascii_lowercase, encoders))
    with (
        tempfile.TemporaryDirectory(dir=worker.folder) as folder,
        vectordb.open(folder, durability="batched", maintenance=False) as database,
    ):
        schema = Schema({field: Sparse(encoder=encoder, source="body") for field, encoder in fields.items()}, {"body": Text()})
        docs = database.create_collection("docs", schema)
        for low in range(0, len(texts), 1_000):
            part = texts[low : low + 1_000]
            docs.upsert(ids=range(low, low + len(part)), attributes={"body": part})
        docs.optimize()

        def search(field: str, query: str) -> Any:
            return docs.search(text={field: query}, limit=LIMIT, with_attributes=False)

        medians = {}
        for what, queries in (("clean", clean), ("typos", typed)):
            calls = {field: ((lambda query, field=field: search(field, query)), queries) for field in fields}
            for field, encoder in fields.items():
                ranks = [hits.ids.tolist() for hits in docs.search_batch(text={field: queries}, limit=LIMIT, with_attributes=False)]
                found = [1 / (ids.index(row) + 1) if row in ids else 0.0 for row, ids in zip(wanted, ranks, strict=True)]
                yield f"MRR@{LIMIT}, {what}: {encoder}", np.mean(found), ""
            medians |= {(what, field): np.median(taken) for field, taken in in_turns(calls).items()}
        for (what, field), median in medians.items():
            yield f"search, {what}, p50: {fields[field]}", median / 1e3, "ms"
            if field != "a":
                yield f"search, {what}: {fields[field]} ÷ {fields['a']}", median / medians[what, "a"], "× plain"


def misspelt(word: str, chance: random.Random) -> str:
    """A word with one letter inside left out, added, replaced, or swapped with the next. Words of fewer than four letters stay."""
    if len(word) < 4:
        return word
    i, letter = chance.randrange(1, len(word) - 1), chance.choice(string.ascii_lowercase)
    kinds = (word[i + 1 :], letter + word[i:], letter + word[i + 1 :], word[i + 1] + word[i] + word[i + 2 :])
    return word[:i] + chance.choice(kinds)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())
