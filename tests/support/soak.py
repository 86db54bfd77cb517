"""Minutes of mixed load on a service whose processes are killed repeatedly. Every answer is checked against a model.

Each id is written by one thread, so its history is a list of states. An answer must equal the state at some moment during the read. From
time to time the writers pause, and all points, filters and exact searches are compared with the model.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from vectordb_client import Client, Dense, Int, Keyword, Schema, UnavailableError

from tests.support.nightly import record
from vectordb.engine.check import check
from vectordb.server import settings
from vectordb.warm import warm

DIM, IDS, WRITERS, READERS, BATCH = 64, 6_000, 2, 3, 40
SCHEMA = Schema({"v": Dense(DIM)}, {"step": Int(), "group": Keyword()})
REST_SECONDS = 45.0  # between two full comparisons
CALM = 0.4  # the last share of the run has no kills; memory is compared within it
RETRY_SECONDS = 60.0


def vector(i: int, step: int) -> np.ndarray:
    """The vector that a step writes for an id."""
    return np.random.default_rng((i, step)).standard_normal(DIM).astype(np.float32)


class Service:
    """``vectordb serve`` as a process that is killed and restarted."""

    def __init__(self, data: Path, workers: int):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = [sys.executable, "-m", "vectordb", "serve", "--data", str(data), "--port", str(self.port)]
        self.workers = workers if "workers" in settings.NAMES else 1
        if self.workers > 1:
            self.command += ["--workers", str(self.workers)]
        self.kills = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def kill(self, rng: random.Random) -> None:
        """Kill one worker if there are several, else the service, and restart it."""
        self.kills += 1
        workers = self.children() if self.workers > 1 else []
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
            return
        self.process.kill()
        self.process.wait()
        self.start()

    def memory(self) -> int:
        """Anonymous memory of all its processes in bytes. Mapped files are excluded, because their resident size varies."""
        total = 0
        for pid in (self.process.pid, *self.children()):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


class Soak:
    def __init__(self, service: Service, seconds: float):
        self.service = service
        self.seconds = seconds
        self.end = time.monotonic() + seconds
        self.calm = self.end - CALM * seconds
        self.past: list[list[tuple[float, float, int | None]]] = [[(0.0, 0.0, None)] for _ in range(IDS)]  # id → (begin, end, step)
        self.turns = [threading.Lock() for _ in range(WRITERS)]  # held by a writer while it writes
        self.took: dict[str, list[float]] = defaultdict(list)
        self.counts: Counter = Counter()
        self.problems: list[str] = []
        self.memory: list[tuple[float, int]] = []
        self.lock = threading.Lock()

    def client(self) -> Client:
        return Client(f"127.0.0.1:{self.service.port}", timeout=60.0)

    def call(self, kind: str, work, again: bool = True):
        """Call ``work()`` and time it. If the service is unavailable, repeat until it is available, unless ``again`` is false."""
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            begin = time.monotonic()
            try:
                result = work()
            except UnavailableError:
                with self.lock:
                    self.counts["unavailable"] += 1
                if not again or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            with self.lock:
                self.took[kind].append(time.monotonic() - begin)
            return result, begin, time.monotonic()

    def run(self) -> None:
        with self.client() as client:
            self.call("create", lambda: client.create_collection("c", SCHEMA, exist_ok=True))
        jobs = [*[(self.write, n) for n in range(WRITERS)], *[(self.read, n) for n in range(READERS)], (self.disturb, 0), (self.rest, 0)]
        threads = [threading.Thread(target=self.guarded, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self.client() as client:
            self.compare(client.collection("c"))

    def guarded(self, job, number: int) -> None:
        try:
            with self.client() as client:
                collection, _, _ = self.call("open", lambda: client.collection("c"))
                job(collection, random.Random(number), number)
        except Exception as error:
            self.problem(f"{job.__name__} {number}: {type(error).__name__}: {error}")

    def problem(self, what: str) -> None:
        with self.lock:
            self.problems.append(what)
        self.end = 0.0

    def write(self, c, rng: random.Random, number: int) -> None:
        step = 0
        while time.monotonic() < self.end:
            with self.turns[number]:
                step += 1
                ids = rng.sample(range(number, IDS, WRITERS), rng.choice([1, BATCH, BATCH]))
                new = None if rng.random() < 0.25 else step
                self.write_once(c, ids, new)
            time.sleep(rng.uniform(0, 0.03))

    def write_once(self, c, ids: list[int], step: int | None) -> None:
        def work():
            if step is None:
                return c.delete(ids)
            groups = [f"g{(i + step) % 5}" for i in ids]
            vectors = {"v": np.stack([vector(i, step) for i in ids])}
            return c.upsert(ids=ids, vectors=vectors, attributes={"step": [step] * len(ids), "group": groups})

        begin = time.monotonic()
        for i in ids:  # from now on reads may see this step
            self.past[i].append((begin, float("inf"), step))
        try:
            self.call("delete" if step is None else "upsert", work, again=False)
            done = True
        except UnavailableError:  # unknown whether the write happened: check that it did in full or not at all
            points, _, _ = self.call("get", lambda: c.get(ids))
            now = [None if point is None else point.attributes["step"] for point in points]
            before = [self.past[i][-2][2] for i in ids]
            done = now == [step] * len(ids)
            if not done and now != before:
                self.problem(f"a batch of step {step} is there by half: {now}")
            self.counts["ambiguous writes"] += 1
        end = time.monotonic()
        for i in ids:
            if done:
                self.past[i][-1] = (begin, end, step)
            else:
                self.past[i].pop()

    def was_true(self, i: int, step: int | None, begin: float, end: float) -> bool:
        """Whether the id was in the state of ``step`` at some moment from ``begin`` to ``end``."""
        past = list(self.past[i])
        for n, (written, _, said) in enumerate(past):
            replaced = past[n + 1][1] if n + 1 < len(past) else float("inf")
            if said == step and written <= end and replaced >= begin:
                return True
        return False

    def read(self, c, rng: random.Random, number: int) -> None:
        while time.monotonic() < self.end:
            kind = rng.choice(["search", "search", "filtered", "get", "count"])
            if kind == "get":
                ids = rng.sample(range(IDS), 20)
                points, begin, end = self.call(kind, lambda ids=ids: c.get(ids))
                said = {i: None if point is None else point.attributes["step"] for i, point in zip(ids, points, strict=True)}
            elif kind == "count":
                self.call(kind, lambda: c.count("group = 'g1'"))
                said, begin, end = {}, 0.0, 0.0
            else:
                said, begin, end = self.search(c, rng, kind)
            for i, step in said.items():
                if not self.was_true(i, step, begin, end):
                    self.problem(f"{kind} says that {i} is at step {step}; its past is {self.past[i][-5:]}, the read from {begin} to {end}")
            self.counts["answers checked"] += 1
            time.sleep(rng.uniform(0, 0.01))

    def search(self, c, rng: random.Random, kind: str) -> tuple[dict[int, int], float, float]:
        query = np.random.default_rng(rng.randrange(1 << 30)).standard_normal(DIM).astype(np.float32)
        group = f"g{rng.randrange(5)}"
        condition = f"group = '{group}'" if kind == "filtered" else None
        hits, begin, end = self.call(kind, lambda: c.search({"v": query}, limit=10, filter=condition))
        scores = [hit.score for hit in hits]
        if scores != sorted(scores, reverse=True) or len({hit.id for hit in hits}) != len(hits):
            self.problem(f"{kind}: hits out of order or twice: {scores}")
        for hit in hits:
            row = vector(hit.id, hit.attributes["step"])
            right = float(row @ query / np.linalg.norm(row) / np.linalg.norm(query))
            if abs(right - hit.score) > 1e-3:
                self.problem(f"{kind}: {hit.id} at step {hit.attributes['step']} has the score {hit.score}, not {right}")
            if condition and hit.attributes["group"] != group:
                self.problem(f"{kind}: {hit.id} of {hit.attributes['group']} isn't of {group}")
        return {hit.id: hit.attributes["step"] for hit in hits}, begin, end

    def disturb(self, c, rng: random.Random, number: int) -> None:
        """Kill processes until the calm part, and measure memory in it."""
        pause = min(60.0, self.seconds / 10)  # mean seconds between two kills
        following = time.monotonic() + pause / 2
        while time.monotonic() < self.end:
            if following < time.monotonic() < self.calm:
                self.service.kill(rng)
                following = time.monotonic() + pause * rng.uniform(0.5, 1.5)
            if time.monotonic() > self.calm:
                self.memory.append((time.monotonic(), self.service.memory()))
            time.sleep(1.0)

    def rest(self, c, rng: random.Random, number: int) -> None:
        following = time.monotonic() + REST_SECONDS / 2
        while time.monotonic() < self.end:
            if time.monotonic() > following:
                for turn in self.turns:
                    turn.acquire()
                try:
                    self.compare(c)
                finally:
                    for turn in self.turns:
                        turn.release()
                following = time.monotonic() + REST_SECONDS
            time.sleep(0.5)

    def compare(self, c) -> None:
        """Compare everything with the model, while the writers pause."""
        there = {i: past[-1][2] for i, past in enumerate(self.past) if past[-1][2] is not None}
        found = self.call("scroll", lambda: {point.id: point.attributes["step"] for point in c.iterate()})[0]
        if found != there:
            wrong = [i for i in found.keys() | there.keys() if found.get(i) != there.get(i)]
            self.problem(f"{len(wrong)} points aren't as they were written, {wrong[:3]} first")
        if there:
            ids = np.array(sorted(there))
            rows = np.stack([vector(i, there[i]) for i in ids.tolist()])
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            share = []
            for seed in range(20):
                query = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
                best = set(ids[np.argsort(-(rows @ query))[:10]].tolist())
                hits = self.call("search", lambda query=query: c.search({"v": query}, limit=10))[0]
                share.append(len(best & {hit.id for hit in hits}) / len(best))
            self.counts["recalls compared"] += 20
            self.lowest = min(getattr(self, "lowest", 1.0), statistics.mean(share))
            if statistics.mean(share) < 0.9:
                self.problem(f"recall is {statistics.mean(share)}")
        self.counts["comparisons of everything"] += 1

    def grown(self) -> float:
        """Memory at the end of the calm part ÷ memory after its first quarter."""
        values = [value for _, value in self.memory]
        if len(values) < 20:
            return 1.0
        quarter, tenth = len(values) // 4, max(len(values) // 10, 3)
        return statistics.median(values[-tenth:]) / statistics.median(values[quarter : quarter + tenth])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--workers", type=int, default=2, help="worker processes, if the service has that option (2)")
    given = parser.parse_args()
    warm()  # compile the kernels, so that a killed service restarts within a second
    with tempfile.TemporaryDirectory(prefix="vectordb-soak-") as folder:
        service = Service(Path(folder) / "data", given.workers)
        soak = Soak(service, given.seconds)
        try:
            soak.run()
        finally:
            code = service.stop()
        report = check(Path(folder) / "data")
    grown = soak.grown()
    facts = {"seconds": int(given.seconds), "kills": service.kills, "workers": service.workers, "memory grown": round(grown, 3)}
    facts |= {"lowest mean recall": round(soak.lowest, 4), **soak.counts}
    for kind, took in sorted(soak.took.items()):
        facts[f"calls of {kind}"] = len(took)
        facts[f"p99 of {kind}, ms"] = round(1000 * float(np.percentile(took, 99)), 1)
    problems = [*soak.problems, *report.problems]
    if code:
        problems.append(f"the service ended with {code}")
    if grown > 1.25:
        problems.append(f"memory has grown by {grown:.2f}")
    print(facts)
    for problem in problems[:20]:
        print(problem)
    if problems:
        sys.exit(1)
    record("soak", problems=0, **facts)


if __name__ == "__main__":
    main()
