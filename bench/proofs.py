"""Cost of proving linear fusion exact, by the weight of the sparse arm: ``python -m bench.proofs [DATA]`` prints one line per weight."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import vectordb

from .data import load
from .systems.vectordb import Embedded

WEIGHTS = (1.0, 0.1, 0.03, 0.01)
QUERIES, ROUNDS = 60, 3


def run(name: str) -> None:
    dataset = load(name)
    system = Embedded()
    with tempfile.TemporaryDirectory() as folder:
        system.create(dataset, Path(folder), 2)
        try:
            for low in range(0, len(dataset), system.batch()):
                system.insert(dataset, np.arange(low, min(low + system.batch(), len(dataset))))
            system.finish()
            queries = [{"dense": dense, "sparse": sparse} for dense, sparse in (dataset.query(i) for i in range(QUERIES))]
            for weight in WEIGHTS:
                fusion = vectordb.Linear({"dense": 1.0, "sparse": weight})
                proven = [system.collection.search(query, fusion=fusion, explain=True).plan["fusion"]["proven"] for query in queries]
                best = np.inf
                for _ in range(ROUNDS):
                    began = time.perf_counter()
                    for query in queries:
                        system.collection.search(query, fusion=fusion, with_attributes=False)
                    best = min(best, (time.perf_counter() - began) / len(queries))
                print(f"sparse weight {weight:<5} {1e3 * best:6.2f} ms per search, {sum(proven)} of {len(proven)} proven exact", flush=True)
        finally:
            system.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="hybrid-100k", metavar="DATA", help="a hybrid data set (hybrid-100k)")
    run(parser.parse_args().data)
