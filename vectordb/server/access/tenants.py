"""The tenant of the call that a thread works for."""

from __future__ import annotations

import threading


class _Caller(threading.local):
    """tenant: what the API key of the call is bound to; None: it isn't bound. It has no value before the first call of a thread, so that
    work which belongs to no call finds no collection.
    """

    tenant: str | None


CALLER = _Caller()
