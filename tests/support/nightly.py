"""Scale of the fault tests: few cases by default, many if $VECTORDB_NIGHTLY names a folder, to which they write their counts."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from tests.support.paths import ROOT

FOLDER = os.environ.get("VECTORDB_NIGHTLY")


def cases(quick: int, nightly: int) -> int:
    """The number of cases to run."""
    return nightly if FOLDER else quick


def record(name: str, **counts) -> None:
    """Write the counts of a test for docs/RELIABILITY.md. Does nothing without $VECTORDB_NIGHTLY."""
    if not FOLDER:
        return
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    folder = Path(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"name": name, "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "commit": commit, "counts": counts}
    (folder / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n")
