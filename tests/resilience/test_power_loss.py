"""Power loss: synced data survives, and any part of the unsynced data may be missing or torn without a wrong answer.

Images of a directory combine the disk's content at the last sync with any subset of the pages written since. Images of a disk that lies
about its syncs may be refused with an error that names the file, but must not give wrong answers.
"""

from __future__ import annotations

import collections
import random
import shutil
from pathlib import Path

import pytest

import vectordb
from tests.support.crash_load import SCHEMA, Model, small
from tests.support.nightly import cases, record
from vectordb import CorruptionError, StorageError
from vectordb.common import failpoints
from vectordb.engine.check import check

PAGE, SECTOR, METAS = 4_096, 512, 2
STEPS = cases(40, 300)
IMAGES = cases(2, 8)  # of each kind, a commit


class Disk:
    """What was on a directory's disk around each commit, as failpoints see it."""

    def __init__(self, path: Path):
        self.path = path
        self.synced = self.data()
        self.commits: list[tuple[bytes, bytes]] = []  # (as it was synced before, with all that the commit wrote)

    def data(self) -> bytes:
        return (self.path / "data.mdb").read_bytes()

    def committed(self) -> None:
        self.commits.append((self.synced, self.data()))

    def was_synced(self) -> None:
        self.synced = self.data()


