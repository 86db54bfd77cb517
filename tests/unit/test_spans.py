"""The places of words in a text: the words are those of ``words``, and each place holds its word."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from vectordb.common.spans import located
from vectordb.common.tokenize import words

LETTERS = "aB _-é\u0301ßİıﬁ①猫好きผมกำเ東🇩🇪👍🏽❤️\u200d\u0e33한\u1161\u11a8ｶﾞ\u0345ΐ\u00ad\u3000'"


@pytest.mark.parametrize("rule", [1, 2])
def test_words_and_places_of_random_texts(rule):
    chance = random.Random(1)
    for _ in range(4000):
        text = "".join(chance.choice(LETTERS) for _ in range(chance.randrange(14)))
        found = located(text, rule)
        assert [each.word for each in found] == words(text, rule), text
        for one, other in pairwise(found):
            assert one.start <= other.start and one.end <= other.end and one.high <= other.low, text
        for each in found:
            assert 0 <= each.start < each.end <= len(text)
            assert each.word in "".join(words(text[each.start : each.end], rule)), (text, each)


def test_places_of_letters_that_become_several_or_are_composed():
    text = "Stra\u00dfe e\u0301te\u0301 ﬁn x\u00ady"
    assert [(each.word, text[each.start : each.end]) for each in located(text)] == [
        ("strasse", "Stra\u00dfe"),
        ("\u00e9t\u00e9", "e\u0301te\u0301"),
        ("fin", "ﬁn"),
        ("xy", "x\u00ady"),
    ]


def test_long_runs_are_split_as_words_are():
    for text in ("x" * 300, "é" * 300, "x" * 119 + "é" * 10):
        found = located(text)
        assert [each.word for each in found] == words(text) and found[-1].end == len(text)
