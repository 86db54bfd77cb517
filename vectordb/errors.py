"""The exception tree. It lives in the client distribution, so that embedded and served raise the same classes."""

from vectordb_client.errors import *  # noqa: F403
from vectordb_client.errors import __all__, shown  # noqa: F401
