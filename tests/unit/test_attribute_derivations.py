"""Vectors of numbers, cycles, categories and time series; which definitions are refused; the JSON form."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from vectordb_client.model.attribute_vectors import angles, categories, series

from vectordb import (
    Attributes,
    Bool,
    Category,
    Cyclic,
    Datetime,
    Dense,
    Float,
    Geo,
    Int,
    Keyword,
    Number,
    Prefix,
    Schema,
    SchemaError,
    Series,
    Sparse,
    Text,
)

TYPES = {
    "price": Float(),
    "weekday": Int(),
    "at": Datetime(),
    "brand": Keyword(),
    "tags": Keyword(array=True),
    "new": Bool(),
    "text": Text(),
    "place": Geo(),
    "readings": Float(array=True),
}


def schema(given, dim=64):
    return Schema({"profile": Dense(dim, derived=given)}, TYPES)


def made(given, rows, dim=64):
    return given.vectors(dim, rows, TYPES)


@pytest.mark.parametrize("width", [2, 6, 32, 64])
def test_the_nearest_by_the_vector_are_the_nearest_by_the_number(width):
    """Inner products fall all the way, whatever the width; on a circle they depend on the way round alone."""
    turns = np.linspace(0, 1, 400)
    found = angles(np.zeros(1), width) @ angles(turns, width).T
    assert (np.diff(found[0]) < 0).all() and found[0, 0] == pytest.approx(1) and found[0, -1] == pytest.approx(-1)
    week = angles(2.0 * np.arange(7) / 7, width)
    near = week[6] @ week.T
    assert near[0] == pytest.approx(near[5]) and near[1] == pytest.approx(near[4]) and near[6] > near[0] > near[1] > near[2]


def test_many_frequencies_fall_along_a_line():
    """Of triangle waves; 0.02 from it at most with 16 frequencies (observed .019)."""
    turns = np.linspace(0, 1, 100)
    assert abs((angles(np.zeros(1), 32) @ angles(turns, 32).T)[0] - (1 - 2 * turns)).max() < 0.025


@pytest.mark.parametrize("given", [Attributes("price"), Attributes(Number("price", 1e-3, 1e6)), Attributes("price", "brand")], ids=repr)
def test_prices_of_nine_decades_are_ordered(given):
    prices = np.logspace(-2.9, 5.9, 500)
    vectors = made(given, [{"price": float(each)} for each in prices]).astype(np.float64)
    for at in (0, 120, 250, 499):
        far = ((vectors - vectors[at]) ** 2).sum(axis=1)
        assert (np.diff(far[at:]) > 0).all() and (np.diff(far[: at + 1]) < 0).all()


def test_negative_numbers_and_ends_of_ranges():
    signed = made(Attributes("price"), [{"price": each} for each in (-1e12, -5.0, -0.01, 0.0, 0.01, 5.0, 1e12)])
    far = ((signed - signed[0]) ** 2).sum(axis=1)
    assert (np.diff(far) > 0).all()
    ranged = made(Attributes(Number("price", 10, 20, "linear")), [{"price": each} for each in (-5.0, 10.0, 15.0, 20.0, 99.0)])
    assert np.array_equal(ranged[0], ranged[1]) and np.array_equal(ranged[3], ranged[4])
    assert ranged[1] @ ranged[2] == pytest.approx(0, abs=1e-6)


def test_moments_have_ranges_and_weeks():
    def at(*day):
        return {"at": Datetime().coerce_one("at", datetime(*day, tzinfo=UTC))}

    weekly = made(Attributes(Cyclic("at", "week")), [at(2024, 1, 7), at(2024, 1, 14), at(2024, 1, 8), at(2024, 1, 10), at(1969, 12, 28)])
    np.testing.assert_allclose(weekly[0], weekly[1], atol=1e-6)
    np.testing.assert_allclose(weekly[0], weekly[4], atol=1e-6)  # before 1970
    assert weekly[0] @ weekly[2] > weekly[0] @ weekly[3]
    decade = Attributes(Number("at", "2020-01-01", datetime(2030, 1, 1, tzinfo=UTC)))
    ranged = made(decade, [at(2024, 1, 7), at(2024, 1, 14), at(2029, 1, 1)])
    assert ranged[0] @ ranged[1] > 0.99 > 0.1 > ranged[0] @ ranged[2]


def test_categories_are_nearly_at_right_angles():
    """300 brands in 56 dimensions: the mean of the cosines is 0 and their deviation 1/√56 = .134 (observed .134)."""
    vectors = np.stack([categories(0, [f"brand {i}"], 56) for i in range(300)])
    cosines = (vectors @ vectors.T)[np.triu_indices(300, 1)]
    assert abs(cosines.mean()) < 0.01 and cosines.std() == pytest.approx(56**-0.5, rel=0.05)
    one, two = categories(0, ["x", "y", "x"], 56), categories(0, ["y", "x"], 56)
    assert np.array_equal(one, two) and not categories(0, [], 56).any()
    assert one @ categories(0, ["x"], 56) > 0.5
    rows = made(Attributes("brand", Category("tags")), [{"brand": "x", "tags": ["x"]}, {"brand": "x"}, {"tags": ["x"]}])
    assert abs(rows[1] @ rows[2]) < 0.3 and rows[0] @ rows[1] > 0.2  # an equal value of another attribute is another category


def test_what_is_missing_adds_nothing():
    given = Attributes("price", Cyclic("weekday", 7), "brand", "new")
    whole, lacking, none = made(given, [{"price": 3.0, "weekday": 2, "brand": "a", "new": False}, {"price": 3.0}, {"text": "t"}])
    assert whole @ whole == pytest.approx(1, abs=0.35) and lacking @ lacking == pytest.approx(0.25) and not none.any()
    assert whole @ lacking == pytest.approx(0.25)
    heavy = made(Attributes(Number("price", weight=3), "brand"), [{"price": 3.0}])[0]
    assert heavy @ heavy == pytest.approx(0.75)


def test_a_series_is_its_shape_its_mean_and_its_deviation():
    wave = np.sin(np.linspace(0, 6, 64))
    shape, mean, deviation = series((wave * 5 + 100).tolist(), 64, 40)
    other, *_ = series((wave * 1e-3 - 7).tolist(), 64, 40)
    np.testing.assert_allclose(shape, other, atol=1e-9)
    assert mean == pytest.approx((wave * 5 + 100).mean()) and deviation == pytest.approx((wave * 5).std())
    assert shape @ shape > 0.99 and shape @ series((-wave).tolist(), 64, 40)[0] < -0.99
    np.testing.assert_array_equal(series([*range(1000), *wave.tolist()], 64, 40)[0], series(wave.tolist(), 64, 40)[0])
    assert series(wave[::4].tolist(), 64, 40)[0] @ shape > 0.97  # stretched; observed .986
    assert not series([4.0] * 64, 64, 40)[0].any() and series([4.0], 64, 40)[1:] == (4.0, 0.0)
    assert np.isfinite(series([1e308, -1e308] * 32, 64, 40)[0]).all()


def test_a_row_has_the_same_bits_whatever_stands_beside_it():
    rng = np.random.default_rng(1)
    numbers = zip(rng.lognormal(3, 3, 200).tolist(), rng.integers(0, 90, 200).tolist(), strict=True)
    rows = [{"price": price, "weekday": n % 7, "brand": f"b{n % 9}", "readings": rng.normal(size=n).tolist()} for price, n in numbers]
    for given in (Attributes("price", Cyclic("weekday", 7), "brand"), Series("readings")):
        whole = made(given, rows)
        assert all(np.array_equal(made(given, [row])[0], vector) for row, vector in zip(rows, whole, strict=True))


WRONG = [
    (lambda: Attributes(), r"needs attributes, such as Attributes\('price', Cyclic\('weekday', 7\)\)"),
    (lambda: Attributes(7), "takes names of attributes, Number"),
    (lambda: Attributes("price", "price"), "has 'price' twice"),
    (lambda: Number(7), r"Number needs the name of an attribute, as in Number\('price'\), not 7"),
    (lambda: Number("price", scale="sqrt"), "scale must be one of 'log', 'linear'"),
    (lambda: Number("price", weight=0), r"weight of Number\('price'\) must be a number from 1e-06 to 1,000, not 0"),
    (lambda: schema(Attributes("cost")), "derived from 'cost', which is not an attribute; the attributes: price"),
    (lambda: schema(Attributes("text")), "can't be derived from 'text', which is text; leave it out"),
    (lambda: schema(Attributes("at")), r"write Number\('at', …\) or Cyclic\('at', …\)"),
    (lambda: schema(Attributes(Number("brand"))), r"from Number\('brand'\), which is keyword; write Category\('brand'\)"),
    (lambda: schema(Attributes("readings")), r"'readings' is an array; write derived=Series\('readings'\)"),
    (lambda: schema(Attributes(Number("at"))), "of moments needs low and high, such as low='2020-01-01'"),
    (lambda: schema(Attributes(Number("at", "soon", "2030-01-01"))), "low 'soon'|low must be"),
    (lambda: schema(Attributes(Number("at", "2020-01-01", "2030-01-01", "log"))), "whose differences count; leave scale out"),
    (lambda: schema(Attributes(Number("price", scale="linear"))), "with scale='linear' needs low and high, such as low=0, high=100"),
    (lambda: schema(Attributes(Number("price", 5))), "with one end of a range needs low and high"),
    (lambda: schema(Attributes(Number("price", 5, 5))), "needs low below high, not 5 and 5"),
    (lambda: schema(Attributes(Number("price", 0, 5))), "needs low above 0, or scale='linear'"),
    (lambda: schema(Attributes(Number("price", "a", 5))), r"low of Number\('price'\) must be a finite number, not 'a'"),
    (lambda: schema(Attributes(Cyclic("weekday", 0))), r"period of Cyclic\('weekday'\) must be a number above 0, such as 7, not 0"),
    (lambda: schema(Attributes(Cyclic("weekday", "week"))), "must be a number above 0"),
    (lambda: schema(Attributes(Cyclic("at", 7))), "must be 'day', 'week' or 'year', not 7"),
    (lambda: schema(Attributes("price", "brand"), dim=9), r"has 9 dimensions, and its 2 attributes need 10 or more; write Dense\(80"),
    (lambda: Series(""), "Series needs the name of an attribute"),
    (lambda: Series("readings", window=1), "window must be an integer from 2 to 65536"),
    (lambda: Series("readings", mean=-1), "mean of Series must be a number from 0 to 1,000"),
    (lambda: schema(Series("price")), r"must be Float\(array=True\) or Int\(array=True\)"),
    (lambda: schema(Series("readings"), dim=6), "needs 8 dimensions or more, not 6"),
    (lambda: Schema({"s": Sparse(derived=Attributes("price"))}, TYPES), r"'s' is sparse, but Attributes makes dense vectors"),
    (lambda: Schema({"s": Dense(16, derived=Attributes("price")), "t": Dense(8, derived=Prefix("s"))}, TYPES), "itself derived"),
    (
        lambda: Schema.from_dict({"vectors": {"p": {"kind": "dense", "dim": 9, "derived": {"by": "attributes"}}}}),
        "must be a list, not None",
    ),
]


@pytest.mark.parametrize("make, words", WRONG)
def test_wrong_definitions_are_refused(make, words):
    with pytest.raises(SchemaError, match=words) as caught:
        make()
    assert caught.value.field is not None


def test_a_definition_is_a_value_with_a_json_form():
    given = Attributes("price", Number("at", "2020-01-01", "2030-01-01", weight=2), Cyclic("weekday", 7), Category("tags"))
    assert given == Attributes(*given.attributes) and hash(given) == hash(Attributes(*given.attributes))
    one, two = schema(given), schema(Series("readings", window=32, mean=0))
    for each in (one, two):
        assert Schema.from_dict(each.to_dict()) == each
    moment = schema(Attributes(Number("at", datetime(2020, 1, 1, tzinfo=UTC), "2030-01-01")))
    read = Schema.from_dict(moment.to_dict()).vectors["profile"]
    row = [{"at": 1_700_000_000_000_000}]
    assert np.array_equal(read.derived.vectors(8, row, TYPES), moment.vectors["profile"].derived.vectors(8, row, TYPES))
    assert repr(Attributes("price", Category("tags"))) == "Attributes('price', Category(attribute='tags', weight=1.0))"
