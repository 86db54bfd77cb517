"""The command line: ``vectordb COMMAND DIR …``; ``vectordb --help`` lists the commands.

Each command is one module: ``add_arguments`` defines its arguments, ``run`` executes it and returns the exit code. A module is imported
only when its command runs, and the database engine only when a command needs it, so ``--help`` is fast. ``main`` is the entry point.
"""

from .main import main, parser, parsers

__all__ = ["main", "parser", "parsers"]
