"""Write docs/RELIABILITY.md from what the last nightly run counted: ``python tools/reliability.py FOLDER``."""

from __future__ import annotations

import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

TARGET = Path(__file__).parents[1] / "docs" / "RELIABILITY.md"

# (heading, description of the test, names of the counts)
SECTIONS = (
    (
        "kill −9",
        "A process writes, deletes, changes the schema, creates and drops collections, indexes, merges and compacts. It is killed "
        "at a named step (`vectordb/common/failpoints.py`; every step was reached in this run) or at a random moment. Afterwards every "
        "acknowledged batch must be present, no batch may be partly present, `check` must be clean, and indexed searches must "
        "find what exact ones find.",
        ("kills",),
    ),
    (
        "Power loss",
        "Images of `data.mdb` are made from what was on the disk at the last sync and a subset of the pages written since: a "
        "first part, a last part, random pages, torn pages. Each image must open with the state before or after the commit. "
        "Images of a disk that lies about its syncs, and of truncated or zero-filled files, may be refused with an error that "
        "names the file, but must never give a wrong answer. For index files, any subset of the unsynced data is missing.",
        ("power_loss", "power_loss_index_*"),
    ),
    (
        "Full disk, I/O errors, failed syncs",
        "The kernel refuses writes or syncs of LMDB's file (ENOSPC, EIO, EINVAL, EBADF), the size of files is limited, a small "
        "tmpfs is full (where one can be mounted), steps of an index build fail. The error must be typed and name the directory. "
        "Writes are refused until the directory is reopened, reads continue, and nothing acknowledged is lost. CI runs all of "
        "this; the count is of a real full file system.",
        ("full_file_system",),
    ),
    (
        "Flipped bits",
        "One bit of a file is flipped, evenly over six kinds of places. Then the directory is opened, queried and written to, and "
        "queried again in another process. No answer may be wrong and no process may crash.",
        ("bit_flips",),
    ),
    (
        "Fuzzing",
        "Seeded mutations of valid input. Only errors of vectordb may be raised, within 5 seconds a case. Chunks and index "
        "headers get correct checksums, so that the code behind the checksums is reached.",
        ("fuzz_*",),
    ),
    (
        "Files changed under processes",
        "lock.mdb, data.mdb, all lock files or the whole directory are removed, moved, replaced by an older copy or restored from "
        "a snapshot, while one process has them open and another opens them. Both continue to write. Every write that was "
        "acknowledged afterwards must be in an existing directory, `check` must be clean, and data that nobody removed must still "
        "exist.",
        ("files *",),
    ),
    (
        "Churn",
        "Points with long ids are written and deleted. The change log must stay within its bound of bytes, and so must the data file.",
        ("churn_*",),
    ),
    (
        "Concurrency",
        "Eight writers and eight readers work on twelve points, embedded and served. The history of each point must be linearizable.",
        ("concurrency_*",),
    ),
    (
        "Soak",
        "Mixed load on `vectordb serve` while it is killed repeatedly. Every answer is checked against a model; from time to time "
        "everything is compared. Memory is compared within the last part of the run, which has no kills.",
        ("soak",),
    ),
)
LIMITS = """## What is not covered

- Bits that flip in pages that a running process has already read. The tree is checked when a directory is opened and by
  `vectordb check`. Checksums of vectors, payloads and postings are verified when they are first read.
- A directory of format 1 or 2 has no digest of its records until its first write. Until then its tree is checked, but a changed id record
  is not detected.
- The digest protects against accidents, not against forgery by someone who can write the files.
- A disk that lies about syncs can lose acknowledged batches. This is detected if the pages on disk don't fit together.
"""


def kept() -> dict[str, str]:
    """Name of each run → its row on the current page. Rows stay if the folder has no newer run of that name."""
    rows = [line for line in TARGET.read_text().splitlines() if line.startswith("| 20")] if TARGET.exists() else []
    return {row.split(" | ")[2]: row for row in rows}


def table(folder: Path, patterns: tuple[str, ...], before: dict[str, str]) -> list[str]:
    rows = {name: row for name, row in before.items() if any(fnmatch(name, pattern.replace("_", " ")) for pattern in patterns)}
    for pattern in patterns:
        for path in sorted(folder.glob(f"{pattern}.json")):
            entry = json.loads(path.read_text())
            counts = "; ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in entry["counts"].items())
            name = entry["name"].replace("_", " ")
            rows[name] = f"| {entry['at']} | {entry['commit']} | {name} | {counts} |"
    return (
        ["| run (UTC) | commit | what | counts |", "| --- | --- | --- | --- |", *(rows[name] for name in sorted(rows))]
        if rows
        else ["Not run."]
    )


def page(folder: Path) -> str:
    before = kept()
    lines = [
        "# Reliability",
        "",
        "This page lists the fault tests of vectordb and the counts of their last full runs, with the commit of each run. A run "
        "that finds a problem fails and leaves no counts. CI runs a small share of every test but the soak. `make nightly` runs "
        "them in full, and `python tools/reliability.py FOLDER` writes this page.",
        "",
    ]
    for heading, about, patterns in SECTIONS:
        rows = table(folder, patterns, before)
        cases = sum(int(found[1].replace(",", "")) for row in rows if (found := re.search(r"\| cases ([\d,]+)", row)))
        total = f" {cases:,} cases in all." if heading == "Fuzzing" else ""
        lines += [f"## {heading}", "", about + total, "", *rows, ""]
    return "\n".join(lines) + "\n" + LIMITS


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(page(Path(sys.argv[1])))
