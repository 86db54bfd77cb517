"""The command line: ``vectordb COMMAND DIR …``; ``vectordb --help`` lists the commands.

One module a command: ``add_arguments`` says what it takes, ``run`` does it and returns the exit code. A module is imported when its
command is run, and the database when a command needs it, so ``--help`` is instant. ``main`` is the entry point.
"""

from .main import main, parser, parsers

__all__ = ["main", "parser", "parsers"]
