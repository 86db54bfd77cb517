"""A replica: a second collection that follows the first one by its change stream."""

import threading

import vectordb
from vectordb import Dense, Keyword, Schema


def apply(change, replica):
    """Do to the replica what a batch did to the source."""
    if change.kind == "write":
        replica.upsert(change.points)
    elif change.kind == "delete":
        replica.delete(list(change.ids))


def main():
    with vectordb.open(":memory:") as first, vectordb.open(":memory:") as second:
        schema = Schema({"v": Dense(2)}, {"name": Keyword()})
        source, replica = first.create_collection("docs", schema), second.create_collection("docs", schema)

        def follow():
            for change in source.changes(follow=True, with_vectors=True, with_attributes=True, timeout=60):
                apply(change, replica)
                print(f"applied {change.sequence}: {change.kind} {change.ids}")
                if 3 in change.ids:  # the last one of this example
                    return

        follower = threading.Thread(target=follow)
        follower.start()
        source.upsert(ids=[1, 2], vectors={"v": [[1, 0], [0, 1]]}, attributes={"name": ["a", "b"]})
        source.update([{"id": 2, "attributes": {"name": "c"}}])
        source.delete([1])
        source.upsert([{"id": 3, "vectors": {"v": [1, 1]}}])
        follower.join()
        ours, theirs = ({point.id: point.attributes for point in docs.iterate()} for docs in (replica, source))
        print("equal" if ours == theirs else f"not equal: {ours} {theirs}")
        if ours != theirs:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
