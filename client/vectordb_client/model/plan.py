"""The plan of a search: plain data that prints as a short text."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHOWN_TERMS = 4
Step = tuple[bool, Mapping[str, Any]]  # (whether this setting ran, the setting)


class Plan(dict):
    """How a search was run, for ``explain=True``: a dict of numbers, strings, lists and dicts. ``print(plan)`` shows it as a short text.

    The text shows one setting of each plan: the cheapest one that is predicted to reach the requested recall. Of a batch, everything
    describes the first query. Keys:

    * request: the options of the search that differ from their defaults, and the filter in canonical form.
    * live_rows, sequence, queries. exact: whether every arm returned its exact result. milliseconds: step → time. filter: matches,
      selectivity (the share of live rows that match).
    * as_of (of an earlier state): its sequence and the newest one; old_rows: rows that were live then and were replaced or deleted since;
      index_files: used, and left_out because they lack some of these rows, whose rows are searched exactly.
    * fusion (several arms): method; candidates of each arm; missing ("zero" or "renormalise"); lacking: field → number of points that match
      the filter and have no vector in it. Linear fusion also has proven (whether the hits are certainly the true best), depth (rows
      taken from each arm) and scored (scores looked up besides). Other fusions of indexed arms have lists: field → the depth and the recall
      at which the arm was read, and recall of the fused list: target, predicted (None if no measured lists reach the target), and the
      number of searches that were measured.
    * groups (with ``group_by``): by, found (number of groups); depth (hits of the last search) and searches (each twice as deep as the one
      before); filled (rows of groups with few hits that were scored besides); complete (whether every group has ``group_size`` hits, or all
      that match); proven (whether these are certainly the best groups: complete, and of an exact ranking).
    * rerank: hits (that were to be put in order) and scored (those that were scored in time).
    * prefetch: the stage before this one, in the same form, with limit and hits (the number of candidates it returned).
    * arms: one dict for each arm with field (and of an ``Arm`` arm, its name, filter and limit), kind, plan, rows (rows scored) and
      candidates. Dense and sparse arms also have recall (target, predicted), segments and tail (rows without an index, how
      many of them were read at full precision, and the microseconds their scan took).
    * segments of an arm: rows, healed (merges since the file was built; absent if there are none), matches, selectivity, local_selectivity
      (the share of matches near the query); of dense fields distance (without a filter, how far what was found is from the query: 0 is at
      it, 1 as far as the mean of all rows), of multi-vector fields too (there 0 is the highest possible score, 1 is a score of 0); plan,
      parameters and predicted of the plan that ran; considered: every setting of every plan with predicted microseconds, recall and, of
      dense and multi-vector fields, lowest_recall (the mean recall of the 5 % of queries for which it finds least); microseconds and
      rows_scored as measured; fallback: the plan that ran first and was stopped, because it found too little or took too long;
      searched_again: the plan
      that ran first found rows so far from the query that it was followed by one with more effort; with a memory budget memory
      (kept_bytes, mapped_bytes, and mapped, the names of the parts that aren't kept in memory) and, where it decided that the segment is
      of lists, chosen (why).
    * sparse arms also have postings (postings that an exact search reads), terms (term, weight, rows with the term) and matched: for each
      of the ten best rows its terms and their contributions. A term has its word if the query text or the term table of the field has one.
    * multi-vector arms also have alignment: for each of the ten best rows its score and parts. A part has query (the row of the query),
      row (the row of the point that it was compared with), score, and query_word and word where an encoder made the vectors of texts.
      Of more than 256 parts the highest are listed, and others has the number and the score of the rest. All add up to the score.
    * boost: boosts as text; highest: the most that each can multiply a score with; depth: how many of the best points without boosts were
      boosted; proven: whether no other point can be among the best (None where a fusion of lists ranks its candidates only); of the ten
      best hits scores, without boosts, and factors, one for each boost.
    * arms with queries by examples have examples (role → id, or the first numbers of a vector), pool, and contributions: for each of the
      ten best rows what each example (or pair) adds to its score. without: directions and removed, the share of the query's squared
      length that was projected out.
    * arms of derived fields have derived, such as "pca of v".
    """

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _lines(plan: Mapping[str, Any]) -> Iterator[str]:
    stages = plan.get("milliseconds") or {}
    queries = plan.get("queries", 1)
    took = f": {_milliseconds(sum(stages.values()))} = {' + '.join(f'{k} {_milliseconds(v)}' for k, v in stages.items())}" if stages else ""
    yield f"{_many(queries, 'query', 'queries')} over {_many(plan.get('live_rows', 0), 'live row')}{took}"
    if plan.get("request"):
        yield f"request: {', '.join(f'{name}={_value(value)}' for name, value in plan['request'].items())}"
    if plan.get("filter"):
        yield f"filter: {_many(plan['filter'].get('matches', 0), 'match', 'matches')}{_share(', {} of the live rows', plan['filter'])}"
    if plan.get("as_of"):
        yield _earlier(plan["as_of"])
    yield from _stage(plan)


def _earlier(state: Mapping[str, Any]) -> str:
    writes = _many(state.get("newest", 0) - state.get("sequence", 0), "write")
    old, files = state.get("old_rows", 0), state.get("index_files") or {}
    left = files.get("left_out", 0)
    note = f"; {_many(left, 'index file')} left out, because rows of this state are missing there: exact scan" if left else ""
    return f"as of sequence {state.get('sequence', 0):,}, {writes} ago: {_many(old, 'row')} replaced or deleted since{note}"


def _stage(plan: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a search or of a prefetch stage: first the stage before it, then its arms, then its fusion."""
    before = plan.get("prefetch")
    if before:
        took = _milliseconds(sum((before.get("milliseconds") or {}).values()))
        yield f"prefetch: {_many(before.get('hits', 0), 'candidate')} of at most {before.get('limit', 0):,}, {took}"
        yield from ("  " + line for line in _stage(before))
    for arm in plan.get("arms") or ():
        yield from _arm(arm)
    if plan.get("fusion"):
        yield _fusion(plan["fusion"])
    if plan.get("boost"):
        yield from _boost(plan["boost"])
    if plan.get("rerank"):
        yield f"rerank: {plan['rerank'].get('scored', 0):,} of {_many(plan['rerank'].get('hits', 0), 'hit')} scored"
    if plan.get("groups"):
        yield _groups(plan["groups"])


def _boost(boost: Mapping[str, Any]) -> Iterator[str]:
    proven = {None: "of all candidates", True: "proven to be the true best", False: "not proven"}[boost.get("proven")]
    yield f"boost: {proven}, from the best {boost.get('depth', 0):,} without boosts"
    factors = (boost.get("factors") or [[]])[0]
    for position, (name, highest) in enumerate(zip(boost.get("boosts") or (), boost.get("highest") or (), strict=False)):
        first = f"; of the best row {factors[position]:.4g}" if position < len(factors) else ""
        yield f"  {name}: at most {highest:.4g}{first}"


def _fusion(fusion: Mapping[str, Any]) -> str:
    lacking = [f"{_many(count, 'point')} without {field}" for field, count in (fusion.get("lacking") or {}).items()]
    then = "their other weights are rescaled" if fusion.get("missing") == "renormalise" else "the field contributes 0"
    note = f"; {', '.join(lacking)}: {then}" if lacking else ""
    if fusion.get("proven") is None:
        return f"fusion: {fusion.get('method')} of the best {fusion.get('candidates', 0):,} of each arm{_lists(fusion)}{note}"
    proven = "proven to be the true best" if fusion["proven"] else "not proven"
    scored = _many(fusion.get("scored", 0), "score")
    return f"fusion: {fusion.get('method')}, {proven}, from the best {fusion.get('depth', 0):,} of each arm; {scored} looked up{note}"


def _groups(groups: Mapping[str, Any]) -> str:
    proven = "proven to be the true best" if groups.get("proven") else "not proven"
    searched = _many(groups.get("searches", 0), "search", "searches")
    filled = f", {_many(groups['filled'], 'row')} of groups with few hits scored" if groups.get("filled") else ""
    few = "" if groups.get("complete") else "; some groups may have more hits"
    found = _many(groups.get("found", 0), "group")
    return f"{found} by {groups.get('by')}, {proven}, from the best {groups.get('depth', 0):,} after {searched}{filled}{few}"


def _lists(fusion: Mapping[str, Any]) -> str:
    """How deep the arms were read, and why."""
    recall = fusion.get("recall")
    if not recall:
        return ""
    read = ", ".join(
        f"{field} {each.get('depth', 0):,} at recall {_recall(each.get('recall'))}" for field, each in (fusion.get("lists") or {}).items()
    )
    searches = _many(recall.get("searches", 0), "search", "searches")
    if recall.get("predicted") is None:
        return f"; read: {read}, as no other lists are known to reach recall {_recall(recall.get('target'))} ({searches} measured)"
    return f"; read: {read}, recall {_recall(recall['predicted'])} of {searches} measured, {_recall(recall.get('target'))} requested"


def _arm(arm: Mapping[str, Any]) -> Iterator[str]:
    segments, tail, recall = arm.get("segments") or (), arm.get("tail"), arm.get("recall")
    name = f"{arm['arm']} = " if arm.get("arm") else ""
    own = "".join(f", {key} {arm[key]}" for key in ("filter", "limit") if arm.get(key) is not None)
    derived = f" ({arm['derived']})" if arm.get("derived") else ""
    parts = [f"{name}{arm.get('kind')} {arm.get('field')}{derived}{own}: {arm.get('plan')}"]
    if recall and not arm.get("exact"):
        parts.append(f"recall {_recall(recall.get('predicted'))} predicted, {_recall(recall.get('target'))} requested")
    parts += [f"{_many(arm.get('rows', 0), 'row')} scored", _many(arm.get("candidates", 0), "candidate")]
    yield ", ".join(parts)
    if arm.get("matched"):
        terms, postings = _many(len(arm.get("terms") or ()), "term"), _many(arm.get("postings", 0), "posting")
        yield f"  {terms} with {postings}; contributions to the best row: {_terms(arm['matched'][0])}"
    if arm.get("alignment"):
        yield f"  alignment of the best row: {_alignment(arm['alignment'][0])}"
    if arm.get("contributions"):
        named = [
            " over ".join(map(str, each.values())) if len(each) > 1 else f"{next(iter(each))} {next(iter(each.values()))}"
            for each in arm["examples"]
        ]
        parts = [f"{name} {part:.3g}" for name, part in zip(named, arm["contributions"][0], strict=True)]
        yield f"  examples ({arm.get('pool')}), contributions to the best row: {_cut(parts)}"
    if arm.get("without"):
        without = arm["without"]
        share = f"{100 * without['removed']:.3g} %"
        yield f"  without {_many(without['directions'], 'direction')}, which had {share} of the query's squared length"
    for number, segment in enumerate(segments, 1):
        yield from _segment(segment, f"segment {number} of {len(segments)}", (recall or {}).get("target"))
    if tail:
        read = f", {tail['read']:,} of them at full precision" if tail.get("read", tail.get("rows")) != tail.get("rows") else ""
        yield f"  tail: {_many(tail.get('rows', 0), 'row')} without an index, scanned in {_microseconds(tail.get('microseconds'))}{read}"


def _alignment(row: Mapping[str, Any]) -> str:
    """The parts of the score of a multi-vector with the highest scores: row of the query → row of the point."""
    parts = sorted(row["parts"], key=lambda part: (-part["score"], part["query"]))
    named = [f"{part.get('query_word', part['query'])} → {part.get('word', part['row'])} {part['score']:.3g}" for part in parts]
    return _cut(named, (row.get("others") or {}).get("parts", 0))


def _cut(parts: Sequence[str], others: int = 0) -> str:
    """The first of some parts. others: that are not among them."""
    more = max(len(parts) - SHOWN_TERMS, 0) + others
    return ", ".join(parts[:SHOWN_TERMS]) + (f", and {more:,} more" if more else "")


def _terms(matched: Sequence[Mapping[str, Any]]) -> str:
    shown = ", ".join(f"{part.get('word', part.get('term'))} {part.get('contribution', 0.0):.3g}" for part in matched[:SHOWN_TERMS])
    return f"{shown}, and {_many(len(matched) - SHOWN_TERMS, 'more term')}" if len(matched) > SHOWN_TERMS else shown


def _segment(segment: Mapping[str, Any], name: str, target: float | None) -> Iterator[str]:
    matches = f", {_many(segment['matches'], 'match', 'matches')}{_share(' ({})', segment)}" if segment.get("matches") is not None else ""
    near = _share(", {} near the query", segment, "local_selectivity")
    seconds = "" if segment.get("microseconds") is None else f" in {_microseconds(segment['microseconds'])}"
    took = f"{_many(segment.get('rows_scored', 0), 'row')} scored{seconds}"
    fallback = ", after another plan was stopped" if segment.get("fallback") else ""
    if segment.get("searched_again"):
        fallback = ", after a plan that found too little of what is so far"
    rows = _many(segment.get("rows", 0), "row") + (" (healed)" if segment.get("healed") else "")
    yield f"  {name}: {rows}{matches}{near}; {took}{fallback}"
    table = [("", "plan", "parameters", "predicted cost", "predicted recall")]
    if segment.get("chosen"):
        yield f"    lists, because {segment['chosen']}"
    if segment.get("memory", {}).get("mapped"):
        yield f"    read from disk when needed, for the memory budget: {', '.join(segment['memory']['mapped'])}"
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
    """One setting of each plan, and always the one that ran: the cheapest that reaches the target, else the one with the most recall."""

    def rank(step: Step) -> tuple[bool, bool, float]:
        chosen, facts = step
        recall, cost = facts.get("recall") or 0.0, facts.get("microseconds")
        reached = recall >= target
        return not chosen, not reached, (float("inf") if cost is None else cost) if reached else -recall

    best: dict[Any, int] = {}
    for position in sorted(range(len(steps)), key=lambda position: rank(steps[position])):
        best.setdefault(steps[position][1].get("plan"), position)
    return [steps[position] for position in sorted(best.values())]


def _considered(segment: Mapping[str, Any]) -> list[Step]:
    """Every setting that was considered, and the one that ran even if none was considered."""
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


def _value(value: Any) -> str:
    """A value of an option; of a fusion its method and options."""
    if isinstance(value, Mapping):
        options = ", ".join(f"{name}={each!r}" for name, each in value.items() if name != "method")
        return f"{value.get('method', '')}({options})"
    return repr(value)


def _many(count: int, one: str, more: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def _share(text: str, facts: Mapping[str, Any], key: str = "selectivity") -> str:
    """``text`` with the share in percent, or nothing where it is unknown."""
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
