"""``vectordb health --target HOST:PORT``."""

from __future__ import annotations

import argparse

from .options import Command, add_service, seconds, tls


def add_arguments(parser: Command) -> None:
    add_service(parser)
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, default=3.0, help="time to wait for an answer (default: 3)")


def run(arguments: argparse.Namespace) -> int:
    from ..server.telemetry.health import check

    check(arguments.target, arguments.timeout, **tls(arguments))
    print("serving")
    return 0
