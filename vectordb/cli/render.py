"""Collection facts for a terminal. The text itself is that of ``print(collection.info())``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectordb_client.model.collection_info import CollectionInfo
from vectordb_client.model.info_text import activity, branch, counts, derivations, field_rows, history_text, indexes, notes, vocabularies

if TYPE_CHECKING:
    from rich.console import Console


def print_info(console: Console, info: CollectionInfo) -> None:
    """Print a line of counts, a table of fields, and a line per index."""
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(info.name)}[/]  {counts(info)}")
    if info.history:
        console.print(history_text(info.history), markup=False)
    if info.branch is not None:
        console.print(branch(info.branch), markup=False)
    if info.maintenance.get("state") in ("running", "failed"):
        console.print(f"maintenance {activity(info.maintenance)}", markup=False)
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("field", "kind", "options", "statistics"):
        table.add_column(column)
    for row in field_rows(info):
        table.add_row(*map(escape, row))
    console.print(table, soft_wrap=False)
    for line in (*derivations(info), *indexes(info), *vocabularies(info), *notes(info)):
        console.print(line, markup=False)
    console.print()
