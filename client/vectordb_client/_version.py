"""The one place that says which version this is; the server and both distributions read it."""

__version__ = "0.1.0"
