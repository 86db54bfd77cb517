"""CPUs without instructions for byte products use other kernels and get the same hits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.indexed import METRICS, small
from tests.support.paths import ROOT
from tests.support.search_apart import hits
from vectordb.kernels import tiers
from vectordb.kernels.dots import code_dot


@pytest.mark.parametrize("metric", METRICS)
def test_plain_kernels_find_the_same_rows_with_the_same_scores(metric, tmp_path):
    file = tmp_path / "index"
    file.write_bytes(small(metric).file)
    command = [sys.executable, "-m", "tests.support.search_apart", "hits", metric, file]
    environment = os.environ | {"VECTORDB_PLAIN_KERNELS": "1"}
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    plain, ours = json.loads(ran.stdout), hits(metric, file)
    assert not plain["fast"]
    assert plain["dots"] == ours["dots"]
    assert plain["hits"].keys() == ours["hits"].keys()
    for setting, answers in ours["hits"].items():
        assert plain["hits"][setting] == answers, setting


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
