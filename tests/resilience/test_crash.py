"""kill −9 at every named step of every change, and at random moments: acknowledged writes survive, no write is partly present, and the
directory opens without damage.
"""

from __future__ import annotations

import collections
import random
import re
import signal
import time
from pathlib import Path

import vectordb
from tests.support import forked
from tests.support.crash_load import SCHEMA, Model, small, write_on
from tests.support.nightly import cases, record
from tests.support.upkeep import index_files
from vectordb.common import failpoints
from vectordb.engine.check import check
from vectordb.storage import catalog, segments

ROUNDS = cases(1, 15)  # kills at each step
AT_RANDOM = cases(5, 75)
FAVOURED = {
    "delete": "delete",
    "transaction": "transact",
    "collection": "create",
    "drop": "drop",
    "schema": "add_field",
    "rename": "rename",
    "field": "change_field",
    "index": "optimize",
    "compact": "optimize",
    "tidy": "optimize",
}


def test_every_step_is_listed():
    """``failpoints.STEPS``, and a module's own ``STEPS``, name what is reached, and nothing else."""
    root = Path(vectordb.__file__).parent
    sources = {path: path.read_text() for path in root.rglob("*.py")}
    listed = set()
    for text in sources.values():
        for block in re.findall(r"^STEPS = \((.*?)^\)", text, re.MULTILINE | re.DOTALL):
            listed.update(re.findall(r"\"([a-z_]+\.[a-z_]+)\"", block))
    reached = {name for text in sources.values() for name in re.findall(r"\breach\(\"([^\"]+)\"\)", text)}
    assert set(failpoints.STEPS) <= listed == reached


def test_nothing_is_lost_or_there_by_half_whatever_step_a_process_is_killed_at(directory, monkeypatch):
    small(monkeypatch)
    with vectordb.open(directory) as database:
        database.create_collection("c", SCHEMA)
    context = forked.context()
    rng, model, done, fired, lost = random.Random(1), Model(), 0, collections.Counter(), 0
    plan = [*failpoints.STEPS, *[None] * (AT_RANDOM // ROUNDS)] * ROUNDS
    rng.shuffle(plan)
    for kill, name in enumerate(plan):
        favoured = None if name is None else FAVOURED.get(name.partition(".")[0])
        if name == "tidy.removed":
            leave_a_file(directory)
        nth = rng.choice([1, 1, 2, 3]) if ROUNDS > 1 and name not in ("tidy.removed", "index.replaced") else 1
        ours, theirs = context.Pipe(duplex=False)
        arguments = (str(directory), done, model, favoured, theirs, name, nth, rng.choice(["commit", "batched"]))
        process = context.Process(target=write_on, args=arguments, daemon=True)
        process.start()
        theirs.close()
        assert ours.poll(300), name
        if name is None:
            time.sleep(rng.uniform(0.0, 0.15))
            process.kill()
        process.join(300)
        assert process.exitcode == -signal.SIGKILL, f"{name} wasn't reached {nth} times"
        fired[name] += 1
        for k in range(done + 1, last_of(ours, done) + 1):
            model, _ = model.after(k, favoured)
            done = k
        with vectordb.open(directory, create=False, maintenance=False) as database:
            if not model.holds_in(database):  # the step that was running may be there, whole
                model, _ = model.after(done + 1, favoured)
                assert model.holds_in(database), (kill, name)
                done += 1
                lost += 1
            model.assert_found_by_searches(database)
        report = check(directory)
        assert (report.problems, report.notes) == ((), ()), (kill, name)
    with vectordb.open(directory, create=False, maintenance=False) as database:
        database.collection("c").optimize()
        assert model.holds_in(database)
        model.assert_found_by_searches(database)
        with database.directory.env.read() as txn:
            named = segments.named_files(txn, list(catalog.names(txn).values()))
        assert index_files(directory) == named  # what the dead left behind is gone
    assert set(failpoints.STEPS) <= set(fired)
    record("kills", kills=len(plan), steps=len(failpoints.STEPS), at_random=fired[None], batches=done, there_unacknowledged=lost)


def leave_a_file(directory) -> None:
    """One that no record names."""
    folder = segments.folder(directory)
    folder.mkdir(exist_ok=True)
    (folder / segments.new_name(1, 16, 0, 10)).write_bytes(b"left behind")


def last_of(connection, done: int) -> int:
    """The last step that was told of."""
    while True:
        try:
            done = connection.recv()
        except EOFError:
            return done
