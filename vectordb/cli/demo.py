"""``vectordb demo [DIR]``."""

from __future__ import annotations

import argparse

from .options import Command, add_directory, positive


def add_arguments(parser: Command) -> None:
    add_directory(parser, required=False, about="keep the database here (default: a temporary directory)")
    parser.add_argument("--limit-points", metavar="N", type=positive, help="use only the first N docstrings")
    parser.add_argument("--port", type=int, default=0, help="port of the service (default: 0, a free port)")
    parser.add_argument("--concepts", action="store_true", help="show concepts instead: found, steered by, and another encoder")


def run(arguments: argparse.Namespace) -> int:
    if arguments.concepts:
        from ..demo.concepts import run as run_concepts

        return run_concepts(arguments.data, limit=arguments.limit_points)
    from ..demo import run

    return run(arguments.data, limit=arguments.limit_points, port=arguments.port)
