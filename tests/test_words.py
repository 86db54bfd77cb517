"""Words of a text: what MATCH and BM25 see."""

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from vectordb.words import MAX_WORD, words


def test_words_are_runs_of_letters_and_digits_without_case():
    assert words("The quick, brown FOX; 12 jumps!") == ["the", "quick", "brown", "fox", "12", "jumps"]
    assert words("") == words(" \n\t.,-_") == words("—«»…") == []
    assert words("don't e-mail 3.14") == ["don", "t", "e", "mail", "3", "14"]


def test_identifiers_fall_into_their_parts():
    assert words("read_file(x) __init__ snake_CASE") == ["read", "file", "x", "init", "snake", "case"]
    assert words("größe_über＿x") == ["grösse", "über", "x"]


def test_compatible_forms_and_cases_are_one_word():
    assert words("Straße") == words("STRASSE") == words("strasse") == ["strasse"]
    assert words("ﬁne ＡＢＣ x²") == ["fine", "abc", "x2"]
    assert words("caf\u00e9") == words("cafe\u0301") == words("CAFE\u0301") == ["caf\u00e9"]
    assert words("ΣΊΣΥΦΟΣ") == words("σίσυφος")
    assert words("co\u00adoperate \ufeffx\u200dy") == ["cooperate", "xy"]


def test_marks_belong_to_words():
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("x\u0335y") == ["x\u0335y"]


def test_other_scripts():
    assert words("Привет, МИР 12") == ["привет", "мир", "12"]
    assert words("안녕 세계") == ["안녕", "세계"]
    assert words("向量数据库v2") == ["向", "量", "数", "据", "库", "v2"]
    assert words("データは速い") == ["データ", "は", "速", "い"]


def test_long_runs_are_cut_so_that_every_word_is_a_key():
    assert words("a" * 300) == ["a" * 120, "a" * 120, "a" * 60]
    assert [len(word) for word in words("é" * 250)] == [120, 120, 10]
    assert max(len(word.encode()) for word in words("\U0001d5ba" * 500 + "\U00010400" * 500 + "字" + "\u0335" * 500)) <= 480


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_words_of_words_are_the_same_words(text):
    found = words(text)
    assert words(" ".join(found)) == found
    assert all(0 < len(word) <= MAX_WORD and len(word.encode()) <= 480 for word in found)


@given(st.text(), st.text())
def test_a_text_has_the_words_of_its_parts(one, other):
    assert words(f"{one} {other}") == words(one) + words(other)


def test_each_letter_and_digit_is_found_in_any_normal_form():
    for c in map(chr, [*range(0xD800), *range(0xE000, 0x20000)]):
        if unicodedata.category(c)[0] in "LN":
            assert words(c), hex(ord(c))
            assert words(c) == words(unicodedata.normalize("NFD", c)) == words(unicodedata.normalize("NFKC", c)), hex(ord(c))


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_takes_a_shorter_way_to_the_same_words(text):
    assert [word for word in words(text + " é") if word != "é"] == words(text)
