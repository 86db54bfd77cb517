"""How a search was run: plain data, and the text that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHOWN_TERMS = 4
Step = tuple[bool, Mapping[str, Any]]  # (was it what ran, a plan with its setting)


class Plan(dict):
    """What ``explain=True`` tells: a dict of numbers, strings, lists and dicts. ``print(plan)`` shows it as a short text.

    live_rows, filter (matches, selectivity), milliseconds (step → time), sequence, queries, exact (every arm is sure of what it found): of
    the whole search. fusion: method, candidates of each arm, missing ("zero" or "renormalise") and lacking: field → how many of the points
    that match the filter have no vector there, where some have none (each hit says it of itself, in ``arms``); of linear fusion also proven
    (whether these are certainly the true best), depth (how many rows of each arm it took) and scored (how many scores it looked up
    beside). prefetch: the stage before, in the same form, with limit and hits (the candidates it gave).
    arms: for each its field, kind and plan, and how many rows it scored. A dense arm also has recall (target, predicted), segments (rows,
    matches, selectivity, local_selectivity: the share of matches near the query; plan, parameters, predicted; considered: every setting of
    every plan with its predicted microseconds and recall; microseconds, rows_scored: what it took; fallback: the plan first taken found
    too little or went on too long and was given up for this one) and tail (rows without an index, and their time).
    A sparse arm's segments are told likewise; it also has postings (what an exact search adds up), terms (term, weight, rows that have it)
    and matched: for each of the ten best rows its terms and what each contributed to the score. Terms also have their word where the text
    asked or the field's term table has one. Of a batch, all that is of its first query.

    The text shows one setting of each plan: the cheapest that is predicted to reach the recall asked for.
    """

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(plan: Mapping[str, Any]) -> Iterator[str]:
    stages = plan.get("milliseconds") or {}
    queries = plan.get("queries", 1)
    took = f": {_milliseconds(sum(stages.values()))} = {' + '.join(f'{k} {_milliseconds(v)}' for k, v in stages.items())}" if stages else ""
    yield f"{_many(queries, 'query', 'queries')} over {_many(plan.get('live_rows', 0), 'live row')}{took}"
    if plan.get("filter"):
        yield f"filter: {_many(plan['filter'].get('matches', 0), 'match', 'matches')}{_share(', {} of the live rows', plan['filter'])}"
    yield from _stage(plan)


def _stage(plan: Mapping[str, Any]) -> Iterator[str]:
    """The arms and the fusion of a search or of a stage before it, after the stage whose hits are its candidates."""
    before = plan.get("prefetch")
    if before:
        took = _milliseconds(sum((before.get("milliseconds") or {}).values()))
        yield f"prefetch: {_many(before.get('hits', 0), 'candidate')} of at most {before.get('limit', 0):,}, {took}"
        yield from ("  " + line for line in _stage(before))
    for arm in plan.get("arms") or ():
        yield from _arm(arm)
    if plan.get("fusion"):
        yield _fusion(plan["fusion"])


def _fusion(fusion: Mapping[str, Any]) -> str:
    lacking = [f"{_many(count, 'point')} without {field}" for field, count in (fusion.get("lacking") or {}).items()]
    then = "other weights rescaled" if fusion.get("missing") == "renormalise" else "it adds 0 for them"
    told = f"; {', '.join(lacking)}: {then}" if lacking else ""
    if fusion.get("proven") is None:
        return f"fusion: {fusion.get('method')} of the best {fusion.get('candidates', 0):,} of each arm{told}"
    proven = "proven to be the true best" if fusion["proven"] else "not proven"
    scored = _many(fusion.get("scored", 0), "score")
    return f"fusion: {fusion.get('method')}, {proven}, from the best {fusion.get('depth', 0):,} of each arm and {scored} looked up{told}"


def _arm(arm: Mapping[str, Any]) -> Iterator[str]:
    segments, tail, recall = arm.get("segments") or (), arm.get("tail"), arm.get("recall")
    parts = [f"{arm.get('kind')} {arm.get('field')}: {arm.get('plan')}"]
    if recall and not arm.get("exact"):
        parts.append(f"recall {_recall(recall.get('predicted'))} predicted for {_recall(recall.get('target'))} asked")
    parts += [f"{_many(arm.get('rows', 0), 'row')} scored", _many(arm.get("candidates", 0), "candidate")]
    yield ", ".join(parts)
    if arm.get("matched"):
        terms, postings = _many(len(arm.get("terms") or ()), "term"), _many(arm.get("postings", 0), "posting")
        yield f"  {terms} with {postings}; of the best row {_terms(arm['matched'][0])}"
    for number, segment in enumerate(segments, 1):
        yield from _segment(segment, f"segment {number} of {len(segments)}", (recall or {}).get("target"))
    if tail:
        yield f"  tail: {_many(tail.get('rows', 0), 'row')} without an index, all scored in {_microseconds(tail.get('microseconds'))}"


def _terms(matched: Sequence[Mapping[str, Any]]) -> str:
    shown = ", ".join(f"{part.get('word', part.get('term'))} gave {part.get('contribution', 0.0):.3g}" for part in matched[:SHOWN_TERMS])
    return f"{shown}, {len(matched) - SHOWN_TERMS} others the rest" if len(matched) > SHOWN_TERMS else shown


def _segment(segment: Mapping[str, Any], name: str, target: float | None) -> Iterator[str]:
    matches = f", {_many(segment['matches'], 'match', 'matches')}{_share(' ({})', segment)}" if segment.get("matches") is not None else ""
    near = _share(", {} near the query", segment, "local_selectivity")
    seconds = "" if segment.get("microseconds") is None else f" in {_microseconds(segment['microseconds'])}"
    took = f"{_many(segment.get('rows_scored', 0), 'row')} scored{seconds}"
    fallback = ", after another plan was given up" if segment.get("fallback") else ""
    yield f"  {name}: {_many(segment.get('rows', 0), 'row')}{matches}{near}; {took}{fallback}"
    table = [("", "plan", "parameters", "predicted cost", "predicted recall")]
    steps = _considered(segment)
    shown = _best(steps, 0.0 if target is None else target)
    for chosen, step in shown:
        options = " ".join(f"{option}={_option(value)}" for option, value in (step.get("parameters") or {}).items())
        cost = _microseconds(step.get("microseconds"))
        table.append((">" if chosen else "", str(step.get("plan")), options, cost, _recall(step.get("recall"))))
    yield from ("    " + line for line in _aligned(table, right=(3, 4)))
    if len(shown) < len(steps):
        yield f"       and {_many(len(steps) - len(shown), 'other setting')} of these plans"


def _best(steps: Sequence[Step], target: float) -> list[Step]:
    """Of each plan the cheapest setting that reaches the target, or else the one that comes closest; and always the one that ran."""

    def rank(step: Step) -> tuple[bool, bool, float]:
        chosen, facts = step
        recall, cost = facts.get("recall") or 0.0, facts.get("microseconds")
        reached = recall >= target
        return not chosen, not reached, (float("inf") if cost is None else cost) if reached else -recall

    best: dict[Any, int] = {}
    for at in sorted(range(len(steps)), key=lambda at: rank(steps[at])):
        best.setdefault(steps[at][1].get("plan"), at)
    return [steps[at] for at in sorted(best.values())]


def _considered(segment: Mapping[str, Any]) -> list[Step]:
    """Every setting looked at; the one that ran is among them even where nothing was weighed."""
    ran = (segment.get("plan"), segment.get("parameters") or {})
    steps = [((step.get("plan"), step.get("parameters") or {}) == ran, step) for step in segment.get("considered") or ()]
    if any(chosen for chosen, _ in steps):
        return steps
    predicted = segment.get("predicted") or {}
    return [(True, {"plan": ran[0], "parameters": ran[1], **predicted}), *steps]


def _aligned(table: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    cells = ([cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))] for row in table)
    return ["  ".join(row).rstrip() for row in cells]


def _many(count: int, one: str, more: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def _share(text: str, facts: Mapping[str, Any], key: str = "selectivity") -> str:
    """``text`` with the share in percent, or nothing where it isn't known."""
    share = facts.get(key)
    return "" if share is None else text.format(f"{100 * share:.3g} %")


def _recall(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _option(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _microseconds(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.1f} µs" if value < 1000 else f"{value / 1000:,.2f} ms"


def _milliseconds(value: float) -> str:
    return _microseconds(1000 * value)
