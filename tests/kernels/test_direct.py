"""The kernel of direct searches: its entry points, and how it reads ids. tests/engine/test_direct.py compares whole searches."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest
from numba import types

from tests.support.paths import ROOT
from vectordb.kernels import columns, direct, entry, signatures
from vectordb.kernels.segment import search_segment

pack = msgspec.msgpack.Encoder().encode


def test_numba_has_entry_points():
    """When it fails, numba has changed: direct searches then go through dispatchers, which take a microsecond more."""
    for kernel, found in ((direct.search_direct, entry.search()), (direct.narrow, entry.narrow())):
        (compiled,) = kernel.overloads.values()
        assert found is compiled.entry_point


def test_the_search_of_a_segment_is_called_as_it_is_compiled():
    assert entry.segment_search()
    compiled = search_segment.overloads[direct.SEGMENT_ARGUMENTS]
    assert compiled.signature.return_type == types.int64
    assert f"segment.search_segment({'; '.join(map(str, direct.SEGMENT_ARGUMENTS))})" in signatures.recorded()


def test_without_entry_points_dispatchers_are_called():
    code = (
        "from vectordb.kernels import jit\njit.watch.on_miss = lambda name: False\n"
        "import numpy as np\nfrom vectordb.kernels import direct, entry\n"
        "entry.of = lambda kernel, *given: None\n"
        "query, out = np.array([0.5, 1e300, -2.0]), np.empty(3, np.float32)\n"
        "query.setflags(write=False)\n"
        "entry.narrow()(query, out)\n"
        "print(out.tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.split("\n")[0] == "[0.5, inf, -2.0]", done.stderr[-3000:]


def test_a_query_is_narrowed_as_numpy_does():
    rng = np.random.default_rng(0)
    query = rng.standard_normal(500) * 10.0 ** rng.integers(-50, 50, 500)
    query[:6] = np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4028236e38
    out = np.empty(len(query), np.float32)
    entry.narrow()(query, out)
    with np.errstate(over="ignore", under="ignore"):
        assert out.tobytes() == query.astype(np.float32).tobytes()


def test_a_query_of_another_length_or_norm_is_refused():
    head, lane = np.zeros(direct.HEAD_WIDTH, np.int64), np.zeros(direct.LANE_WIDTH, np.int64)
    room, out = np.zeros(8, np.float32), np.full(3, 7, np.int64)
    lane[direct.QUERY], head[direct.DIM] = room.ctypes.data, 3
    for query in ([1, 2], [1, 2, 3, 4], [0, 0, 0], [1, np.nan, 1], [np.inf, 0, 0], [1e30, 0, 0], [1e-20, 0, 0]):
        assert entry.search()(head.ctypes.data, lane.ctypes.data, np.array(query, np.float32), out) == direct.REFUSED
    assert (out == 7).all() and (room[3:] == 0).all()


@pytest.mark.parametrize("value", [0, 127, 128, 255, 256, 2**16, 2**32, 2**64 - 1], ids=str)
def test_integer_ids(value):
    record = np.frombuffer(pack([value, {}, None]), np.uint8)
    assert columns.integer_of(record, len(record)) == (True, value)
    assert direct.size_of_id(record, len(record)) == len(pack(value))
    for short in range(len(pack(value)) + 1):
        assert not columns.integer_of(record[:short], short)[0] and direct.size_of_id(record[:short], short) < 0


@pytest.mark.parametrize("value", ["", "a", "x" * 31, "x" * 32, "é" * 200, "x" * 480, b"0123456789abcdef", b"y" * 300], ids=len)
def test_other_ids(value):
    record = np.frombuffer(pack([value, {}, None]), np.uint8)
    assert not columns.integer_of(record, len(record))[0]
    assert direct.size_of_id(record, len(record)) == len(pack(value))
    assert direct.size_of_id(record, len(pack(value))) < 0


@pytest.mark.parametrize("value", [-1, 1.5, None, [1], {}], ids=str)
def test_what_is_no_id(value):
    record = np.frombuffer(pack([value, {}, None]), np.uint8)
    assert not columns.integer_of(record, len(record))[0] and direct.size_of_id(record, len(record)) < 0
