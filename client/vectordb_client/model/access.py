"""The methods of a database with their documentation, and operators: ``db["docs"]``, ``"docs" in db``, ``len(db)``, iteration.

The embedded database and the clients inherit them from here, so they behave alike. ``reading`` has the operators of a collection.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

from ..errors import InvalidArgumentError, shown
from .aliases import Durability, Span
from .branches import BranchDiff, MergeResult, OnConflict
from .memory import Memory
from .results import Point
from .schema import Schema

C = TypeVar("C")
P = ParamSpec("P")

# The name of a method in another vector database → what to write here.
_DATABASE_METHODS = {
    **dict.fromkeys(("get_collection", "open_collection", "open_table", "table"), "collection(name)"),
    **dict.fromkeys(("get_or_create_collection", "recreate_collection"), "create_collection(name, schema, exist_ok=True)"),
    **dict.fromkeys(("list_collections", "get_collections", "table_names", "collection_names"), "collections()"),
    **dict.fromkeys(("delete_collection", "drop", "drop_table", "delete_table"), "drop_collection(name)"),
    **dict.fromkeys(("create_table", "create"), "create_collection(name, schema)"),
    **dict.fromkeys(("has_collection", "collection_exists"), "name in db"),
    **{name: f"collection(name).{name}(…)" for name in ("search", "upsert", "update", "get", "count", "scroll", "delete", "optimize")},
    **dict.fromkeys(("query", "find"), "collection(name).search(…)"),
    **dict.fromkeys(("add", "insert"), "collection(name).upsert(…)"),
    **dict.fromkeys(("create_alias", "update_alias", "switch_alias", "update_collection_aliases"), "alias(alias, collection)"),
    **dict.fromkeys(("delete_alias", "remove_alias"), "drop_alias(alias)"),
    **dict.fromkeys(("get_aliases", "list_aliases", "get_collection_aliases"), "aliases()"),
    **dict.fromkeys(("rename", "rename_table"), "rename_collection(name, new_name)"),
    **dict.fromkeys(("fork", "clone", "copy", "copy_collection", "clone_collection"), "branch(collection, name)"),
    **dict.fromkeys(("backup", "dump", "save"), "snapshot(path)"),
    **dict.fromkeys(("commit", "persist", "sync"), "flush()"),
}
COLLECTION_METHODS = {
    **dict.fromkeys(("fork", "branch", "clone"), "db.branch(collection, name)"),
    **dict.fromkeys(("merge", "diff"), "db.merge(branch) or db.diff(branch)"),
    **dict.fromkeys(("query", "query_points", "find", "similarity_search", "knn", "nearest"), "search({field: vector}, limit=…)"),
    **dict.fromkeys(("add", "insert", "put", "add_documents", "upload", "write"), "upsert(…)"),
    **dict.fromkeys(("upsert_many", "add_many", "insert_many", "upload_points", "upload_collection", "add_all"), "bulk(…)"),
    **dict.fromkeys(("remove", "drop_points", "delete_many"), "delete(ids) or delete(filter=…)"),
    **dict.fromkeys(("clear", "truncate", "delete_all"), 'delete(filter="ALL")'),
    **dict.fromkeys(("fetch", "retrieve", "peek", "find_one"), "get(ids)"),
    **dict.fromkeys(("size", "num_entities", "count_rows"), "count() or len(…)"),
    **dict.fromkeys(("all", "list", "iter", "items", "to_list", "scan"), "iterate()"),
    **dict.fromkeys(("describe", "stats", "get_info"), "info()"),
    **dict.fromkeys(("create_index", "build_index", "compact", "vacuum", "reindex"), "optimize(), which builds indexes"),
    **dict.fromkeys(("search_many", "query_batch", "search_all", "batch_search"), "search_batch({field: vectors})"),
    **dict.fromkeys(("set_payload", "modify"), "update(…)"),
    **dict.fromkeys(("drop_field", "drop_column", "drop_columns", "remove_field", "delete_field"), "drop_fields(names)"),
    **dict.fromkeys(("rename_field", "rename_column", "rename_columns"), "rename_fields({old: new})"),
    **dict.fromkeys(("alter_columns", "alter_fields", "alter_table", "change_type"), "alter(attributes={…})"),
    **dict.fromkeys(("checkout", "list_versions", "time_travel"), "as_of=… in search, get and count; keep_history(…) keeps the states"),
    **dict.fromkeys(("add_field", "add_columns"), "add_fields(…)"),
}


class NoSuchMethodError(InvalidArgumentError, AttributeError):
    """An object has no attribute of this name. The message says what the method is called here."""


class AwaitError(InvalidArgumentError, TypeError):
    """An operator was used on an asyncio object whose answer has to be awaited. The message says what to write."""


class AwaitForgottenError(InvalidArgumentError, AttributeError):
    """An answer of asyncio was used before it was awaited. The message says what to write."""


class Awaited(Coroutine[Any, Any, C]):
    """The coroutine of a call. Whoever uses its answer without ``await`` gets an error that says so."""

    def __init__(self, coroutine: Coroutine[Any, Any, C], call: str):
        self._coroutine, self._call = coroutine, call

    def __await__(self) -> Generator[Any, Any, C]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("__", "cr_", "gi_", "ag_")):
            return getattr(self._coroutine, name)  # what debuggers and event loops look at
        self._coroutine.close()  # or Python would warn of it as well
        raise AwaitForgottenError(f"{self._call} has to be awaited before .{name} is used; write await {self._call}", field=name)


def awaited(method: Callable[P, Coroutine[Any, Any, C]]) -> Callable[P, Coroutine[Any, Any, C]]:
    """Let the answer of a method explain a forgotten ``await``."""

    @functools.wraps(method)
    def call(*args: P.args, **given: P.kwargs) -> Coroutine[Any, Any, C]:
        return Awaited(method(*args, **given), f"client.{method.__name__}({shown(args[1]) if len(args) > 1 else '…'})")

    return call


class Hinting:
    """Explains an unknown attribute where its name is known from another database."""

    _meant: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        what = f"{type(self).__name__!r} object has no attribute {name!r}"
        meant = self._meant.get(name)
        if meant is None:
            raise AttributeError(what, name=name, obj=self)
        raise NoSuchMethodError(f"{what}; write {meant}", field=name)


class Collections(Hinting, Generic[C]):
    """The methods of a database, and a mapping-like view of it: names of collections → collections. A subclass implements the methods."""

    _meant = _DATABASE_METHODS

    def create_collection(self, name: str, schema: Schema, *, exist_ok: bool = False, history: Span | None = None) -> C:
        """Create a collection.

        Args:
            name: 1 to 64 letters, digits, ``_``, ``.`` and ``-``, starting with a letter or ``_``.
            schema: the vector fields and attributes.
            exist_ok: return a collection that exists with the same schema.
            history: keep earlier states readable (``as_of``) for this time, such as "7d"; a timedelta, or seconds. None keeps none. With
                exist_ok, a collection that exists must keep its history for this time, if one is given; ``keep_history`` changes it.

        Raises:
            AlreadyExistsError: the name is taken, or with exist_ok its schema or history differs. The error says how.
            SchemaError: the name or the schema is not valid.
            EncoderError: an encoder of the schema is unknown, is not installed or doesn't fit its field.

        Example:
            ```python
            schema = Schema(vectors={"v": Dense(384)}, attributes={"year": Int(), "tags": Keyword(array=True)})
            docs = db.create_collection("docs", schema, exist_ok=True)
            ```
        """
        raise NotImplementedError

    def collection(self, name: str) -> C:
        """Open a collection that exists. A client reads its schema.

        Args:
            name: the name of the collection, or an alias.

        Raises:
            NotFoundError: there is no collection of this name. The error lists those that exist.
        """
        raise NotImplementedError

    def collections(self) -> list[str]:
        """The names of all collections, sorted."""
        raise NotImplementedError

    def drop_collection(self, name: str) -> None:
        """Delete a collection with all its points.

        Args:
            name: its own name, not an alias.

        Raises:
            NotFoundError: there is no collection of this name.
            InvalidArgumentError: the name is an alias.
            PreconditionError: an alias means this collection.
        """
        raise NotImplementedError

    def rename_collection(self, name: str, new_name: str) -> None:
        """Give a collection another name. Its points, number and aliases stay, and so do handles of the embedded database.

        Handles of clients, and API keys for the old name, no longer find it: open it by the new name.

        Args:
            name: its own name, not an alias.
            new_name: a name that neither a collection nor an alias has.

        Raises:
            NotFoundError: there is no collection of this name.
            AlreadyExistsError: the new name is taken.
            InvalidArgumentError: the name is an alias.
        """
        raise NotImplementedError

    def alias(self, alias: str, collection: str) -> None:
        """Make another name for a collection, or let an alias that exists mean another collection from now on, in one transaction.

        An alias can be written wherever the name of a collection can: ``db["live"]``, in transactions, in a service and on the command
        line. It is looked up when the collection is opened. A handle stays with its collection when the alias is switched; open the
        alias again to follow.

        Args:
            alias: its name, like that of a collection.
            collection: the name of a collection, or another alias, which is looked up now.

        Raises:
            NotFoundError: there is no such collection.
            AlreadyExistsError: a collection has this name.
            SchemaError: the alias is not a valid name.

        Example:
            ```python
            db.alias("live", "docs-v1")
            db.alias("live", "docs-v2")  # switched: whoever opens "live" now gets docs-v2
            ```
        """
        raise NotImplementedError

    def drop_alias(self, alias: str) -> None:
        """Remove an alias. Its collection stays. Raises NotFoundError."""
        raise NotImplementedError

    def aliases(self) -> dict[str, str]:
        """All aliases, sorted: alias → name of its collection."""
        raise NotImplementedError

    def branch(self, source: str, name: str) -> C:
        """Make a branch: a collection with all points of another one, for changes that are merged back or dropped later.

        A branch is a collection like any other. It shares the stored vectors, rows and index files of its original, so it takes little time
        and disk; a part is copied when one of the two changes it. Neither sees the changes of the other. ``info().branch`` says of
        which collection it is a branch, ``diff`` what changed there, ``merge`` writes that into the original, and ``drop_collection``
        throws it away. Either of the two may be renamed or dropped; a branch whose original was dropped can't be merged.

        Args:
            source: the name or an alias of the original; it may be a branch itself.
            name: of the new collection, 1 to 64 letters, digits, ``_``, ``.`` and ``-``, starting with a letter or ``_``.

        Returns:
            The new collection, whose sequence is that of the original.

        Raises:
            NotFoundError: there is no such collection.
            AlreadyExistsError: a collection or an alias has the name.
            SchemaError: the name is not valid.
            LimitError: there are too many collections.

        Example:
            ```python
            trial = db.branch("docs", "docs-next")
            trial.update(filter="year < 2000", attributes={"tag": ["old"]})
            print(db.diff("docs-next").counts)
            db.merge("docs-next")  # or leave docs as it is
            db.drop_collection("docs-next")
            ```
        """
        raise NotImplementedError

    def diff(self, branch: str, *, limit: int = 1_000) -> BranchDiff:
        """What changed on a branch since it was made or merged.

        Args:
            branch: the name of a branch.
            limit: the most ids of each kind, 0 to 100,000; ``counts`` counts all.

        Raises:
            NotFoundError: there is no such collection.
            InvalidArgumentError: the collection isn't a branch.
            PreconditionError: its original was dropped.
        """
        raise NotImplementedError

    def merge(self, branch: str, *, on_conflict: OnConflict = "error") -> MergeResult:
        """Write what changed on a branch into its original, in one transaction: all of it or nothing. The branch stays as it is.

        The original gets the added and changed points of the branch, each as a whole, and loses those that were deleted there. Fields that
        only the branch has are added first. A point that the original has changed since is a conflict, even if it is the same on
        both sides. A later merge writes only what changed after this one.

        Args:
            branch: the name of a branch.
            on_conflict: "error": if there is a conflict, nothing is written. "branch": the branch's points are taken. "original": those of
                the original are kept.

        Raises:
            PreconditionError: there are conflicts; the message names some of the points, and ``diff(branch).conflicts`` all. Or the
                original was dropped.
            SchemaError: a field was dropped or renamed on one side only, or is defined differently.
            NotFoundError: there is no such collection.
            InvalidArgumentError: the collection isn't a branch, or on_conflict is another value.
        """
        raise NotImplementedError

    def transaction(self, *, durability: Durability | None = None) -> Any:
        """Write to several collections: all writes of the ``with`` block are committed together, or none of them.

        ``t["docs"]`` has the methods ``upsert``, ``update`` and ``delete`` of the collection. They check their arguments at once, and are
        carried out in their order at the end of the block, in one transaction of the storage. No read, of any process, sees a part of it.
        If the block raises an exception, or a write can't be applied, nothing is written.

        The transaction itself reads nothing. Reads inside the block show what was committed before, without the writes of the block.
        ``if_version`` and ``if_filter``, and filters of ``update`` and ``delete``, are evaluated at the end of the block, and see the
        earlier writes of the transaction. So ``if_version`` finds out whether anybody changed a point since it was read.

        A client sends the block as one call, which must fit one message of the service. ``t[docs]``, with the collection instead of its
        name, saves it from reading the schema. A client of asyncio writes ``async with`` and ``await t["docs"].upsert(…)``. A call that
        was cut off is not repeated: the transaction may have been executed.

        Args:
            durability: "commit" or "batched", of the whole transaction, see ``vectordb.open``. None: the default of the database.

        Returns:
            The transaction. After the block, ``results`` has a ``WriteResult`` for each write and ``sequences`` the last sequence of each
            collection.

        Raises:
            NotFoundError: ``t["docs"]``: there is no such collection. At the end of the block: there is no point to update.
            PreconditionError: at the end of the block: ``if_version`` or ``if_filter`` of a write doesn't hold.
            LimitError: the writes don't fit one message of the service.

        Example:
            ```python
            with db.transaction() as t:
                t["orders"].upsert([{"id": 7, "attributes": {"item": "lamp"}}])
                t["items"].update([{"id": "lamp", "attributes": {"stock": 11}}], if_version=item.version)
            ```
        """
        raise NotImplementedError

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """``Collection.purge`` for all collections, those that were dropped included."""
        raise NotImplementedError

    def set_memory(self, memory: Memory) -> dict[str, int]:
        """Change the memory budget of the process that has the database open. It ends with the process and is not stored.

        An eighth of it is for filters that are cached, an eighth for what calls allocate. The rest is for index files: sections are kept
        in memory in the order in which searches need them, and of the others, only so much is in memory as is left. Answers are the
        same whatever the budget. New index files become lists with short codes where a graph would not fit. Memory that others in the
        process allocate, and pages of data.mdb, which the system can reclaim at any time, are not counted.

        Args:
            memory: "2GiB", "500MB" or a number of bytes, at least 16 MiB. None: no limit.

        Returns:
            In bytes: budget; kept and mapped, the sizes of the sections that are kept in memory and of the others; mapped_most, what the
            others may take; resident, what all take now; caches, what cached filters may take. Empty for None.

        Raises:
            InvalidArgumentError: memory is not a size, or too small.
            PreconditionError: the service has several processes.

        Example:
            ```python
            db.set_memory("1GiB")
            ```
        """
        raise NotImplementedError

    def __getitem__(self, name: str) -> C:
        """``db["docs"]`` is ``db.collection("docs")``. Raises NotFoundError."""
        return self.collection(name)

    def __contains__(self, name: object) -> bool:
        """Whether there is a collection, or an alias of one, of this name."""
        return name in self.collections() or name in self.aliases()

    def __iter__(self) -> Iterator[str]:
        """The names of the collections."""
        return iter(self.collections())

    def __len__(self) -> int:
        """The number of collections."""
        return len(self.collections())

    def __bool__(self) -> bool:
        return True  # an empty database is not a missing one


class AsyncCollections(Hinting):
    """The operators that an asyncio database supports: ``async for name in client``."""

    _meant = _DATABASE_METHODS

    async def collections(self) -> list[str]:
        """The names of all collections."""
        raise NotImplementedError

    async def __aiter__(self) -> AsyncIterator[str]:
        """The names of the collections."""
        for name in await self.collections():
            yield name

    def __getitem__(self, name: str) -> NoReturn:
        raise AwaitError(f"a client of asyncio can't be indexed; write await client.collection({name!r})", field="name", value=name)

    def __contains__(self, name: object) -> NoReturn:
        raise AwaitError(
            f"a client of asyncio doesn't support `in`; write {name!r} in await client.collections()", field="name", value=name
        )

    def __iter__(self) -> NoReturn:
        raise AwaitError(
            "a client of asyncio is iterated with `async for`; write async for name in client, or for name in await client.collections()",
            field="name",
        )

    def __len__(self) -> NoReturn:
        raise AwaitError("a client of asyncio has no len(); write len(await client.collections())", field="name")

    def __bool__(self) -> bool:
        return True


class AsyncPointsOfCollection(Hinting):
    """The operators that an asyncio collection supports: ``async for point in collection``."""

    _meant = COLLECTION_METHODS

    def iterate(self) -> AsyncIterator[Point]:
        """All points."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[Point]:
        """All points in id order, without vectors, read page by page: ``iterate()``."""
        return self.iterate()

    def __contains__(self, id: object) -> NoReturn:
        raise AwaitError(
            f"a collection of asyncio doesn't support `in`; write await collection.get({id!r}) is not None", field="ids", value=id
        )

    def __iter__(self) -> NoReturn:
        raise AwaitError("a collection of asyncio is iterated with `async for`; write async for point in collection", field="ids")

    def __len__(self) -> NoReturn:
        raise AwaitError("a collection of asyncio has no len(); write await collection.count()", field="ids")

    def __bool__(self) -> bool:
        return True
