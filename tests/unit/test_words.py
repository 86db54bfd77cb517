"""Tokenization: the words of a text for MATCH and BM25."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nightly import cases
from vectordb.common.tokenize import MAX_WORD, words


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


@settings(max_examples=cases(50, 300), deadline=None)
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


# Scripts without spaces, and emoji

WITHOUT_SPACES = {
    "Thai": ("ฉันกินข้าวกับปลาทุกวัน", ["ปลา", "ข้าว", "กิน", "ทุกวัน"]),
    "Thai, composed vowel": ("ดื่มน้ำเย็น", ["น้ำ", "น\u0e49\u0e4d\u0e32", "เย็น"]),
    "Lao": ("ຂ້ອຍກິນເຂົ້າກັບປາ", ["ປາ", "ເຂົ້າ", "ກິນ"]),
    "Khmer": ("ខ្ញុំញ៉ាំបាយជាមួយត្រី", ["ត្រី", "បាយ", "ជាមួយ"]),
    "Burmese": ("ကျွန်တော်ထမင်းစားတယ်", ["ထမင်း", "စား", "ကျွန်တော်"]),
    "Burmese, stacked": ("မန္တလေးမြို့", ["မြို့", "မန္တလေး"]),
    "Javanese": ("ꦲꦏ꧀ꦱꦫꦗꦮ", ["ꦗꦮ", "ꦲꦏ꧀ꦱꦫ"]),
    "Balinese": ("ᬅᬓ᭄ᬱᬭᬩᬮᬶ", ["ᬩᬮᬶ"]),
    "Tai Tham": ("ᨲᩫ᩠ᩅᨾᩮᩬᩥᨦ", ["ᨾᩮᩬᩥᨦ"]),
    "Tai Le": ("ᥖᥭᥰᥘᥫᥴ", ["ᥘᥫᥴ", "ᥖᥭᥰ"]),
    "New Tai Lue": ("ᦅᧄᦺᦑᦟᦹᧉ", ["ᦺᦑ", "ᦟᦹᧉ"]),
    "Tai Viet": ("ꪼꪕꪒꪾ", ["ꪒꪾ", "ꪼꪕ"]),
    "Tibetan": ("བོད་ཡིག་སློབ་གྲྭ", ["ཡིག", "སློབ་གྲྭ"]),
    "Yi": ("ꆈꌠꁱꂷ", ["ꁱꂷ"]),
    "Chinese": ("我喜欢机器学习算法", ["学习"]),
    "Japanese": ("機械学習の勉強をします", ["勉強"]),
    "mixed": ("iPhoneรุ่นใหม่ 15 ปี๒๕๖๗", ["iphone", "ใหม่", "15", "๒๕๖๗", "รุ่นใหม่ 15"]),
    "heart": ("I ❤️ NY", ["❤️", "❤", "❤ ny"]),
    "joined": ("the 👨‍👩‍👧‍👦 and 👩🏽‍💻!", ["👨‍👩‍👧‍👦", "👩🏽‍💻", "💻", "👩"]),
    "skin": ("ok👍🏽ok", ["👍🏽", "👍", "ok"]),
    "flags": ("🇩🇪🇪🇸 🏴󠁧󠁢󠁥󠁮󠁧󠁿", ["🇩🇪", "🇪🇸", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]),
    "keycaps": ("press1️⃣then #️⃣", ["1️⃣", "press", "then", "#⃣"]),
}


def holds(text: list[str], asked: list[str]) -> bool:
    """Whether a phrase is in a text."""
    return bool(asked) and any(text[at : at + len(asked)] == asked for at in range(len(text)))


@pytest.mark.parametrize("name", WITHOUT_SPACES)
def test_words_are_found_in_texts_without_spaces(name):
    text, asked = WITHOUT_SPACES[name]
    for each in asked:
        assert holds(words(text), words(each)), (each, words(each), words(text))
    assert words(" ".join(words(text))) == words(text)


def test_pieces_are_about_syllables():
    assert words("เข้าใจปลา") == ["เข้า", "ใจ", "ป", "ลา"]
    assert words("ត្រី") == ["ត្រី"] and words("တော်ထ") == ["တော်", "ထ"]
    assert words("กา่ๆ") == ["กา่", "ๆ"] and words("เแ") == ["เแ"]


def test_what_is_not_said_is_not_found():
    assert not holds(words("🇧🇩🇪🇸"), words("🇩🇪"))  # across two flags
    assert not holds(words("ปลี่"), words("ปล"))
    assert not holds(words("🏴󠁧󠁢󠁳󠁣󠁴󠁿"), words("🏴󠁧󠁢󠁥󠁮󠁧󠁿"))
    assert words("© ® ™ 5 # * →") == ["tm", "5"]


def test_pieces_are_bounded():
    for text in ("ก" + "\u0e49" * 500, "เ" * 500 + "ก", "ក" + "្ក" * 500, "🏴" + "\U000e0061" * 500, "🇩" * 501):
        found = words(text)
        assert max(len(word.encode()) for word in found) <= 480 and words(" ".join(found)) == found


OTHER_SCRIPTS = [
    "The naïve café's 3.14% — don't e-mail! Ünïcödé ½ x² ﬁne №5",
    "Die Straße läuft über größere Brücken; ÄÖÜ äöü ß",
    "Русский текст, ещё один: Ёлка №5",
    "Ελληνικά κείμενα με τόνους: Σίσυφος",
    "العربيّة نصٌّ مشكولٌ وكلماتٌ أخرى ١٢٣",
    "שלום עולם עִבְרִית מנוקדת",
    "हिन्दी में क्षेत्र और संस्कृत, १२३",
    "தமிழ் மொழி, తెలుగు భాష, ಕನ್ನಡ, മലയാളം, বাংলা ভাষা, ગુજરાતી, ਪੰਜਾਬੀ, සිංහල",
    "안녕하세요 세계 한국어 텍스트",
    "ქართული ენა, Հայերեն լեզու, አማርኛ ቋንቋ, ᏣᎳᎩ, монгол ᠮᠣᠩᠭᠣᠯ",
    "Tiếng Việt có dấu: đường phố Hà Nội",
    "我喜欢机器学习算法 2024年",
    "データは速い、機械学習です。ｶﾀｶﾅ",
    "བོད་ཡིག་སློབ་གྲྭ",
    "x\u0335y cafe\u0301 a\u20d7 ❶ Ⅻ ① → ≠ ∑ ± € © ® ™ • · …",
]


@pytest.mark.parametrize("text", OTHER_SCRIPTS)
def test_texts_of_other_scripts_have_the_words_they_had(text):
    assert words(text) == words(text, 1) != []


def test_letters_of_other_scripts_have_the_words_they_had():
    """Each letter, mark and digit that no rule names, alone and between others."""
    changed = re.compile(f"[{_changed()}]")
    for c in (chr(n) for n in range(0x20000) if not 0xD800 <= n < 0xE000):
        if unicodedata.category(c)[0] in "LMN" and not changed.search(unicodedata.normalize("NFKC", c)):
            assert words(f"a{c}b {c}") == words(f"a{c}b {c}", 1), hex(ord(c))


def _changed() -> str:
    import vectordb.common.tokenize as module

    blocks = "".join(f"{chr(low)}-{chr(high)}" for low, high in module._JOINED_BLOCKS)
    return blocks + module._SYLLABLES + module._EMOJI + module._KEYCAP
