"""Queries: check a request, search its arms, fuse them, explain how, and read the final rows."""
