"""A second process for tests: it runs functions of test modules and ends when its parent's pipe closes."""

from __future__ import annotations

import traceback

from tests.support import forked


def _serve(connection) -> None:
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = True, function(*arguments)
        except Exception as error:
            answer = False, (error, traceback.format_exc())
        connection.send(answer)


class Worker:
    """A second process. ``call`` runs a module-level function in it, and returns its result or raises its error."""

    def __init__(self):
        context = forked.context()
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, function, *arguments) -> None:
        self._connection.send((function, arguments))

    def receive(self, timeout: float = 120.0):
        assert self._connection.poll(timeout), "the other process did not answer in time"
        good, value = self._connection.recv()
        if good:
            return value
        error, trace = value
        error.add_note(f"in the other process:\n{trace}")
        raise error

    def call(self, function, *arguments):
        self.send(function, *arguments)
        return self.receive()

    def close(self) -> None:
        self._connection.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc) -> None:
        self.close()
