"""Tests that attack run a few cases by default and many when $VECTORDB_NIGHTLY names a folder, where they leave their counts."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

FOLDER = os.environ.get("VECTORDB_NIGHTLY")


def cases(quick: int, nightly: int) -> int:
    """How many cases to run."""
    return nightly if FOLDER else quick


def record(name: str, **counts) -> None:
    """Leave what a test counted, for docs/RELIABILITY.md. Nothing by default."""
    if not FOLDER:
        return
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True).stdout.strip()
    folder = Path(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"name": name, "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "commit": commit, "counts": counts}
    (folder / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n")
