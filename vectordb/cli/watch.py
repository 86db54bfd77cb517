"""``vectordb top --target HOST:PORT``."""

from __future__ import annotations

import argparse

from .options import Command, add_service, connect, console, seconds


def add_arguments(parser: Command) -> None:
    add_service(parser)
    parser.add_argument("--interval", metavar="SECONDS", type=seconds, default=1.0, help="time between updates (default: 1)")
    parser.add_argument("--once", action="store_true", help="show the totals since the service started, once")
    parser.add_argument("--json", action="store_true", help="print JSON lines, one status per line")


def run(arguments: argparse.Namespace) -> int:
    from . import top

    top.main(arguments.interval, arguments.once, arguments.json, lambda: connect(arguments), console())
    return 0
