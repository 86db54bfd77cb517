"""After `pip install` of a wheel nothing is compiled: not for a first hit, and not by any kernel of the list."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from vectordb.kernels import tiers

FIRST_HIT = """
import sys, tempfile
import numpy as np
import vectordb
from vectordb import Dense, F, Int, Schema, Sparse
assert vectordb.__file__.startswith(sys.argv[1]), vectordb.__file__
with vectordb.open(":memory:") as db:
    docs = db.create_collection("docs", Schema({"text": Dense(8), "terms": Sparse(weighting="idf")}, {"lines": Int()}))
    docs.upsert(ids=[1, "a"], vectors={"text": np.eye(8)[:2], "terms": [{7: 1.5}, {9: 2.0}]}, attributes={"lines": [40, 12]})
    hits = docs.search({"text": np.eye(8)[0], "terms": {9: 1.0}}, filter=F("lines") > 20)
from vectordb import warm
from vectordb.kernels import jit, store
print(hits.ids, jit.watch.compiled)
print(warm.warm().compiled, store._found.cache_info().currsize)
"""


no_archives = pytest.mark.skipif(not tiers.tiers_of_host(), reason="archives are for x86-64-v3 and later, and numba as it is by default")


def all_is_compiled(site: str, folder: Path, given: dict[str, str]) -> None:
    """The vectordb in ``site`` compiles nothing, and makes no folder for what it would compile."""
    given = given | {"HOME": "", "VECTORDB_CACHE_DIR": str(folder / "cache")}
    given.pop("XDG_CACHE_HOME", None)
    done = subprocess.run([sys.executable, "-c", FIRST_HIT, site], cwd=folder, env=given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["[1] 0", "0 0"] and done.stderr == ""
    assert not (folder / "cache").exists()


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("VECTORDB_")}


@pytest.mark.skipif(
    "VECTORDB_CI" not in os.environ, reason="half a minute of two cores; .ci/run sets VECTORDB_CI=1 where it tries no wheel"
)
@no_archives
def test_a_wheel_has_every_kernel_compiled(tmp_path):
    """Half a minute of two cores: the kernels of the list are compiled for this machine's tier, as by any `pip install .`."""
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "deploy/")):
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / name).write_bytes((ROOT / name).read_bytes())
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--target", site, tmp_path / "source"], env=environment(), capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    all_is_compiled(str(site), tmp_path, environment() | {"PYTHONPATH": str(site)})


@pytest.mark.skipif("VECTORDB_WHEEL_INSTALLED" not in os.environ, reason="vectordb isn't installed from a wheel; .ci/newest-python does so")
@no_archives
def test_the_installed_wheel_has_every_kernel_compiled(tmp_path):
    """The same of the wheel that this Python has installed."""
    given = environment()
    given.pop("PYTHONPATH", None)
    all_is_compiled(sysconfig.get_path("purelib"), tmp_path, given)
