"""The process that compiles kernels for another one (``ahead``): it reads signatures and answers when each is in the folder."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

# What such a process runs; ``path`` is the other's sys.path, so that both have the same package.
CODE = (
    "import json, sys; job = json.loads(sys.stdin.readline()); sys.path[:] = job['path']\n"
    "from vectordb.kernels import worker; worker.main(job)"
)


def main(job: dict[str, Any]) -> None:
    """Compile the signatures on stdin, one JSON object per line, until stdin ends.

    job: aim (a tier, or None for this processor), folder, first (the number where the names of symbols begin, or None).
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # what anybody prints must not be taken for an answer
    from . import tiers

    if job["aim"] is not None:
        tiers.aim_at(job["aim"])
    from . import internals, jit, store
    from .signatures import Signature

    folder = store.Folder(Path(job["folder"]))
    store.use_folder(folder.path)
    jit.watch.on_miss = lambda name: False
    if job["first"] is not None:
        internals.number_symbols(job["first"])
    try:
        for line in sys.stdin:
            signature = Signature(**json.loads(line))
            started = time.process_time()
            try:
                signature.dispatcher().compile(signature.arguments())
                kept = signature.name() in folder
                answer = {"seconds": time.process_time() - started, "problem": None if kept else f"nothing can be written to {folder.path}"}
            except Exception as error:
                answer = {"seconds": 0.0, "problem": f"{signature.kernel}: {type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers)
    except (KeyboardInterrupt, BrokenPipeError):  # the other process ends as well, and says so
        os._exit(130)


def _end_with(parent: int) -> None:
    """End this process soon after its parent was killed: nobody waits for what it compiles."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
