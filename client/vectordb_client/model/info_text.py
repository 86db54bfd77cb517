"""Facts about a collection as a short text: the text of ``print(collection.info())`` and of ``vectordb info``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import many
from .derivations import derivation_of
from .fields import VECTOR_TYPES
from .schema import Schema

if TYPE_CHECKING:
    from .collection_info import CollectionInfo

_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60))
# Facts of a field that have a line of their own, or that the header of the field already says.
GROUPS_SHOWN = 5  # of an attribute in a line about recall
_SEPARATE = ("kind", "segments", "damaged", "stale", "tail", "dictionary", "recall", "note", "derived", "migration", "memory")


def info_text(info: CollectionInfo) -> str:
    """A line of counts, an aligned table of fields, and a line for each index and dictionary."""
    return "\n".join(_lines(info))


def _lines(info: CollectionInfo) -> Iterator[str]:
    yield f"{info.name}: {counts(info)}"
    if info.history:
        yield history_text(info.history)
    if info.branch is not None:
        yield branch(info.branch)
    if info.maintenance.get("state") in ("running", "failed"):
        yield f"maintenance {activity(info.maintenance)}"
    rows = field_rows(info)
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for heading, names in (("vector fields", info.schema.vectors), ("attributes", info.schema.attributes)):
        if names:
            yield f"{heading}:"
        for row in rows:
            if row[0] in names:
                cells = [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]
                yield ("  " + "  ".join(cells)).rstrip()
    yield from (*derivations(info), *indexes(info), *vocabularies(info), *notes(info))


def history_text(history: Mapping[str, Any]) -> str:
    """For how long history is kept, and where it begins now."""
    seconds, begins = history["seconds"], f" ({history['time']})" if history.get("time") else ""
    unit = next((unit for unit in _UNITS if seconds >= unit[1] and seconds % unit[1] == 0), ("s", 1))
    return f"history of {seconds / unit[1]:,g} {unit[0]}, from sequence {history['first']:,}{begins}"


def counts(info: CollectionInfo) -> str:
    """Points, size, sequence and deleted rows in one line."""
    deleted = ""
    if info.deleted_rows:
        why = (
            "kept as history (the counts below include them)"
            if info.history
            else "not yet removed (the counts below include them, until optimize())"
        )
        deleted = f", {many(info.deleted_rows, 'deleted row')} {why}"
    return f"{many(info.points, 'point')}, {size(info.bytes)}, sequence {info.sequence:,}{deleted}"


def branch(facts: Mapping[str, Any]) -> str:
    """Of which collection one is a branch."""
    dropped = ", which was dropped" if facts["dropped"] else ""
    return f"branch of {facts['of']!r}{dropped}, made at sequence {facts['sequence']:,}; {size(facts['shared_bytes'])} are shared"


def field_rows(info: CollectionInfo) -> list[tuple[str, str, str, str]]:
    """Name, kind, options and statistics of each field."""
    data = info.schema.to_dict()
    rows = []
    for name, spec in {**data["vectors"], **data["attributes"]}.items():
        facts = info.statistics.get(name, {})
        statistics = ", ".join(_fact(key, value) for key, value in facts.items() if key not in _SEPARATE)
        rows.append((name, spec["kind"], options(spec), statistics))
    return rows


def _fact(key: str, value: Any) -> str:
    if key == "bytes":
        return size(value)
    if key in ("rows", "chunks", "nonzeros") and isinstance(value, int):
        return many(value, key.removesuffix("s"))
    if isinstance(value, Mapping):
        return f"{key}: {', '.join(f'{name} {_number(part)}' for name, part in value.items())}"
    return f"{key} {_number(value)}"


def derivations(info: CollectionInfo) -> Iterator[str]:
    """A line for each derived field, and for each that is being migrated or has mapped vectors."""
    for name, facts in info.statistics.items():
        if told := facts.get("derived"):
            given = info.schema.vectors[name].derived
            source = ", ".join(given.sources) if given is not None else ""
            line = f"{name}: derived from {source}, {told['state']}"
            if "share" in told:
                line += f" ({told['share']:.0%} of the rows)"
            if "version" in told:
                line += f"; fit {told['version']} at sequence {told['sequence']:,} to {told['sample']:,} points"
                line += f", recall@10 {told['recall_at_10']:.3f} of {told['held_out']} held out"
            if told.get("deleted_since"):
                line += f", {told['deleted_since']:,} of the sample were deleted or replaced since"
            yield line
        if told := facts.get("migration"):
            yield f"{name}: {migration(told)}"


def migration(told: Mapping[str, Any]) -> str:
    """How far the migration of a field is, and how many of its vectors are mapped."""
    parts = [f"{told['mapped']:,} of its vectors are mapped from another encoder"] if told["mapped"] else []
    if told["state"] != "none":
        line = f"migrating from {told['answers']}, which answers, to {told['identity']}: {told['state']}, {told['share']:.0%} of the rows"
        parts.append(f"{line} ({told['rows_encoded']:,} encoded, {told['rows_mapped']:,} mapped)")
    return "; ".join(parts) or f"vectors of {told['answers']}, no migration is under way"


def schema_text(schema: Schema) -> str:
    """A line for each field with its kind and its options."""
    data = schema.to_dict()
    lines = []
    for section in ("vectors", "attributes"):
        for name, spec in data[section].items():
            settings = options(spec)
            lines.append(f"  {name}: {spec['kind']}{f' ({settings})' if settings else ''}")
    return "\n".join(lines) or "  no fields"


def options(spec: Mapping[str, Any]) -> str:
    """The options of a field (in the form of ``Schema.to_dict``) that are not the default, as Python would write them."""

    def written(key: str, value: Any) -> str:
        if key == "derived" and isinstance(value, Mapping):
            return str(derivation_of(value, ""))
        if key not in ("index", "analyzer") or not isinstance(value, Mapping):
            return str(value)
        name = "Analyzer"
        if key == "index":
            classes = VECTOR_TYPES[spec["kind"]].index_options
            name = next(each.__name__ for each in classes if each.kind == value.get("kind", classes[0].kind))
        return f"{name}({', '.join(f'{k}={v}' for k, v in value.items() if k != 'kind')})"

    return ", ".join(f"{key}={written(key, value)}" for key, value in spec.items() if key != "kind")


def indexes(info: CollectionInfo) -> list[str]:
    """A line for each field that has an index, or rows that wait for one; below it a line for each audited recall."""
    lines = []
    for name, spec in info.schema.vectors.items():
        facts = info.statistics.get(name, {})
        tail = facts.get("tail", 0)
        if spec.index is not None and (facts.get("segments") or tail):
            rest = f"{many(tail, 'row')} not indexed" if tail else "all rows indexed"
            lost = [(len(facts.get(why, ())), why) for why in ("damaged", "stale")]
            unused = "".join(f"; {many(files, f'{why} file')}, will be rebuilt" for files, why in lost if files)
            lines.append(f"index of {name}: {_segments(facts.get('segments') or ())}; {rest}{unused}")
            lines += _placement(facts.get("segments") or (), facts.get("memory"))
            for measured in facts.get("recall") or ():
                lines += [f"  {_recall(measured)}", *_floors(measured.get("floors") or {})]
    return lines


def vocabularies(info: CollectionInfo) -> list[str]:
    """A line for the terms of each sparse field that has some: how many, and the most frequent ones."""
    lines, including = [], " (including deleted rows, until optimize())" if info.deleted_rows else ""
    for name in info.schema.vectors:
        facts = info.statistics.get(name, {}).get("dictionary")
        if facts and facts["terms"]:
            heaviest = ", ".join(f"{part.get('word', part['term'])} ({many(part['rows'], 'row')})" for part in facts["heaviest"])
            lines.append(f"terms of {name}: {many(facts['terms'], 'distinct term')}; most frequent{including}: {heaviest}")
    return lines


def notes(info: CollectionInfo) -> list[str]:
    """A line for each field that an earlier version of vectordb wrote and that still follows its rules."""
    return [f"{name}: {facts['note']}" for name, facts in info.statistics.items() if "note" in facts]


def activity(facts: Mapping[str, Any]) -> str:
    """The state of the background maintenance, such as ``running: seal text, graph 25 %``."""
    doing = ", ".join(str(facts[key]) for key in ("task", "stage") if facts.get(key))
    share = f" {100 * facts['share']:.0f} %" if doing and facts.get("share") is not None else ""
    failed = f" (failed: {facts['error']})" if facts.get("error") else ""
    return f"{facts.get('state', 'unknown')}{': ' * bool(doing)}{doing}{share}{failed}"


def _recall(measured: Mapping[str, Any]) -> str:
    predicted = "" if measured["predicted"] is None else f", {measured['predicted']:.3f} predicted"
    searches = many(measured["audited"], "audited search", "audited searches")
    return f"recall for target {measured['asked']:g}: {measured['mean']:.3f} measured{predicted}, p5 {measured['p5']:.3f}, {searches}"


def _floors(floors: Mapping[str, Any]) -> Iterator[str]:
    """A line for each attribute whose groups are audited, with the groups that are found least."""
    for attribute, facts in floors.items():
        groups = [f"{group} {each['recall']:.3f} of {each['results']:,}" for group, each in facts["groups"].items()]
        more = f", … ({len(groups)} groups)" if len(groups) > GROUPS_SHOWN else ""
        lifted = f", lifted to {facts['target']:g}" if facts["lifted"] else ""
        yield f"    by {attribute}{lifted}: {', '.join(groups[:GROUPS_SHOWN]) or 'no group is measured yet'}{more}"


def _segments(segments: Sequence[Mapping[str, Any]]) -> str:
    if not segments:
        return "none yet"
    rows, taken, dead = (sum(segment[key] for segment in segments) for key in ("rows", "bytes", "dead"))
    graphs = [segment["graph"] for segment in segments if "graph" in segment]
    linked = f"{sum(graphs)} with a graph, " if graphs else ""
    listed = sum(segment.get("kind") == "lists" for segment in segments)
    linked += f"{listed} of lists, " if listed else ""
    healed = sum("healed" in segment for segment in segments)
    linked += f"{healed} healed, " if healed else ""
    return f"{many(len(segments), 'segment')} ({linked}{many(rows, 'row')}, {dead:,} deleted, {size(taken)})"


def _placement(segments: Sequence[Mapping[str, Any]], memory: Mapping[str, int] | None) -> list[str]:
    """Lines about where the parts of an index are, with a memory budget."""
    if not memory:
        return []
    kept, mapped = (sum(segment.get("memory", {}).get(key, 0) for segment in segments) for key in ("kept_bytes", "mapped_bytes"))
    names = sorted({name for segment in segments for name in segment.get("memory", {}).get("mapped", ())})
    left = f", {size(mapped)} left on disk until needed ({', '.join(names)})" if mapped else ""
    lines = [f"  memory budget {size(memory['budget'])}: {size(kept)} of this index kept in memory{left}"]
    return lines + [f"  lists: {reason}" for reason in sorted({segment["chosen"] for segment in segments if "chosen" in segment})]


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def size(nbytes: float) -> str:
    """A number of bytes in the unit that a person reads, such as ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:,.0f} {unit}" if unit == "B" else f"{nbytes:,.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:,.1f} TiB"
