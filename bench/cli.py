"""``vectordb bench run | report | tune | list | install``: ``add_commands`` is for vectordb's command line. Also ``python -m bench.cli``.

Exit codes: 0 well, 1 a floor was missed (or a search of ours that calls itself exact isn't), or an error; 2 a wrong command line.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

_QUICK_SUITES = ("dense", "filtered", "sparse", "ingest", "footprint")
_QUICK_DATA = {"sparse": "sparse-10k", "hybrid": "hybrid-10k"}


def add_commands(bench: argparse.ArgumentParser) -> None:
    """Give a parser the commands; each sets ``run``."""
    commands = bench.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, about: str, details: str = "", usage: str | None = None) -> argparse.ArgumentParser:
        whole = f"{about[0].upper()}{about[1:]}."
        made = commands.add_parser(
            name, usage=usage, help=about, description=whole, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        made.set_defaults(run=run)
        return made

    run = command("run", _run, "run suites on systems; writes results.json, report.md and plots", _RUN_DETAILS)
    run.add_argument("--suite", action="append", metavar="NAME[,NAME…]", help="suites (see list); all of them unless given")
    run.add_argument(
        "--systems", default=None, metavar="NAME[,NAME…]", help="systems (see list); ours and all that are installed unless given"
    )
    run.add_argument("--data", action="append", metavar="NAME", help="data sets by name or path; each suite's own unless given")
    run.add_argument("--queries-file", metavar="FILE", type=Path, help="query vectors, for a --data that is a file without them")
    run.add_argument("--metric", choices=("cosine", "dot", "l2"), help="of a --data that is a file (cosine unless the file says)")
    run.add_argument("--column", help="the vector column of a --data that is a parquet file")
    run.add_argument("--cells", metavar="TEXT", help="only cells whose name holds this, such as 'equality 1 %%'")
    run.add_argument("--out", metavar="DIR", type=Path, help="the run's folder; one that holds this very run is gone on with (bench-DATE)")
    run.add_argument("--quick", action="store_true", help="small data, few cells: under five minutes")
    run.add_argument("--queries", type=_count, metavar="N", help="queries a cell (500; quick: 100)")
    run.add_argument("--repeats", type=_count, metavar="N", help="repeats of each setting (3)")
    run.add_argument(
        "--cap", type=float, metavar="SECONDS", help="end a pass over the queries after so long, with the figures so far (20; quick: 2)"
    )
    run.add_argument("--threads", type=_count, default=0, metavar="N", help="threads for building (all cores)")
    run.add_argument(
        "--group", type=_count, default=0, metavar="N", help="run systems N at a time: else all are alive at once, which takes memory"
    )
    run.add_argument("--limit", type=float, default=7200, metavar="SECONDS", help="give a build up after so long (7200)")
    run.add_argument(
        "--floor",
        action="append",
        default=[],
        type=_floor,
        metavar="SYSTEM[@SUITE]:RECALL",
        help="fail unless some setting reaches it in every cell",
    )
    run.add_argument("--keep", action="store_true", help="leave the systems' files")

    report = command("report", _report, "write the report and plots of results again, or of several runs together")
    report.add_argument("results", metavar="RESULTS", type=Path, nargs="+", help="results.json (or .json.gz, or a run's folder)")
    report.add_argument("--out", metavar="DIR", type=Path, help="where to (beside the first results)")

    tune = command("tune", _tune, "measure your own collection: what recall costs, memory, slow filters, advice", _TUNE_DETAILS, _TUNE)
    tune.add_argument("directory", metavar="DIR", type=Path, nargs="?", help="the database's directory; DIR/COLLECTION does for both")
    tune.add_argument("named", metavar="COLLECTION", nargs="?", help="the collection")
    tune.add_argument("--data", metavar="DIR", type=Path, help="the same as DIR")
    tune.add_argument("--collection", metavar="NAME", help="the same as COLLECTION")
    tune.add_argument("--field", help="the vector field: dense, sparse or multi-vector (the first dense one, or the first)")
    tune.add_argument("--queries", metavar="FILE", type=Path, help="queries (see below); points of the collection unless given")
    tune.add_argument("--count", type=_count, metavar="N", help="queries (200; of multi-vectors 50)")
    tune.add_argument("--limit", type=_count, default=10, metavar="K", help="hits of a query (10)")
    tune.add_argument("--recall", default="0.90,0.95,0.99", metavar="R[,R…]", help="targets whose cost to show (0.90,0.95,0.99)")
    tune.add_argument("--json", metavar="FILE", type=Path, help="the figures as JSON, too")

    command("list", _list, "show suites, data sets and systems, and what is missing")

    install = command("install", _install, "make a virtual environment of its own for a system, in the cache folder")
    install.add_argument("systems", nargs="+", metavar="SYSTEM", help="a system (vectordb bench list shows them)")


_RUN_DETAILS = """\
A run that was stopped goes on when the same command is given with its --out again. Systems that can't run say why, and the rest goes on.
Data sets are made or fetched once, into $VECTORDB_BENCH_CACHE (~/.cache/vectordb/bench), and never sent anywhere.
"""
_TUNE = "vectordb bench tune DIR COLLECTION [options]"
_TUNE_DETAILS = """\
Nothing is written to the database, and nothing in it is indexed meanwhile: vectordb optimize DIR COLLECTION does that before.
Queries: .npy or .fvecs (dense), .npz with a SciPy CSR matrix whose columns are terms (sparse), .npy of queries × vectors × dim
(multi-vector), or .txt with a text a line where the field has an encoder; encoding them is not in the figures.
"""


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _floor(text: str) -> tuple[str, str | None, float]:
    place, colon, least = text.rpartition(":")
    system, _, suite = place.partition("@")
    try:
        value = float(least)
    except ValueError:
        value = -1.0
    if not colon or not system or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must read SYSTEM:RECALL or SYSTEM@SUITE:RECALL, recall from 0 to 1")
    return system, suite or None, value


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _names(given: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    chosen = [name for part in given for name in part.split(",") if name]
    for name in chosen:
        if name not in known:
            raise _Usage(f"no {what} is called {name!r}; there are {', '.join(known)}")
    return list(dict.fromkeys(chosen))


class _Usage(Exception):
    """A wrong command line that only shows when names are looked up."""


def _guarded(work: Any) -> int:
    from .data import DataError

    try:
        return work()
    except _Usage as error:
        _say(f"vectordb bench: {error}")
        return 2
    except (DataError, ValueError, OSError) as error:
        _say(f"vectordb bench: {error}")
        return 1


def _run(arguments: argparse.Namespace) -> int:
    return _guarded(lambda: _run_plan(arguments))


def _run_plan(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from . import journal, suites, systems
    from .progress import Progress
    from .run import Plan, run

    everything = list(_QUICK_SUITES) if arguments.quick else list(suites.SUITES)
    chosen = _names(arguments.suite, suites.SUITES, "suite") if arguments.suite else everything
    if arguments.systems:
        files = [name for name in arguments.systems.split(",") if systems.is_file(name)]
        named = _names([arguments.systems], [*systems.SYSTEMS, *files], "system")
    else:
        named = [name for name in systems.SYSTEMS if systems.available(name) is None and name != "exact"]
    for system, suite, _ in arguments.floor:
        if system not in named or suite not in (None, *chosen):
            raise _Usage(f"--floor names {system}{f'@{suite}' if suite else ''}, which this run doesn't measure")
    scale = suites.QUICK if arguments.quick else suites.Scale()
    given = {name: getattr(arguments, name) for name in ("queries", "repeats", "cap") if getattr(arguments, name) is not None}
    defaults = dict.fromkeys(suites.SUITES, "clustered-10k") | _QUICK_DATA if arguments.quick else suites.DEFAULT_DATA
    pairs = [(suite, name) for suite in chosen for name in (arguments.data or [defaults[suite]])]
    options = {"queries": arguments.queries_file, "metric": arguments.metric, "column": arguments.column}
    options = {name: str(value) for name, value in options.items() if value is not None}
    plan = Plan(pairs, named, replace(scale, **given), arguments.cells, arguments.threads, arguments.limit, arguments.group, options)
    out = arguments.out or Path(time.strftime("bench-%Y%m%d-%H%M%S"))
    console = Console(stderr=True)
    console.print(f"{', '.join(chosen)}: {', '.join(named)}; into {out}", markup=False, highlight=False)
    try:
        found = run(plan, out, Progress(console), arguments.keep)
    except KeyboardInterrupt:
        _say(f"\nstopped; goes on with: --out {out} and the same command")
        return 130
    found["plan"]["floors"] = [f"{system}{f'@{suite}' if suite else ''}: {least:g}" for system, suite, least in arguments.floor]
    found["floors_missed"] = journal.floors_missed(found, arguments.floor)
    journal.write(found, out / "results.json")
    _written(found, out)
    for text in found["floors_missed"]:
        _say(f"missed: {text}")
    return 1 if found["floors_missed"] else 0


def _written(found: dict, out: Path) -> None:
    """Report and plots, beside the results."""
    from . import report

    pictures: dict[str, list[str]] = {}
    try:
        from . import plots

        pictures = {suite: [f"plots/{name}" for name in names] for suite, names in plots.draw(found, out / "plots").items()}
    except ImportError as error:
        _say(f"no plots: {error}; pip install matplotlib")
    (out / "report.md").write_text(report.markdown(found, pictures), encoding="utf-8")
    print(out / "report.md")


def _report(arguments: argparse.Namespace) -> int:
    return _guarded(lambda: _report_again(arguments))


def _report_again(arguments: argparse.Namespace) -> int:
    from . import journal

    paths = [path / "results.json" if path.is_dir() else path for path in arguments.results]
    found = journal.merged([journal.read(path) for path in paths])
    out = arguments.out or paths[0].parent
    out.mkdir(parents=True, exist_ok=True)
    _written(found, out)
    return 0


def _tune(arguments: argparse.Namespace) -> int:
    from . import tune

    return _guarded(lambda: tune.main(_placed(arguments)))


def _placed(arguments: argparse.Namespace) -> argparse.Namespace:
    """``data`` and ``collection``, of words and flags."""
    for name, word, flag in (("directory", "DIR", "data"), ("named", "COLLECTION", "collection")):
        given, said = getattr(arguments, name), getattr(arguments, flag)
        if given is not None and said is not None and given != said:
            raise _Usage(f"{word} is {str(given)!r}, and --{flag} says {str(said)!r}: leave one of them out")
        setattr(arguments, flag, said if given is None else given)
    if arguments.data is not None and arguments.collection is None:
        arguments.data, arguments.collection = arguments.data.parent, arguments.data.name
        if (arguments.data / arguments.collection / "data.mdb").exists():
            raise _Usage(f"which collection of {arguments.data / arguments.collection}? write vectordb bench tune DIR COLLECTION")
    if not arguments.collection:
        raise _Usage("write vectordb bench tune DIR COLLECTION")
    return arguments


def _list(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from . import data, suites, systems

    console = Console(highlight=False)

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in columns:
            made.add_column(column, overflow="fold")
        return made

    shown = table("suites", "name", "time (≈: an estimate)", "what")
    for name in suites.SUITES:
        shown.add_row(name, suites.TIMES[name], suites.ABOUT[name])
    console.print(shown, "")
    shown = table(
        "data sets (add a size: clustered-20k, glove-50-100k; or a path: .npy .fvecs .hdf5 .parquet, a folder with qrels)", "name", "what"
    )
    for name, about in data.names().items():
        shown.add_row(name, about)
    console.print(shown, "")
    shown = table("systems", "name", "kind", "does", "here")
    for name in systems.SYSTEMS:
        reason = systems.available(name)
        try:
            kind = systems.load(name)
            about = (kind.kind, " ".join(sorted(kind.does & {"dense", "sparse", "hybrid", "filtered"})))
        except (ImportError, AttributeError):
            about = ("", "")
        own = "" if systems.python_of(name) == sys.executable else " (own environment)"
        shown.add_row(name, *about, f"yes{own}" if reason is None else reason.partition(":")[0])
    console.print(shown, "\nvectordb bench install NAME makes an environment with what a system needs", markup=False)
    return 0


def _install(arguments: argparse.Namespace) -> int:
    return _guarded(lambda: _install_each(arguments))


def _install_each(arguments: argparse.Namespace) -> int:
    from . import systems
    from .systems import envs

    try:
        made = envs.install(_names(arguments.systems, list(systems.SYSTEMS), "system"))
    except KeyError as error:
        raise _Usage(error.args[0]) from None
    return 1 if any(made.values()) else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="vectordb bench", description="Recall and speed, beside other systems or on your own collection.")
    add_commands(parser)
    arguments = parser.parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
