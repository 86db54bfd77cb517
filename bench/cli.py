"""The commands ``vectordb bench run | compare | report | tune | list | install``. Without vectordb's command line: ``python -m bench.cli``.

Exit codes: 0 success; 1 an error, a floor or a suite's bound that was missed, or an exact mode of vectordb with recall below 1.000; 2 a
wrong command line; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

_QUICK_SUITES = ("dense", "filtered", "sparse", "ingest", "footprint")
_QUICK_SIZE = {"-100k": "-10k", "-50k": "-10k"}


def add_commands(bench: argparse.ArgumentParser) -> None:
    """Add the commands to vectordb's parser. Each command sets the default ``run``, the function that carries it out."""
    commands = bench.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, about: str, details: str = "", usage: str | None = None) -> argparse.ArgumentParser:
        whole = f"{about[0].upper()}{about[1:]}."
        parser = commands.add_parser(
            name, usage=usage, help=about, description=whole, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.set_defaults(run=run)
        return parser

    run = command("run", _run, "measure systems with one or more suites; write results.json, report.md and plots", _RUN_DETAILS)
    run.add_argument(
        "--suite",
        action="append",
        metavar="NAME[,NAME…]",
        help="suites to run (default: those that compare any systems; `bench list` shows them)",
    )
    run.add_argument(
        "--systems",
        default=None,
        metavar="NAME[,NAME…]",
        help="systems to measure (default: vectordb and every installed peer at its best setting, or those of the suite)",
    )
    run.add_argument(
        "--data", action="append", metavar="NAME", help="a data set, by name or path; may be repeated (default: each suite has its own)"
    )
    run.add_argument("--queries-file", metavar="FILE", type=Path, help="a file of query vectors, when --data is a file without queries")
    run.add_argument(
        "--metric", choices=("cosine", "dot", "l2"), help="the metric, when --data is a file (default: the file's own, else cosine)"
    )
    run.add_argument("--column", metavar="NAME", help="the vector column, when --data is a Parquet file")
    run.add_argument("--cells", metavar="TEXT", help="run only the cells and probes whose name contains TEXT, such as 'equality 1 %%'")
    out = "the run's folder (default: bench-DATE-TIME); if DIR holds an unfinished run of the same command, that run continues"
    run.add_argument("--out", metavar="DIR", type=Path, help=out)
    run.add_argument("--quick", action="store_true", help="use small data sets and few cells; takes less than five minutes")
    run.add_argument("--queries", type=_count, metavar="N", help="queries per cell (500; with --quick: 100)")
    run.add_argument("--repeats", type=_count, metavar="N", help="how often each setting is repeated (3)")
    run.add_argument(
        "--cap",
        type=float,
        metavar="SECONDS",
        help="longest time for one pass over the queries; a slow system is measured on fewer queries (20; with --quick: 2)",
    )
    run.add_argument("--threads", type=_count, default=0, metavar="N", help="threads for building an index (default: one per core)")
    run.add_argument("--group", type=_count, default=0, metavar="N", help="keep only N systems in memory at a time (default: all at once)")
    run.add_argument(
        "--minutes",
        type=_positive,
        metavar="M",
        help="stop measuring after M minutes, shared by the data sets and their cells; the same command goes on for another M",
    )
    run.add_argument(
        "--memory",
        type=_positive,
        metavar="GIB",
        help="leave out a system with which all that are alive would hold more than this after its build (default: no bound)",
    )
    run.add_argument("--limit", type=float, default=7200, metavar="SECONDS", help="longest time for a build (7200)")
    run.add_argument(
        "--floor",
        action="append",
        default=[],
        type=_floor,
        metavar="SYSTEM[@SUITE]:RECALL",
        help="exit with code 1 unless some setting of SYSTEM reaches RECALL in every cell (of SUITE); may be repeated",
    )
    run.add_argument("--keep", action="store_true", help="keep the systems' files after the run")

    compare = command("compare", _compare, "compare this vectordb with that of another checkout, in turns", _COMPARE_DETAILS)
    compare.add_argument("checkout", metavar="CHECKOUT", type=Path, help="the folder of the other checkout")
    compare.add_argument("--suite", action="append", metavar="NAME[,NAME…]", help="suites to run (default: compare)")
    compare.add_argument("--data", action="append", metavar="NAME", help="a data set (default: each suite has its own)")
    compare.add_argument("--cells", metavar="TEXT", help="run only the cells and probes whose name contains TEXT")
    compare.add_argument("--rounds", type=_count, metavar="N", help="measured rounds (6; with --quick: 3)")
    compare.add_argument("--quick", action="store_true", help="fewer rounds and calls; takes about two minutes")
    compare.add_argument("--out", metavar="DIR", type=Path, help=out)
    compare.set_defaults(minutes=None, memory=None)

    report = command("report", _report, "write the report and the plots again, from the results of one or more runs")
    report.add_argument("results", metavar="RESULTS", type=Path, nargs="+", help="a results.json, a results.json.gz or a run's folder")
    report.add_argument("--out", metavar="DIR", type=Path, help="the folder for the report (default: the folder of the first RESULTS)")

    report.add_argument("--tables", metavar="FILE", type=Path, help="also write the tables of RESULTS.md into FILE, between two marks")

    tune = command("tune", _tune, "measure a collection of yours: recall, latency, memory and slow filters", _TUNE_DETAILS, _TUNE)
    tune.add_argument("directory", metavar="DIR", type=Path, nargs="?", help="the database's directory; DIR/COLLECTION names both at once")
    tune.add_argument("named", metavar="COLLECTION", nargs="?", help="the name of the collection")
    tune.add_argument("--data", metavar="DIR", type=Path, help="the same as DIR")
    tune.add_argument("--collection", metavar="NAME", help="the same as COLLECTION")
    tune.add_argument("--field", metavar="NAME", help="the vector field (default: the first dense field, else the first vector field)")
    tune.add_argument("--queries", metavar="FILE", type=Path, help="a file of queries, see below (default: points of the collection)")
    tune.add_argument("--count", type=_count, metavar="N", help="number of queries (200; 50 for a multi-vector field)")
    tune.add_argument("--limit", type=_count, metavar="K", help="hits per query (10)")
    tune.add_argument("--recall", metavar="R[,R…]", help="recall targets to measure (0.90,0.95,0.99)")
    tune.add_argument("--codes", action="store_true", help="compare codes at equal memory on the vectors of a dense field instead")
    tune.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to FILE, as JSON")

    command("list", _list, "show the suites, data sets and systems, and what each system still needs")

    install = command("install", _install, "install a system into a virtual environment in the cache folder")
    install.add_argument("systems", nargs="+", metavar="SYSTEM", help="a system that `bench list` shows")


_RUN_DETAILS = """\
To continue a run that was stopped, give the same command with its --out. A system that can't run is listed with the reason; the others run.
Data sets are made or downloaded once, into $VECTORDB_BENCH_CACHE (~/.cache/vectordb/bench).
"""
_COMPARE_DETAILS = """\
Both are measured by this checkout's benchmark, each round in new processes: A B, B A, … Kernels are compiled before, in an unmeasured
round. A ratio above 1 says that this checkout is faster. Nothing else should run on the machine meanwhile.
"""
_TUNE = "vectordb bench tune DIR COLLECTION [options]"
_TUNE_DETAILS = """\
The command reads only. With --codes, it searches no index: it says how many of the ten exact hits float16, int8, RaBitQ, product
quantisation and other codes keep, alone and with the best 30 or 100 rows scored by their vectors.
To measure a fully indexed collection, run first: vectordb optimize DIR COLLECTION
Query files: .npy or .fvecs (dense field); .npz with a SciPy CSR matrix, one column per term (sparse field); .npy of shape
queries × vectors × dim (multi-vector field); or .txt with one text per line, if the field has an encoder. Encoding is not timed.
"""


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer ≥ 1, not {text!r}")
    return int(text)


def _floor(text: str) -> tuple[str, str | None, float]:
    place, colon, least = text.rpartition(":")
    system, _, suite = place.partition("@")
    try:
        value = float(least)
    except ValueError:
        value = -1.0
    if not colon or not system or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be SYSTEM:RECALL or SYSTEM@SUITE:RECALL, such as vectordb:0.95, not {text!r}")
    return system, suite or None, value


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _names(given: Sequence[str], valid: Sequence[str], what: str) -> list[str]:
    chosen = [name for part in given for name in part.split(",") if name]
    for name in chosen:
        if name not in valid:
            raise _Usage(f"unknown {what} {name!r}; known: {', '.join(valid)}")
    return list(dict.fromkeys(chosen))


class _Usage(Exception):
    """The command line is wrong in a way that the parser can't see, such as an unknown name. Exit code 2."""


def _guarded(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The command with its errors printed. Its exit code is 2 if the command line is wrong, 1 after another error."""

    def run(arguments: argparse.Namespace) -> int:
        from .data import DataError

        try:
            return command(arguments)
        except (_Usage, DataError, ValueError, OSError) as error:
            _say(f"vectordb bench: {error}")
            return 2 if isinstance(error, _Usage) else 1

    return run


def _compare(arguments: argparse.Namespace) -> int:
    from . import systems

    other = f"vectordb@{arguments.checkout}"
    reason = systems.available(other)
    if reason is not None:
        _say(f"vectordb bench: {reason}")
        return 2
    unused = dict.fromkeys(("queries", "cap", "queries_file", "metric", "column"))
    vars(arguments).update(unused, floor=[], threads=0, limit=7200, group=0, keep=False)
    arguments.suite, arguments.systems = arguments.suite or ["compare"], f"vectordb,{other}"
    arguments.repeats = arguments.rounds or (3 if arguments.quick else 6)
    return _run(arguments)


@_guarded
def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from . import checks, journal, suites, systems
    from .progress import Progress
    from .run import Plan, run

    usual = _QUICK_SUITES if arguments.quick else [name for name, kind in suites.SUITES.items() if not kind.systems]
    chosen = _names(arguments.suite, suites.SUITES, "suite") if arguments.suite else list(usual)
    own: dict[str, list[str]] = {}
    if arguments.systems:
        given = [name for name in arguments.systems.split(",") if systems.is_file(name) or systems.checkout_of(name)]
        named = _names([arguments.systems], [*systems.SYSTEMS, *given], "system")
    else:
        kinds = {suite: suites.SUITES[suite] for suite in chosen}
        own = {
            suite: [name for name in kind.systems if systems.missing(name) is None] if kind.systems else systems.usual(kind.needs)
            for suite, kind in kinds.items()
        }
        named = []
    every = dict.fromkeys([*named, *(name for names in own.values() for name in names)])
    for system, suite, _ in arguments.floor:
        if system not in every or suite not in (None, *chosen):
            raise _Usage(f"--floor {system}{f'@{suite}' if suite else ''}: this run doesn't measure it; add it to --systems or --suite")
    scale = suites.QUICK if arguments.quick else suites.Scale()
    given = {name: getattr(arguments, name) for name in ("queries", "repeats", "cap") if getattr(arguments, name) is not None}
    pairs = [(suite, name) for suite in chosen for name in _data_of(suite, arguments)]
    options = {"queries": arguments.queries_file, "metric": arguments.metric, "column": arguments.column}
    options = {name: str(value) for name, value in options.items() if value is not None}
    scale = replace(scale, **given)
    bounds = {"minutes": arguments.minutes, "memory": arguments.memory}
    plan = Plan(pairs, named, scale, arguments.cells, arguments.threads, arguments.limit, arguments.group, options, own, **bounds)
    out = arguments.out or Path(time.strftime("bench-%Y%m%d-%H%M%S"))
    console = Console(stderr=True)
    console.print(f"{', '.join(chosen)}: {', '.join(every)}; results go to {out}", markup=False, highlight=False)
    try:
        results = run(plan, out, Progress(console), arguments.keep)
    except KeyboardInterrupt:
        _say(f"\nstopped; to continue, give the same command with --out {out}")
        return 130
    results["plan"]["floors"] = [f"{system}{f'@{suite}' if suite else ''}: {least:g}" for system, suite, least in arguments.floor]
    results["floors_missed"] = journal.floors_missed(results, arguments.floor)
    journal.write(results, out / "results.json")
    _written(results, out)
    missed = [f"floor missed: {text}" for text in results["floors_missed"]] + [f"missed: {text}" for text in checks.missed(results)]
    for text in missed:
        _say(text)
    if results["left"]:
        _say(f"the time was up; to measure what is left, give the same command with --out {out}")
    return 1 if missed else 0


def _data_of(suite: str, arguments: argparse.Namespace) -> Sequence[str]:
    """The names of the data sets on which the suite runs."""
    from . import suites

    kind = suites.SUITES[suite]
    names = arguments.data or (arguments.quick and kind.quick) or kind.data
    if not names:
        raise _Usage(f"the suite {suite} has no data of its own: pass --data")
    if arguments.quick and not arguments.data:
        for size, small in _QUICK_SIZE.items():
            names = [name.replace(size, small) for name in names]
    return names


def _written(results: dict, out: Path) -> None:
    """Write report.md and the plots into the folder ``out``. Prints the figures of probes, and the report's path."""
    from . import report, sections

    pictures: dict[str, list[str]] = {}
    try:
        from . import plots

        pictures = {suite: [f"plots/{name}" for name in names] for suite, names in plots.draw(results, out / "plots").items()}
    except ImportError as error:
        _say(f"no plots: {error}; pip install matplotlib")
    (out / "report.md").write_text(report.markdown(results, pictures), encoding="utf-8")
    print("\n\n".join(sections.probed(results)), end="\n\n")
    print(out / "report.md")


@_guarded
def _report(arguments: argparse.Namespace) -> int:
    from . import headlines, journal

    paths = [path / "results.json" if path.is_dir() else path for path in arguments.results]
    results = journal.merged([journal.read(path) for path in paths])
    out = arguments.out or paths[0].parent
    out.mkdir(parents=True, exist_ok=True)
    _written(results, out)
    if arguments.tables is not None:
        headlines.rewrite(arguments.tables, results)
        print(arguments.tables)
    return 0


@_guarded
def _tune(arguments: argparse.Namespace) -> int:
    from . import tune

    return tune.main(_placed(arguments))


def _placed(arguments: argparse.Namespace) -> argparse.Namespace:
    """Set ``data`` and ``collection`` from DIR and COLLECTION or from the flags. Raises _Usage where both are given and differ."""
    for name, word, flag in (("directory", "DIR", "data"), ("named", "COLLECTION", "collection")):
        word_value, flag_value = getattr(arguments, name), getattr(arguments, flag)
        if word_value is not None and flag_value is not None and word_value != flag_value:
            raise _Usage(f"{word} is {str(word_value)!r} and --{flag} is {str(flag_value)!r}: leave one of them out")
        setattr(arguments, flag, flag_value if word_value is None else word_value)
    if arguments.data is not None and arguments.collection is None:
        arguments.data, arguments.collection = arguments.data.parent, arguments.data.name
        if (arguments.data / arguments.collection / "data.mdb").exists():
            raise _Usage(f"no collection given for {arguments.data / arguments.collection}; write: vectordb bench tune DIR COLLECTION")
    if not arguments.collection:
        raise _Usage("DIR and COLLECTION are missing; write: vectordb bench tune DIR COLLECTION")
    return arguments


def _list(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from . import data, suites, systems
    from .tables import terminal_table

    def about(name: str) -> tuple[str, str, str, str]:
        reason = systems.available(name)
        try:
            kind = systems.load(name)
            supports = (kind.kind, " ".join(sorted(kind.does & {"dense", "sparse", "hybrid", "filtered"})))
        except (ImportError, AttributeError):
            supports = ("", "")
        own = "" if systems.python_of(name) == sys.executable else " (own environment)"
        return name, *supports, f"yes{own}" if reason is None else reason.partition(":")[0]

    console = Console(highlight=False)
    rows = [(name, kind.time, kind.about) for name, kind in suites.SUITES.items()]
    console.print(terminal_table("suites", ("name", "time (≈: an estimate)", "measures"), rows), "")
    sizes = "a size may follow, as in clustered-20k; or the path of a .npy, .fvecs, .hdf5 or .parquet file or a folder with qrels"
    console.print(terminal_table(f"data sets ({sizes})", ("name", "content"), data.names().items()), "")
    console.print(terminal_table("systems", ("name", "kind", "supports", "installed"), map(about, systems.SYSTEMS)), end="")
    console.print("\nTo install a system into an environment of its own: vectordb bench install NAME", markup=False)
    return 0


@_guarded
def _install(arguments: argparse.Namespace) -> int:
    from . import systems
    from .systems import envs

    try:
        reasons = envs.install(_names(arguments.systems, list(systems.SYSTEMS), "system"))
    except KeyError as error:
        raise _Usage(error.args[0]) from None
    return 1 if any(reasons.values()) else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="vectordb bench", description="Measure recall and speed: beside other systems, or on your own collection."
    )
    add_commands(parser)
    arguments = parser.parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
