"""And, Or and Not of bound conditions.

Between binding and the result a filter is one of these: True, False, ``Scalar``, ``Elements``, a leaf node, Not of a leaf node, or
``Joined`` of such. The rules treat And and Or alike, so De Morgan's laws hold for the results too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vectordb_client.filter import And, Not, Or

from .nodes import make
from .sets import COUNTS, Elements, Scalar

# Each round may decide conditions that decide others in the next; a chain of thousands would take minutes, and nobody writes one.
ROUNDS = 8
# Of more conditions than this on one array in one And or Or, only equal ones are found in others: each would meet each.
COMPARED = 16
_SOME = COUNTS.between(1, COUNTS.high)


class Joined:
    """And or Or (``kind``) of two and more distinct parts, in any order, none of them Joined of the same kind."""

    __slots__ = ("_flipped", "_hash", "kind", "parts")

    def __init__(self, kind: type, parts: frozenset):
        self.kind, self.parts = kind, parts
        self._hash = hash((kind.__name__, parts))
        self._flipped: Joined | None = None

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        return type(other) is Joined and self._hash == other._hash and self.kind is other.kind and self.parts == other.parts


def flip(part: Any) -> Any:
    """The complement."""
    kind = type(part)
    if kind is Scalar or kind is Elements:
        return part.flip()
    if kind is bool:
        return not part
    if kind is Joined:
        if part._flipped is None:
            part._flipped = Joined(Or if part.kind is And else And, frozenset(map(flip, part.parts)))
            part._flipped._flipped = part
        return part._flipped
    return part.child if kind is Not else make(Not, child=part)


def join(kind: type, given: Iterable, rounds: int = ROUNDS) -> Any:
    """And or Or of parts, with all rules applied."""
    neutral = kind is And
    single: dict = {}
    joined: dict = {}
    groups: dict = {}
    arrays = False
    for one in given:
        for part in one.parts if type(one) is Joined and one.kind is kind else (one,):
            what = type(part)
            if what is Scalar or (what is Elements and part.negated is neutral):
                groups.setdefault(part.key, []).append(part)
            elif what is bool:
                if part is not neutral:
                    return part
            elif what is Joined:
                joined[part] = None
            else:
                single[part] = None
            arrays = arrays or what is Elements
    again = False
    for key, group in groups.items():
        part = group[0] if len(group) == 1 else group[0].merged(kind, group)
        if type(part) is bool:
            if part is not neutral:
                return part
            continue
        single[part] = None
        again = again or part.key != key
    if again:  # full sets of elements became a count, which may meet another
        return join(kind, [*single, *joined], rounds)
    if arrays:
        for part in [part for part in single if type(part) is Scalar and part.domain is COUNTS]:
            # "not empty" says every "an element is …" of an Or, "empty" every "no element is …" of an And
            if COUNTS.intersection([_SOME, part.values]) == (COUNTS.empty if neutral else _SOME):
                key = (part.field, "elements")
                single = {one: None for one in single if type(one) is not Elements or one.key != key or one.negated is not neutral}
    if any(type(part) is Not and part.child in single for part in single):
        return not neutral
    if arrays or joined:
        facts = _Facts(kind, single, joined)
        if arrays and facts.contradict():
            return not neutral
        if rounds:
            reduced = [facts.applied(part) for part in joined]
            if any(new is not old for new, old in zip(reduced, joined, strict=True)):
                return join(kind, [*single, *reduced], rounds - 1)
    parts = frozenset((*single, *joined))
    if len(parts) > 1:
        return Joined(kind, parts)
    return next(iter(parts), neutral)


class _Facts:
    """What may be taken for granted of the rows that a member of an And or Or still decides.

    In an And: that the other members hold; in an Or: that they don't. Members are used on one another at the same time: each rests on
    conditions that are parts of it, or on literals, so no two rest on each other.
    """

    def __init__(self, kind: type, single: dict, joined: dict):
        self.kind = kind
        self.sets: dict[str, list[Scalar | Elements]] = {}
        self.others: set = set(joined) if kind is And else set(map(flip, joined))
        self.flipped: set[str] = set()
        for part in single:
            if type(part) is Scalar or type(part) is Elements:
                self.sets.setdefault(part.field, []).append(part)
            if type(part) is not Scalar:
                self.others.add(part if kind is And else flip(part))

    def of(self, field: str) -> list[Scalar | Elements]:
        if self.kind is Or and field in self.sets and field not in self.flipped:  # long lists take long to flip, and few are asked for
            self.sets[field] = [part.flip() for part in self.sets[field]]
            self.flipped.add(field)
        return self.sets.get(field, [])

    def contradict(self) -> bool:
        """Whether two conditions on an array exclude each other. Two that ask for an element never do."""
        for field in [field for field, facts in self.sets.items() if len(facts) > 1]:
            facts = self.of(field)
            for part in facts:  # at most one is negated and one is a count, so this is not quadratic
                asks = type(part) is Elements and not part.negated
                if not asks and any(fact is not part and _decided(fact, part) is False for fact in facts):
                    return True
        return False

    def decide(self, part: Any) -> bool | None:
        if type(part) is Scalar or type(part) is Elements:
            facts = self.of(part.field)
            if len(facts) <= COMPARED:
                for fact in facts:
                    known = _decided(fact, part)
                    if known is not None:
                        return known
                return None
        if part in self.others:
            return True
        return False if self.others and flip(part) in self.others else None

    def applied(self, joined: Joined) -> Any:
        """The Joined without what is decided; itself if nothing is."""
        parts, changed = [], False
        for part in joined.parts:
            new = self.decide(part)
            if new is None:
                new = self.applied(part) if type(part) is Joined else part
            changed = changed or new is not part
            parts.append(new)
        return join(joined.kind, parts) if changed else joined


def _decided(fact: Scalar | Elements, part: Scalar | Elements) -> bool | None:
    """Whether a condition holds for the rows of another one on the same field: always, never, or it depends (None)."""
    domain = part.domain
    if type(fact) is Scalar and type(part) is Scalar:
        if fact.key != part.key:
            return None
        common = domain.intersection([fact.values, part.values])
        if common == fact.values and (part.null or not fact.null):
            return True
        return False if common == domain.empty and not (fact.null and part.null) else None
    if type(fact) is Elements and type(part) is Elements:
        small, large = (part, fact) if fact.negated else (fact, part)
        if domain.intersection([small.values, large.values]) != small.values:
            return None
        return fact.negated is part.negated
    if type(fact) is Elements:  # and a count: an element is there
        common = COUNTS.intersection([_SOME, part.values])
        if fact.negated or common not in (_SOME, COUNTS.empty):
            return None
        return common == _SOME
    if COUNTS.intersection([_SOME, fact.values]) != COUNTS.empty:
        return None
    return part.negated  # of an array that is empty or null
