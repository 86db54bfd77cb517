"""The version of both distributions and of the service."""

__version__ = "0.1.0"
