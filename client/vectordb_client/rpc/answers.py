"""Answers of a service as messages and back: points, hits with their plan, facts about a collection. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, SchemaError
from ..model.attributes import ATTRIBUTE_TYPES
from ..model.branches import KINDS, BranchDiff
from ..model.collection_info import CollectionInfo
from ..model.results import ArmScore, Hit, Hits, Page, Point
from ..model.schema import Schema
from ..model.values import Id
from ..v1 import vectordb_pb2 as pb
from .packing import HitsPacker, PointsPacker, Room
from .wire import (
    array_of,
    pack_ids,
    pack_json,
    unpack_bits,
    unpack_column,
    unpack_ids,
    unpack_items,
    unpack_json,
    unpack_json_list,
)

# ---- Attributes ----


def forms_of(schema: Schema) -> pb.AttributeForms | None:
    """The attributes whose JSON form is not the user's form, by kind. None if there are none."""
    message = pb.AttributeForms()
    for name, spec in schema.attributes.items():
        if spec.plain:
            continue
        if spec.message_list:
            getattr(message, spec.message_list).append(name)
        else:
            message.others[name] = spec.kind
    return message if message.ByteSize() else None


def _unpack_rows(data: bytes, n: int, forms: pb.AttributeForms) -> list[dict]:
    if not data:
        return [{} for _ in range(n)]
    rows = unpack_json_list(data, n, "attributes")
    if rows and set(map(type, rows)) != {dict}:
        raise InvalidArgumentError("attributes must be JSON objects", field="attributes")
    if not forms.ByteSize():  # of most collections; the fields of a message take microseconds to read
        return rows
    listed = [(name, kind) for kind, t in ATTRIBUTE_TYPES.items() if t.message_list for name in getattr(forms, t.message_list)]
    for name, kind in (*listed, *forms.others.items()):
        if kind not in ATTRIBUTE_TYPES:
            what = f"attribute {name!r} of the answer has the kind {kind!r}, which this client doesn't know"
            raise SchemaError(what, field=name, value=kind)
        read = ATTRIBUTE_TYPES[kind]().from_answer
        try:
            for row in rows:
                value = row.get(name)
                if value is not None:
                    row[name] = read(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidArgumentError(f"attribute {name!r} of the answer can't be read: {error}", field=name) from None
    return rows


def _unpack_payloads(data: bytes, n: int) -> list:
    return unpack_json_list(data, n, "payload") if data else [None] * n


# ---- Vectors of points ----


def _unpack_vectors(messages: Sequence[pb.VectorColumn], n: int) -> list[dict]:
    rows: list[dict] = [{} for _ in range(n)]
    for message in messages:
        column = unpack_column(message, n)
        if column is None:
            continue
        column = column.copied()  # the bytes of a message are read-only
        for position, row in enumerate(range(n) if column.rows is None else column.rows.tolist()):
            rows[row][message.field] = column.vector(position)
    return rows


# ---- Points ----


def pack_points(points: Sequence[Point], schema: Schema, forms: pb.AttributeForms | None) -> pb.Points:
    """Points as a message. Fields that a point doesn't have are not sent."""
    packer = PointsPacker(schema, forms, Room())
    packer.add(points)
    return packer.message()


def unpack_points(message: pb.Points) -> list[Point]:
    """The points of a message. Raises InvalidArgumentError if its columns have different lengths."""
    ids = unpack_ids(message.ids)
    n = len(ids)
    rows, payloads, vectors = (
        _unpack_rows(message.attributes, n, message.forms),
        _unpack_payloads(message.payloads, n),
        _unpack_vectors(message.vectors, n),
    )
    versions = unpack_items(message.versions, "q", n, "versions")
    return [Point(*point[:4], None if point[4] < 0 else point[4]) for point in zip(ids, vectors, rows, payloads, versions, strict=True)]


def pack_found(points: Sequence[Point | None], schema: Schema, forms: pb.AttributeForms | None) -> pb.GetResponse:
    """The answer to a ``get``: points, and None for ids that don't exist."""
    return pack_get([p is not None for p in points], [[p for p in points if p is not None]], schema, forms, Room())


def pack_get(
    exists: Sequence[bool], pieces: Iterable[Sequence[Point]], schema: Schema, forms: pb.AttributeForms | None, room: Room
) -> pb.GetResponse:
    """``pack_found`` for points that are read in pieces. exists: whether each id exists. Raises LimitError if the answer is too large."""
    packer = PointsPacker(schema, forms, room)
    for points in pieces:
        packer.add(points)
    bits = b"" if all(exists) else np.packbits(exists, bitorder="little").tobytes()
    return pb.GetResponse(points=packer.message(), found=bits)


def unpack_found(message: pb.GetResponse, n: int) -> list[Point | None]:
    """One point or None for each of the n requested ids."""
    points = unpack_points(message.points)
    if not message.found and len(points) == n:
        return list(points)
    exists = unpack_bits(message.found, n, "found")
    if exists.sum() != len(points):
        raise InvalidArgumentError(f"the answer holds {len(points)} points, its bitmap {int(exists.sum())}", field="found")
    rest = iter(points)
    return [next(rest) if one else None for one in exists]


def pack_page(
    pieces: Iterable[Sequence[Point]],
    more: bool,
    cursor_at: Callable[[Id], str],
    schema: Schema,
    forms: pb.AttributeForms | None,
    room: Room,
) -> pb.ScrollResponse:
    """The answer to a ``scroll``: as many points as fit, at least one.

    pieces: the points of the page, read in pieces. more: whether further points follow the page. cursor_at: id → the cursor behind it.
    Raises LimitError if a single point is too large.
    """
    packer = PointsPacker(schema, forms, room)
    last: Id | None = None
    for points in pieces:
        fitting = packer.add_fitting(points)
        if fitting:
            last = points[fitting - 1].id
        if fitting < len(points):
            more = True
            break
    return pb.ScrollResponse(points=packer.message(), cursor=cursor_at(last) if more and last is not None else None)


def unpack_page(message: pb.ScrollResponse) -> Page:
    return Page(tuple(unpack_points(message.points)), message.cursor if message.HasField("cursor") else None)


# ---- Hits ----


def pack_hits(message: pb.Hits, results: Hits | Iterable[Sequence[Hit]], schema: Schema, room: Room | None = None) -> None:
    """Fill a message with the hits of a query, whole or read in pieces. Raises LimitError if the answer is too large."""
    room = room or Room()
    bare = results.columns if isinstance(results, Hits) else None
    if bare is not None:
        ids, scores = bare
        room.take(12 * len(ids))
        message.ids.integers = ids.astype("<u8", copy=False).tobytes()
        message.single_scores = scores.astype("<f4", copy=False).tobytes()
        return
    packer = HitsPacker(schema, room)
    for hits in (results,) if isinstance(results, Hits) else results:
        packer.add(hits)
    packer.fill(message)
    if isinstance(results, Hits) and results.plan is not None:
        message.plan = pack_plan(results.plan)


def pack_plan(plan: Mapping[str, Any]) -> bytes:
    """The plan of a search as JSON."""
    return pack_json(_finite(plan), "plan")


def _unpack_arms(messages: Sequence[pb.ArmScores], n: int) -> list[dict[str, ArmScore]]:
    rows: list[dict[str, ArmScore]] = [{} for _ in range(n)]
    for message in messages:
        arm = message.arm
        ranks = unpack_items(message.ranks, "I", n, "ranks")
        scores = [None if s != s else s for s in unpack_items(message.scores, "d", n, "scores")]
        normalized = [None if s != s else s for s in unpack_items(message.normalized, "d", n, "normalized")]
        weights = unpack_items(message.weights, "d", n, "weights")
        contributions = unpack_items(message.contributions, "d", n, "contributions")
        missing = unpack_bits(message.missing, n, "missing").tolist()
        for i, row in enumerate(rows):
            if contributions[i] == contributions[i]:
                row[arm] = ArmScore(ranks[i] or None, scores[i], normalized[i], weights[i], contributions[i], missing[i])
    return rows


_hit = tuple.__new__  # half the cost of the named tuple's constructor


def unpack_hits(message: pb.Hits, forms: pb.AttributeForms) -> Hits:
    """The hits of a message. Raises InvalidArgumentError if its columns have different lengths."""
    if message.single_scores:
        ids, scores = array_of(message.ids.integers, "<u8", "ids"), array_of(message.single_scores, "<f4", "scores")
        if len(ids) != len(scores):
            raise InvalidArgumentError(f"scores are {len(scores)}, ids {len(ids)}", field="scores", value=len(scores))
        hits = Hits.bare(ids, scores)
        hits._next = message.next or None
        return hits
    ids = unpack_ids(message.ids)
    n = len(ids)
    scores = unpack_items(message.scores, "d", n, "scores")
    attributes, payloads = _unpack_rows(message.attributes, n, forms), _unpack_payloads(message.payloads, n)
    arms, vectors = _unpack_arms(message.arms, n), _unpack_vectors(message.vectors, n)
    plan = unpack_json(message.plan, "plan") if message.HasField("plan") else None
    highlights = _unpack_highlights(message.highlights, n)
    hits = Hits([_hit(Hit, each) for each in zip(ids, scores, attributes, payloads, arms, vectors, highlights, strict=True)], plan)
    hits._next = message.next or None
    return hits


def _unpack_highlights(data: bytes, n: int) -> list[dict[str, list]]:
    if not data:
        return [{} for _ in range(n)]
    rows = unpack_json_list(data, n, "highlights")
    try:
        return [{name: _places(value) for name, value in row.items()} for row in rows]
    except (TypeError, AttributeError):
        raise InvalidArgumentError("highlights must be JSON objects of lists", field="highlights") from None


def _places(value: list) -> list:
    """Pairs as tuples, which JSON has as lists."""
    return [tuple(each) if each and type(each[0]) is int else _places(each) for each in value]


# ---- Facts ----


def _finite(value: Any) -> Any:
    """The value with None in place of infinities and NaN, which JSON can't represent."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def pack_info(info: CollectionInfo) -> pb.CollectionInfo:
    return pb.CollectionInfo(
        points=info.points,
        sequence=info.sequence,
        deleted_rows=info.deleted_rows,
        bytes=info.bytes,
        statistics=pack_json(_finite(info.statistics), "statistics"),
        maintenance=pack_json(_finite(info.maintenance), "maintenance"),
        history=pack_json(dict(info.history), "history") if info.history else b"",
        branch=b"" if info.branch is None else pack_json(info.branch, "branch"),
    )


def pack_optimized(result: Mapping[str, Any]) -> pb.OptimizeResponse:
    return pb.OptimizeResponse(result=pack_json(_finite(result), "result"))


def unpack_optimized(message: pb.OptimizeResponse) -> dict[str, Any]:
    return unpack_json(message.result, "result")


def pack_schema(schema: Schema) -> bytes:
    return pack_json(schema.to_dict(), "schema")


def unpack_schema(data: bytes) -> Schema:
    return Schema.from_dict(unpack_json(data, "schema"))


def unpack_info(name: str, message: pb.DescribeCollectionResponse) -> CollectionInfo:
    info = message.info
    parts = ((info.statistics, "statistics"), (info.maintenance, "maintenance"), (info.history, "history"))
    counts = (info.points, info.sequence, info.deleted_rows, info.bytes)
    statistics, maintenance, history = (unpack_json(data, field) if data else {} for data, field in parts)
    branch = unpack_json(info.branch, "branch") if info.branch else None
    return CollectionInfo(name, unpack_schema(message.schema), *counts, statistics, maintenance, history, branch)


def pack_diff(diff: BranchDiff) -> pb.DiffResponse:
    packed = {kind: pack_ids(list(getattr(diff, kind))) for kind in KINDS}
    return pb.DiffResponse(**packed, counts=dict(diff.counts))


def unpack_diff(message: pb.DiffResponse) -> BranchDiff:
    ids = {kind: tuple(unpack_ids(getattr(message, kind))) for kind in KINDS}
    return BranchDiff(**ids, counts={kind: message.counts[kind] for kind in KINDS})