def changed(before: bytes, after: bytes) -> list[int]:
    """Pages that differ."""
    return [
        page for page in range(len(after) // PAGE) if before[page * PAGE : page * PAGE + PAGE] != after[page * PAGE : page * PAGE + PAGE]
    ]


def with_pages(before: bytes, after: bytes, pages, torn=()) -> bytes:
    """``before`` with some pages of ``after``; of torn ones only some sectors."""
    image = bytearray(before)
    for page in pages:
        image.extend(bytes(max(0, (page + 1) * PAGE - len(image))))
        image[page * PAGE : page * PAGE + PAGE] = after[page * PAGE : page * PAGE + PAGE]
    for page, sectors in torn:
        image.extend(bytes(max(0, (page + 1) * PAGE - len(image))))
        for sector in sectors:
            at = page * PAGE + sector * SECTOR
            image[at : at + SECTOR] = after[at : at + SECTOR]
    return bytes(image)


def unsynced(rng: random.Random, before: bytes, after: bytes):
    """(kind, image, whether the commit may be there, whether it must be) as an honest disk may leave it."""
    pages = changed(before, after)
    metas, data = [p for p in pages if p < METAS], [p for p in pages if p >= METAS]
    for _ in range(IMAGES):
        yield "a first part of the pages", with_pages(before, after, data[: rng.randint(0, len(data))]), False
        yield "a last part of the pages", with_pages(before, after, data[rng.randint(0, len(data)) :]), False
        some = [page for page in data if rng.random() < 0.5]
        torn = [(page, [s for s in range(PAGE // SECTOR) if rng.random() < 0.5]) for page in data if rng.random() < 0.3]
        yield "some pages, some of them torn", with_pages(before, after, some, torn), False
    yield "all pages but the first ones", with_pages(before, after, data), False
    yield "everything", with_pages(before, after, data + metas), True


def lied_about(rng: random.Random, before: bytes, after: bytes):
    """(kind, image) of a disk that wrote the first pages before the others."""
    pages = changed(before, after)
    metas, data = [p for p in pages if p < METAS], [p for p in pages if p >= METAS]
    for _ in range(IMAGES):
        yield "first pages before others", with_pages(before, after, [*metas, *(page for page in data if rng.random() < 0.7)])
        yield "a zero-filled tail", after[: (cut := rng.randrange(len(after)))] + bytes(len(after) - cut)
        yield "a tail cut off", after[: rng.randrange(PAGE, len(after))]


def test_after_a_power_loss_synced_batches_are_there_and_no_answer_is_wrong(tmp_path, directory, monkeypatch):
    small(monkeypatch)
    rng, counts = random.Random(3), collections.Counter()
    with vectordb.open(directory, maintenance=False) as database:
        database.create_collection("c", SCHEMA)
        disk = Disk(directory)
        failpoints.arm("commit.unsynced", disk.committed)
        failpoints.arm("commit.synced", disk.was_synced)
        model = Model()
        try:
            for k in range(1, STEPS + 1):
                before = model
                model, do = model.after(k, None)
                disk.commits.clear()
                do(database)
                if not disk.commits or rng.random() > (0.3 if len(disk.commits) == 1 else 1):
                    continue
                base, after = rng.choice(disk.commits)
                shutil.rmtree(tmp_path / "image", ignore_errors=True)
                shutil.copytree(directory, tmp_path / "image")
                failpoints.disarm()
                for kind, image, there in unsynced(rng, base, after):
                    (tmp_path / "image" / "data.mdb").write_bytes(image)
                    assert_holds(tmp_path / "image", model if there else before, kind)
                    counts[kind] += 1
                for kind, image in lied_about(rng, base, after):
                    (tmp_path / "image" / "data.mdb").write_bytes(image)
                    counts[f"{kind}: {never_wrong(tmp_path / 'image', (before, model))}"] += 1
                failpoints.arm("commit.unsynced", disk.committed)
                failpoints.arm("commit.synced", disk.was_synced)
        finally:
            failpoints.disarm()
    assert sum(count for kind, count in counts.items() if kind.endswith("refused")) > 5
    record("power_loss", images=sum(counts.values()), **counts)


def assert_holds(image: Path, model: Model, kind: str) -> None:
    with vectordb.open(image, create=False, maintenance=False) as database:
        assert model.holds_in(database), kind
        model.assert_found_by_searches(database)
    assert check(image).problems == (), kind


def never_wrong(image: Path, models) -> str:
    """Opened with a state that there was, or refused by an error that names the file or the chunk."""
    try:
        with vectordb.open(image, create=False, maintenance=False) as database:
            held = [model for model in models if model.holds_in(database)]
            assert held
            held[0].assert_found_by_searches(database)
            return "opened"
    except CorruptionError as error:
        assert "data.mdb" in str(error) or "chunk " in str(error), error
        return "refused"
    except StorageError as error:
        assert str(image) in str(error), error
        return "refused"


@pytest.mark.parametrize(
    "step", ["index.section", "index.unsynced", "index.written", "index.renamed", "index.folder_synced", "index.replaced"]
)
def test_an_index_file_of_which_only_a_part_reached_the_disk_does_no_harm(tmp_path, directory, monkeypatch, step):
    small(monkeypatch)
    rng, model, images = random.Random(step), Model(), []

    def photograph() -> None:
        image = tmp_path / f"image{len(images)}"
        shutil.copytree(directory, image)
        images.append(image)

    with vectordb.open(directory, maintenance=False) as database:
        database.create_collection("c", SCHEMA)
        for k in range(1, 40):
            model, do = model.after(k, "upsert")
            do(database)
        database.collection("c").optimize()
        for k in range(40, 60):
            model, do = model.after(k, "upsert")
            do(database)
        failpoints.arm(step, photograph)
        try:
            database.collection("c").optimize()
        finally:
            failpoints.disarm()
    assert images
    count = 0
    for image in rng.sample(images, min(len(images), cases(2, 20))):
        with vectordb.open(image, maintenance=False) as database, database.collection("c")._snapshots.pin() as view:
            named = {record.file for group in view.snapshot.records.values() for record in group}
        loose = [path for path in (image / "indexes").iterdir() if path.suffix == ".index" and path.name not in named]
        for path in loose:
            whole = path.read_bytes()
            cut = rng.randrange(len(whole) + 1)
            variants = {"gone": None, "empty": b"", "cut off": whole[:cut], "zeros behind": whole[:cut] + bytes(len(whole) - cut)}
            for part in variants.values():
                path.unlink(missing_ok=True)
                if part is not None:
                    path.write_bytes(part)
                if step == "index.renamed" and part is not None:  # the rename may not have reached the disk
                    path.rename(path.with_name("tmp-" + path.name))
                assert_holds(image, model, step)
                count += 1
                path.with_name("tmp-" + path.name).unlink(missing_ok=True)
        assert_holds(image, model, step)
        count += 1
        with vectordb.open(image, maintenance=False) as database:
            database.collection("c").optimize()
            model.assert_found_by_searches(database)
        assert check(image).notes == ()
    record(f"power_loss_{step.replace('.', '_')}", images=count)
