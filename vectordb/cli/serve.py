"""``vectordb serve DIR``."""

from __future__ import annotations

import argparse
import os

from vectordb_client.errors import VectorDBError

from ..server import settings
from .options import Command, add_directory


def add_arguments(parser: Command) -> None:
    add_directory(parser)
    settings.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    try:
        from ..server.main import serve
    except ImportError as error:
        raise VectorDBError(f"can't load the service: {error}; install vectordb and its dependencies again") from error
    flags = {name: value for name, value in vars(arguments).items() if name in settings.NAMES}
    return serve(arguments.data, settings.gather(flags, os.environ, vars(arguments).get("config")))
