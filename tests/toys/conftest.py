"""The fixtures of the congruence suite: toys work in each place."""

from tests.congruence.conftest import address, database, embedded, settings  # noqa: F401
