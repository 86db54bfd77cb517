"""CPUs without instructions for byte products use other kernels and get the same hits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import nightly
from tests.support.indexed import METRICS, small
from tests.support.paths import ROOT
from tests.support.search_apart import hits, products
from vectordb.kernels import tiers
from vectordb.kernels.dots import code_dot


def plain(*arguments) -> dict:
    """What ``search_apart`` prints with plain kernels."""
    command = [sys.executable, "-m", "tests.support.search_apart", *map(str, arguments)]
    environment = os.environ | {"VECTORDB_PLAIN_KERNELS": "1"}
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def test_plain_kernels_multiply_to_the_same_numbers():
    """Of one row and of several: the one thing in which the two paths differ. Whole searches are compared below, by night."""
    there, here = plain("dots"), products()
    assert not there["fast"] and len(there["one"]) == 20
    assert (there["one"], there["several"]) == (here["one"], here["several"]) and here["one"] == here["several"]


@pytest.mark.skipif(not nightly.FOLDER, reason="over a minute, in which every kernel of a search is compiled; by night")
@pytest.mark.parametrize("metric", METRICS)
def test_plain_kernels_find_the_same_rows_with_the_same_scores(metric, tmp_path):
    file = tmp_path / "index"
    file.write_bytes(small(metric).file)
    there, ours = plain("hits", metric, file), hits(metric, file)
    assert not there["fast"]
    assert there["hits"].keys() == ours["hits"].keys()
    for setting, answers in ours["hits"].items():
        assert there["hits"][setting] == answers, setting


def test_codes_are_multiplied_exactly():
    """At the ends of what a byte holds, on either path."""
    for row, query in ((255, 127), (255, -127), (0, 127), (1, -1)):
        a, b = np.full(65_536, row, np.uint8), np.full(65_536, query, np.int8)
        for lines in (1, 6, 1_024):
            assert code_dot(a.ctypes.data, b.ctypes.data, lines) == row * query * 64 * lines


def test_the_environment_chooses_the_plain_path(monkeypatch):
    monkeypatch.setenv("VECTORDB_PLAIN_KERNELS", "1")
    assert not tiers.fast_dot()
    monkeypatch.setenv("VECTORDB_PLAIN_KERNELS", "0")
    flags = Path("/proc/cpuinfo")
    if flags.exists():
        assert tiers.fast_dot() == ("avx512_vnni" in flags.read_text().split())
