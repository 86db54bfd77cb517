"""What ``vectordb inspect`` and ``vectordb duplicates`` share: the field, the filter and the progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vectordb_client.errors import InvalidArgumentError, listing
from vectordb_client.model.schema import Schema

from .options import Command, add_place, console


def add_field(parser: Command) -> None:
    """A collection, and one of its dense fields."""
    add_place(parser)
    parser.add_argument("--field", metavar="NAME", help="the dense vector field; without it, the only one there is")
    parser.add_argument("--filter", metavar="EXPR", help="only points that match, such as \"lines > 20 AND module = 'json'\"")


def dense_field(schema: Schema, given: str | None) -> str:
    """The field that was named, or the only dense one. Raises InvalidArgumentError."""
    if given is not None:
        return given
    dense = [name for name, spec in schema.vectors.items() if spec.pools]
    if len(dense) != 1:
        raise InvalidArgumentError(f"--field is needed; the dense fields are: {listing(dense)}", field="field", value=None)
    return dense[0]


@contextmanager
def progress_bar(about: str) -> Iterator[Callable[[int, int], None]]:
    """A function that shows the progress, on a terminal."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    out = console(stderr=True)
    layout = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*layout, console=out, disable=not out.is_terminal, transient=True) as bar:
        task = bar.add_task(about, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
