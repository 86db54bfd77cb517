"""Workers of the harness are forked (``tests.support.bench_workers``); those of a killed run and of checkouts are new interpreters."""

import pytest

from bench import remote
from tests.support import bench_workers


@pytest.fixture(scope="session", autouse=True)
def forked_workers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "start", bench_workers.start)
        yield
