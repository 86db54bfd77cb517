"""Systems that misbehave, for tests of the harness: read by path, as a user's own adapter is."""

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
    """Its process dies in its second setting; the first one works."""

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
    """Leaves the best row out, repeats another, and gives rows that don't match."""

    name = "short"

    def search(self, query, k, where):
        found = super().search(query, k, None)
        return np.concatenate([found[1:2], found[1:3]])

    def exact(self):
        return None


class Picky(Exact):
    """Knows no filter."""

    name = "picky"

    def prepare(self, queries, filters):
        if any(one is not None for one in filters):
            raise Unsupported("it has no such filter")
        return super().prepare(queries, filters)


class Slow(Exact):
    """Takes its time, and says to the outside how far it is."""

    name = "slow"

    def search(self, query, k, where):
        time.sleep(0.005)
        return super().search(query, k, where)


class Chatty(Exact):
    """Prints where answers are read."""

    name = "chatty"

    def create(self, dataset, folder, threads):
        print("hello there")
        os.system("echo hello from a child")
        return super().create(dataset, folder, threads)
