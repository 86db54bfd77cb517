"""Recall and time of a search at several targets, on clusters of made-up vectors. Put your own vectors in their place.

python measure_recall.py [POINTS [DIMENSIONS]]
"""

import sys
import time

import numpy as np

import vectordb
from vectordb import Dense, Schema

K, QUERIES = 10, 100


def main():
    given = [int(word) for word in sys.argv[1:]]
    points, dim = given + [10_000, 64][len(given) :]
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, dim))

    def some(n):
        return (centres[rng.integers(0, 100, n)] + 0.7 * rng.standard_normal((n, dim))).astype(np.float32)

    with vectordb.open(":memory:") as db:
        docs = db.create_collection("docs", Schema({"v": Dense(dim)}))
        docs.bulk(ids=range(points), vectors={"v": some(points)})
        docs.optimize()
        queries = some(QUERIES)
        truth = [set(docs.search({"v": query}, limit=K, exact=True, with_attributes=False).ids.tolist()) for query in queries]
        print(f"{points:,} points, {dim} dimensions\nasked   recall      ms")
        for asked in (0.8, 0.9, 0.95, 0.99, 1.0):
            found, start = [], time.perf_counter()
            for query in queries:
                found.append(docs.search({"v": query}, limit=K, recall=asked, with_attributes=False))
            milliseconds = 1000 * (time.perf_counter() - start) / QUERIES
            recall = np.mean([len(best & set(hits.ids.tolist())) / K for best, hits in zip(truth, found, strict=True)])
            print(f"{asked:5}   {recall:.4f}  {milliseconds:6.3f}")


if __name__ == "__main__":
    main()
