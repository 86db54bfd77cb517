"""A service in a process of its own, and many searches at once through the asyncio client."""

import asyncio
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from vectordb_client import AsyncClient, Dense, Schema

POINTS, DIM, SEARCHES, AT_ONCE = 5_000, 32, 500, 16


async def work(address):
    rng = np.random.default_rng(0)
    async with AsyncClient(address) as client:
        docs = await client.create_collection("docs", Schema({"v": Dense(DIM)}))
        result = await docs.bulk(ids=range(POINTS), vectors={"v": rng.standard_normal((POINTS, DIM), dtype=np.float32)})
        gate = asyncio.Semaphore(AT_ONCE)

        async def search(query):
            async with gate:
                return await docs.search({"v": query}, limit=5, with_attributes=False)

        start = time.perf_counter()
        found = await asyncio.gather(*(search(query) for query in rng.standard_normal((SEARCHES, DIM), dtype=np.float32)))
        seconds = time.perf_counter() - start
        print(f"{result.count:,} points written, {len(found):,} searches, {AT_ONCE} at once: {len(found) / seconds:,.0f} a second")


def main():
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vectordb", "serve", f"{folder}/data", "--port", "0", "--log-level", "warning"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
            try:
                line = service.stdout.readline()  # printed once the service takes calls
                asyncio.run(work(re.search(r"127\.0\.0\.1:\d+", line).group()))
            finally:
                service.terminate()


if __name__ == "__main__":
    main()
