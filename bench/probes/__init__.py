"""Probes: what the suites measure beside searches of a cell.

A probe is a generator ``probe(worker, **options)`` that runs in the worker of a system and yields (what, value, unit). ``suites.Probe``
says how often it runs and what the system must support. ``suites.Check`` is a bound for what it yields.

As in adapters, libraries that a peer's environment may lack are imported in the functions.
"""
