"""Proof that the seams hold: each file adds one kind of thing from outside, and changes no file of the database.

A toy is one class and one line in a table, both in its test file. The file shows what a real one owes its users:

* it works the same embedded and served: take the fixture ``database``, which runs a test in each place;
* it is explained: ``explain=True`` and ``info`` name it;
* it survives ``tests.support.toys.moved`` (``vectordb export`` and ``vectordb import``) and ``checked`` (``vectordb check``);
* when it isn't registered, what needs it raises a typed error that names it, and everything else still works.
"""
