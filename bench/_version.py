"""The version of this distribution, the same as that of the database it measures."""

__version__ = "0.1.0"
