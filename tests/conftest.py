"""Fixtures for all tests: a database in a new directory, which is checked at the end, and a second process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import vectordb
from tests.support import calibration, nightly
from tests.support.worker import Worker
from vectordb.engine.check import check
from vectordb.warm import warm

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # pytest was started by nohup, or in the background of a script
    # Still ignored here, but programs that tests start don't inherit a handler, as they would inherit SIG_IGN: Ctrl-C ends them.
    signal.signal(signal.SIGINT, lambda *_: None)

# By day the directories of tests lie in memory where there is room: a disk takes milliseconds for a sync, and a small database makes ten.
# By night they lie on a disk. A variable that is set already says where, as pytest documents it.
MEMORY, ROOM = Path("/dev/shm"), 4 << 30
if not nightly.FOLDER and MEMORY.is_dir() and os.statvfs(MEMORY).f_bavail * os.statvfs(MEMORY).f_frsize > ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
# Hypothesis generates the same cases everywhere, so that results are reproducible. HYPOTHESIS_PROFILE=dev searches for new ones.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config):
    """Compile the kernels once, before several test workers do so at the same time."""
    if not hasattr(config, "workerinput"):
        warm()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before the fixtures of the test, of its module too, which may build indexes."""
    calibration.use(full=bool(nightly.FOLDER) or "full_calibration" in item.fixturenames)


@pytest.fixture
def full_calibration():
    """Indexes are calibrated as a user's (``pytest_runtest_setup``), not with few queries, which takes a tenth of the time: for tests that
    ask for a recall, or for what a calibration measured.
    """


@pytest.fixture
def directory(tmp_path):
    """The path for a new database. If it exists at the end of the test, ``check`` must find no damage."""
    path = tmp_path / "data"
    yield path
    if (path / "data.mdb").exists():
        assert check(path).problems == ()


@pytest.fixture
def database(directory):
    """An open, empty database."""
    with vectordb.open(directory, durability="batched") as opened:
        yield opened


@pytest.fixture
def worker():
    """A second process."""
    with Worker() as other:
        yield other
