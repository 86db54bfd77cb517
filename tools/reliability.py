"""Write docs/RELIABILITY.md from what the last nightly run counted: ``python tools/reliability.py FOLDER``."""

from __future__ import annotations

import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

TARGET = Path(__file__).parents[1] / "docs" / "RELIABILITY.md"

# (heading, what is done, names of the counts)
SECTIONS = (
    (
        "kill −9",
        "A process writes, deletes, changes the schema, makes and drops collections, indexes, merges and compacts, and is killed at a "
        "named step (`vectordb/failpoints.py`; each of them fired in this run) or at a random moment. Afterwards: every acknowledged batch "
        "is there, none by half, `check` is clean, searches through the indexes find what exact ones find.",
        ("kills",),
    ),
    (
        "Power loss",
        "Images of `data.mdb` are made of what lay on the disk at the last sync and any part of the pages written since: a first part, a "
        "last part, any pages, torn ones. Each must open with the state before or after the commit. Images of a disk that lies about its "
        "syncs, and of files cut off or filled with zeros, may be refused by an error that names the file, never answered wrongly. Index "
        "files: any part of what wasn't synced missing.",
        ("power_loss", "power_loss_index_*"),
    ),
    (
        "Full disk, I/O errors, failed syncs",
        "LMDB's descriptor is replaced by one whose writes or syncs the kernel refuses (ENOSPC, EIO, EINVAL, EBADF); a limit on the size "
        "of files; a small tmpfs where one can be mounted; failing steps of an index build. The error is typed and names the directory, "
        "writes are refused until it is reopened, reads go on, nothing acknowledged is lost. (In CI as a whole; counted here where the "
        "file system was real.)",
        ("full_file_system",),
    ),
    (
        "Flipped bits",
        "One bit of any file, drawn evenly from six kinds of places; then the directory is opened, asked, written to, and asked again in "
        "another process. No answer may be wrong, no process may end.",
        ("bit_flips",),
    ),
    (
        "Fuzzing",
        "Seeded mutations of sound input. Only errors of ours may come out, within 5 seconds a case. Chunks and index headers get right "
        "checksums, so that what is behind these is reached.",
        ("fuzz_*",),
    ),
    (
        "Files changed under processes",
        "lock.mdb, data.mdb, all lock files or the whole directory are removed, moved, replaced by an older copy or restored from a "
        "snapshot while one process has them open and another opens them; both go on writing. Every write that was acknowledged after that "
        "is in a directory that is there, `check` is clean, and what nobody removed is still there.",
        ("files *",),
    ),
    (
        "Churn",
        "Points with long ids come and go: the change log stays within its bound of bytes, and so does the data file.",
        ("churn_*",),
    ),
    (
        "Concurrency",
        "Eight writers and eight readers on twelve points, embedded and served; the history of each point must be linearizable.",
        ("concurrency_*",),
    ),
    (
        "Soak",
        "Mixed load on `vectordb serve` while it is killed; every answer is checked against a model, everything is compared now and then, "
        "memory is compared within the last part, which has no kills.",
        ("soak",),
    ),
)
LIMITS = """## What is not covered

- Bits that flip in pages which a running process has read already: the tree is walked when a directory is opened, and by
  `vectordb check`. Vectors, payloads and postings have checksums that are verified when they are first read.
- A directory of format 1 or 2 has no digest of its records until its first write: until then its tree is walked, but a changed
  id record isn't seen.
- The digest is against accidents. Whoever can write the files can forge it.
- The disk's own cache lying about syncs can lose acknowledged batches; it is told where it leaves pages that don't fit together.
"""


def kept() -> dict[str, str]:
    """The rows of the page as it is, by what was run: those that the folder has no newer run of stay."""
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
        "What is attacked, how, and what the last nightly runs counted (`make nightly`, then `python tools/reliability.py FOLDER`, which "
        "writes this page); each names its commit. A run that finds a problem fails and leaves no counts. A small share of all but the "
        "soak runs in CI.",
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
