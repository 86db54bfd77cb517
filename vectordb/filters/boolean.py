"""And, Or and Not of bound conditions: the simplifications of the canonical form.

A bound filter, before it becomes nodes again, is one of these: True, False, ``Scalar``, ``Elements``, a leaf node, Not of a leaf node, or
``Joined`` of several of them. Every rule exists for And and for Or, so De Morgan's laws hold for the results too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vectordb_client.model.filter_nodes import And, Not, Or

from .nodes import Joining, make
from .sets import COUNTS, Elements, Scalar

# Rounds of simplification. A condition decided in one round may decide others in the next. Filters written by people need few rounds; a
# generated chain of thousands would take minutes.
ROUNDS = 8
# Conditions on one array in one And or Or that are compared pairwise. With more of them, only equal conditions are recognised, because the
# comparisons grow quadratically.
COMPARED = 16
_SOME = COUNTS.between(1, COUNTS.high)


class Joined:
    """An And or Or (``kind``) of two or more distinct parts, unordered. No part is a Joined of the same kind."""

    __slots__ = ("_flipped", "_hash", "kind", "parts")

    def __init__(self, kind: Joining, parts: frozenset):
        self.kind, self.parts = kind, parts
        self._hash = hash((kind.__name__, parts))
        self._flipped: Joined | None = None

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        return type(other) is Joined and self._hash == other._hash and self.kind is other.kind and self.parts == other.parts


def flip(part: Any) -> Any:
    """The complement of a bound condition."""
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


def join(kind: Joining, given: Iterable, rounds: int = ROUNDS) -> Any:
    """The And or Or of parts, simplified by all rules."""
    neutral = kind is And
    single: dict = {}
    joined: dict = {}
    groups: dict = {}
    arrays = False
    for one in given:
        for part in one.parts if type(one) is Joined and one.kind is kind else (one,):
            if type(part) is Scalar or (type(part) is Elements and part.negated is neutral):
                groups.setdefault(part.key, []).append(part)
            elif type(part) is bool:
                if part is not neutral:
                    return part
            elif type(part) is Joined:
                joined[part] = None
            else:
                single[part] = None
            arrays = arrays or type(part) is Elements
    again = False
    for key, group in groups.items():
        part = group[0] if len(group) == 1 else group[0].merged(kind, group)
        if type(part) is bool:
            if part is not neutral:
                return part
            continue
        single[part] = None
        again = again or part.key != key
    if again:  # a full set of elements became a condition on the count; merge it with others on the same count
        return join(kind, [*single, *joined], rounds)
    if arrays:
        for part in [part for part in single if type(part) is Scalar and part.domain is COUNTS]:
            # In an Or, "the array is not empty" includes every "some element is in …"; in an And, "the array is empty" implies every "no
            # element is in …". Drop the conditions that are implied.
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
    """The facts that hold for the rows on which one part of an And or Or still matters.

    In an And: all other parts are true. In an Or: all other parts are false. Simplifying several parts at the same time is sound: only
    conditions inside a Joined part are replaced, and the facts are whole parts, so two parts can't each be removed on account of the other.
    """

    def __init__(self, kind: Joining, single: dict, joined: dict):
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
        # Flipped when first needed: the complement of a long list takes long, and few are needed.
        if self.kind is Or and field in self.sets and field not in self.flipped:
            self.sets[field] = [part.flip() for part in self.sets[field]]
            self.flipped.add(field)
        return self.sets.get(field, [])

    def contradict(self) -> bool:
        """Whether two conditions on one array exclude each other. Two of the form "some element is in A" never do."""
        for field in [field for field, facts in self.sets.items() if len(facts) > 1]:
            facts = self.of(field)
            for part in facts:  # at most one part is a negated Elements and one a count, so this is not quadratic
                some_element = type(part) is Elements and not part.negated
                if not some_element and any(fact is not part and _decided(fact, part) is False for fact in facts):
                    return True
        return False

    def decide(self, part: Any) -> bool | None:
        """Whether the facts make a condition true or false; None if they don't decide it."""
        if type(part) is Scalar or type(part) is Elements:
            facts = self.of(part.field)
            if len(facts) <= COMPARED:
                for fact in facts:
                    decided = _decided(fact, part)
                    if decided is not None:
                        return decided
                return None
        if part in self.others:
            return True
        return False if self.others and flip(part) in self.others else None

    def applied(self, joined: Joined) -> Any:
        """A Joined with its decided conditions replaced by their truth values; the same object if none is decided."""
        parts, changed = [], False
        for part in joined.parts:
            new = self.decide(part)
            if new is None:
                new = self.applied(part) if type(part) is Joined else part
            changed = changed or new is not part
            parts.append(new)
        return join(joined.kind, parts) if changed else joined


def _decided(fact: Scalar | Elements, part: Scalar | Elements) -> bool | None:
    """Whether ``part`` is True or False for all rows that match ``fact``, a condition on the same field; None: it depends on the row."""
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
    if type(fact) is Elements:  # part is a condition on the count. Some element is in a set, so the count is at least 1
        common = COUNTS.intersection([_SOME, part.values])
        if fact.negated or common not in (_SOME, COUNTS.empty):
            return None
        return common == _SOME
    if type(part) is Elements and COUNTS.intersection([_SOME, fact.values]) == COUNTS.empty:
        return part.negated  # fact: the array is empty or null, so no element is in any set
    return None
