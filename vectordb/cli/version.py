"""``vectordb version``."""

from __future__ import annotations

import argparse
import platform

from vectordb_client._version import __version__

from .options import Command

_PACKAGES = (
    "numpy",
    "numba",
    "lmdb",
    "pyroaring",
    "faiss-cpu",
    "hnswlib",
    "grpcio",
    "pyarrow",
    "wordllama",
    "PyStemmer",
    "sentence-transformers",
)


def add_arguments(parser: Command) -> None:
    """There are none."""


def run(arguments: argparse.Namespace) -> int:
    from importlib.metadata import PackageNotFoundError, version

    print(f"vectordb {__version__}")
    print(f"python {platform.python_version()} on {platform.machine()}")
    for package in _PACKAGES:
        try:
            print(f"{package} {version(package)}")
        except PackageNotFoundError:
            print(f"{package} not installed")
    return 0
