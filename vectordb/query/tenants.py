"""Readers that are bound to a tenant: the filter of its points, and views that show no others."""

from __future__ import annotations

from vectordb_client.errors import PermissionDeniedError, shown
from vectordb_client.model.filter import F
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.schema import Schema

from ..engine.snapshot import Snapshots, View, Within
from ..filters.cache import FilterCache


def tenant_filter(schema: Schema, tenant: str) -> Filter:
    """The filter of the points of a tenant. Raises PermissionDeniedError if the points have no tenants."""
    if schema.tenant is None:
        what = f"the collection has no attribute Keyword(tenant=True), so a caller of tenant {shown(tenant)} may not use it"
        raise PermissionDeniedError(what, field="tenant", value=tenant)
    return F(schema.tenant) == tenant


def pinned(snapshots: Snapshots, tenant: str | None, filters: FilterCache) -> View:
    """A view of a collection's present state, which knows of the points of one tenant only; of all without one."""
    view = snapshots.pin()
    if tenant is None:
        return view
    try:
        node = filters.bind(tenant_filter(view.schema, tenant), view.schema)
        assert node is not None
        view.within = Within(node, filters)
    except BaseException as error:
        view.directory.env.end_read(view.txn, error)
        raise
    return view
