"""Run ``vectordb demo`` many times while other processes use every core: ``python tools/demo_under_load.py --runs 20``.

Each run starts with an empty cache of compiled kernels, unless ``--warm`` is given. Prints one line per run, and the whole output of a run
that failed. Exit code: 0 if every run succeeded, else 1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


def main() -> int:
    parser = argparse.ArgumentParser(description="Run vectordb demo many times on a busy machine.")
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="how many times (20)")
    parser.add_argument("--load", type=int, default=os.cpu_count() or 1, metavar="N", help="busy processes beside it (one per core)")
    parser.add_argument("--nice", type=int, default=5, metavar="N", help="niceness of the busy processes (5)")
    parser.add_argument("--warm", action="store_true", help="keep the cache of compiled kernels from run to run")
    parser.add_argument("--limit-points", metavar="N", help="an option of the demo, passed on to it")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "vectordb", "demo"]
    if arguments.limit_points:
        command += ["--limit-points", arguments.limit_points]
    taken, failed = [], 0
    with _load(arguments.load, arguments.nice):
        for number in range(1, arguments.runs + 1):
            code, seconds, output = _run(command, arguments.warm)
            taken.append(seconds)
            print(f"run {number} of {arguments.runs}: exit code {code}, {seconds:.1f} s", flush=True)
            if code:
                failed += 1
                print(output, flush=True)
    print(f"{arguments.runs - failed} of {arguments.runs} runs succeeded; median {statistics.median(taken):.1f} s, most {max(taken):.1f}")
    return 1 if failed else 0


def _run(command: list[str], warm: bool) -> tuple[int, float, str]:
    """(exit code, seconds, output) of one run."""
    with ExitStack() as stack:
        environment = dict(os.environ)
        if not warm:
            environment["VECTORDB_CACHE_DIR"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="vectordb-cache-"))
        start = time.monotonic()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, time.monotonic() - start, done.stdout


@contextmanager
def _load(processes: int, niceness: int) -> Iterator[None]:
    """Processes that compute for as long as the block runs."""
    busy = f"import os\nos.nice({niceness})\nwhile True: pass"
    running = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    raise SystemExit(main())
