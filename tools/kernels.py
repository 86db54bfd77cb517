"""Kernels that are compiled ahead.

python tools/kernels.py record              write vectordb/kernels/signatures.txt again
python tools/kernels.py check               say which signatures are missing from it; exit code 1 when there are any
python tools/kernels.py build [--tiers …]   compile them into archives in vectordb/kernels/archives (or --into FOLDER)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "client"), str(ROOT / "tools")]


def asked() -> list:
    """The signatures that the tasks ask for, without seconds. All that is in the list is compiled first: what a kernel was compiled for as
    a part of another one isn't asked for again in the same process.
    """
    from kernel_tasks import ALSO, TASKS

    from vectordb.kernels import ahead, jit, signatures

    ahead.compile_missing(signatures.recorded().values())
    found: dict[tuple[str, tuple], str] = {}
    for task, run in TASKS.items():
        jit.watch.asked = lambda kernel, args, task=task: found.setdefault((kernel, tuple(map(signatures.text_of, args))), task)
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder))
    for task, kernel, types in ALSO:
        found.setdefault((kernel, tuple(types.split(", "))), task)
    return [signatures.Signature(task, 0.0, kernel, types) for (kernel, types), task in found.items()]


def record(arguments: argparse.Namespace) -> int:
    """Run the tasks, each time in a new process, until nothing new is asked for; then compile all of it in one process, for the seconds."""
    from dataclasses import replace

    from vectordb.common import background
    from vectordb.kernels import ahead, signatures
    from vectordb.kernels.progress import Progress

    seen: set[str] = set()
    while True:
        lines = subprocess.run([sys.executable, __file__, "asked"], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        if seen >= set(lines):
            break
        seen.update(lines)
    wanted = [signatures.parsed(line) for line in lines]
    with background.using(1), tempfile.TemporaryDirectory() as folder:
        outcome = ahead.run(ahead.Job(wanted, Path(folder)), Progress())
    if outcome.problems:
        print(*outcome.problems, sep="\n", file=sys.stderr)
        return 1
    signatures.write(replace(each, seconds=outcome.seconds[each.name()]) for each in wanted)
    print(f"{len(wanted)} signatures, {sum(outcome.seconds.values()):.1f} s of processor time to compile, in {signatures.PATH}")
    return 0


def ask(arguments: argparse.Namespace) -> int:
    """Print what the tasks ask for."""
    print(*(each.line() for each in asked()), sep="\n")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Compare the list with what the tasks ask for."""
    from vectordb.kernels import signatures

    listed = {(each.kernel, each.types) for each in signatures.read()}
    needed = {(each.kernel, each.types) for each in asked()}
    for kernel, types in sorted(needed - listed):
        print(f"missing from the list: {kernel}; {', '.join(types)}")
    for kernel, types in sorted(listed - needed):
        print(f"no longer needed: {kernel}; {', '.join(types)}")
    if needed != listed:
        print("run: python tools/kernels.py record")
    return int(needed != listed)


def build(arguments: argparse.Namespace) -> int:
    """Make archives."""
    from vectordb.kernels import build as builder
    from vectordb.kernels import store

    into = Path(arguments.into) if arguments.into else store.ARCHIVES
    try:
        for tier in builder.tiers_named(arguments.tiers):
            made = builder.build(tier, into)
            spent = sum(made.cpu_seconds.values())
            print(f"{made.path.name}: {made.kernels} kernels, {made.size:,} bytes, {made.seconds:.1f} s ({spent:.1f} s of processor time)")
    except builder.BuildError as error:
        print(f"kernels: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("record").set_defaults(run=record)
    commands.add_parser("asked", help="what the tasks ask for; used by record").set_defaults(run=ask)
    commands.add_parser("check").set_defaults(run=check)
    builds = commands.add_parser("build")
    builds.add_argument("--tiers", default="all", help="a list with commas: names of tiers, host, all, none (default: all)")
    builds.add_argument("--into", metavar="FOLDER")
    builds.set_defaults(run=build)
    arguments = parser.parse_args()
    started = time.perf_counter()
    code = arguments.run(arguments)
    print(f"{time.perf_counter() - started:.1f} s", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
