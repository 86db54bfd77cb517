"""Adapters that misbehave (raise, hang, crash, answer wrongly), for tests of the harness. They are loaded by path, like a user's own."""

import os
import time

import numpy as np

from .base import Unsupported
from .exact import Exact


class Raises(Exact):
    """Fails in the middle of a cell."""

    name = "raises"

    def search(self, query, k, where):
        raise RuntimeError("no answer today")


class Unbuildable(Exact):
    name = "unbuildable"

    def insert(self, dataset, rows):
        raise ValueError("can't take these rows")


class Crashes(Exact):
    """Its process crashes at its second setting; the first one works."""

    name = "crashes"

    def sweep(self, dataset, suite):
        return [{"ef": 1}, {"ef": 2}, {"ef": 3}]

    def exact(self):
        return None

    def set(self, setting):
        self.setting = setting

    def search(self, query, k, where):
        if self.setting["ef"] == 2:
            os.kill(os.getpid(), 9)
        return super().search(query, k, where)


class Short(Exact):
    """Omits the best row, returns another one twice, and returns rows that don't match the filter."""

    name = "short"

    def search(self, query, k, where):
        found = super().search(query, k, None)
        return np.concatenate([found[1:2], found[1:3]])

    def exact(self):
        return None


class Picky(Exact):
    """Supports no filter."""

    name = "picky"

    def prepare(self, queries, filters):
        if any(one is not None for one in filters):
            raise Unsupported("it has no such filter")
        return super().prepare(queries, filters)


class Slow(Exact):
    """Searches slowly and writes its progress to a file."""

    name = "slow"

    def search(self, query, k, where):
        time.sleep(0.005)
        return super().search(query, k, where)


class Chatty(Exact):
    """Prints to stdout, from which the runner reads the answers."""

    name = "chatty"

    def create(self, dataset, folder, threads):
        print("hello there")
        os.system("echo hello from a child")
        return super().create(dataset, folder, threads)
